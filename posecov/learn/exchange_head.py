"""Weights of the exchanges of left and right: how likely the network has taken a limb for the other one (`posecov.mixture`).

Beside what the covariance head knows, this one looks where swaps show: how much of a joint's softmax lies at its mirror joint,
and how far apart the two are.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

_REACH = 1.5  # cells about the mirror joint
_LEAST = 1e-4
_NONE = 0.8  # weight of the exchange of nothing at the start, as measured on new people; the others share the rest
MIRROR_FEATURES = 2


def mirror_joints(orders: np.ndarray) -> np.ndarray:
    """(J,) the partner of every joint in the exchanges (K, 2J), itself where it has none."""
    joints = orders[:, ::2] // 2
    own = np.arange(joints.shape[1])
    partner = own.copy()
    for exchanged in joints:
        partner = np.where(exchanged != own, exchanged, partner)
    return partner


def mirror_features(probabilities: Tensor, mean: Tensor, positions: Tensor, mirror: Tensor | None) -> Tensor:
    """(N, J, 2): log share of each joint's softmax about its mirror joint, and log distance of the two in cells.

    Args:
        probabilities: (N, J, P).
        mean: (N, 2J) crop pixels.
        positions: (P, 2) crop pixels.
        mirror: (J,) indices; None leaves all at zero, at no cost.
    """
    count, joints = probabilities.shape[:2]
    if mirror is None:
        return mean.new_zeros(count, joints, MIRROR_FEATURES)
    cell = positions[1, 0] - positions[0, 0]
    points = mean.unflatten(1, (joints, 2))
    there = points[:, mirror]
    # exp(-|p - m|^2 / 2 s^2) as a product over the axes: no (N, J, P, 2) in between.
    axes = [(positions[:, axis] - there[..., axis, None]) / (cell * _REACH) for axis in range(2)]
    near = torch.exp(-0.5 * (axes[0].square() + axes[1].square()))
    share = ((probabilities * near).sum(-1) + _LEAST).log()
    apart = (((points - there) / cell).square().sum(-1) + 1.0).log()
    return torch.stack([share, apart], dim=-1)


class ExchangeHead(nn.Module):
    """To log weights of K exchanges.

    Args:
        joints: J.
        hidden: width of the covariance head, whose summary of the person this one reads.
        orders: (K, 2J) `exchanges.coordinate_orders`.
    """

    orders: Tensor
    mirror: Tensor
    feature_mean: Tensor
    feature_std: Tensor
    temperature: Tensor
    shift: Tensor

    def __init__(self, joints: int, hidden: int, orders: np.ndarray):
        super().__init__()
        self.register_buffer("orders", torch.from_numpy(np.array(orders, dtype=np.int64)), persistent=False)
        self.register_buffer("mirror", torch.from_numpy(mirror_joints(np.asarray(orders))), persistent=False)
        self.register_buffer("feature_mean", torch.zeros(joints, MIRROR_FEATURES))
        self.register_buffer("feature_std", torch.ones(joints, MIRROR_FEATURES))
        # Set by calibration: a factor on the logits, and a number that all exchanges but the first have added.
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        self.mix = nn.Linear(hidden + MIRROR_FEATURES * joints, hidden)
        self.logits = nn.Linear(hidden, len(orders))
        self.reset()

    def reset(self) -> None:
        """Draw the weights anew; every person starts at the same weights."""
        self.mix.reset_parameters()
        nn.init.normal_(self.logits.weight, std=0.01)
        others = max(len(self.orders) - 1, 1)
        with torch.no_grad():
            self.temperature.fill_(1.0)
            self.shift.fill_(0.0)
            self.logits.bias.fill_(math.log((1 - _NONE) / others))
            self.logits.bias[0] = math.log(_NONE)

    @torch.no_grad()
    def start_from(self, features: Tensor) -> None:
        """Standardise by the `mirror_features` (N, J, 2) of the training people."""
        self.feature_mean.copy_(features.mean(0))
        self.feature_std.copy_(features.std(0).clamp_min(1e-3))

    def forward(self, whole: Tensor, features: Tensor) -> Tensor:
        """Summary (N, hidden) and `mirror_features` (N, J, 2) to log weights (N, K)."""
        standardised = ((features - self.feature_mean) / self.feature_std).clamp(-8.0, 8.0).flatten(1)
        hidden = nn.functional.silu(self.mix(torch.cat([whole, standardised], dim=-1)))
        logits = self.temperature * self.logits(hidden)
        first, others = logits[:, :1], logits[:, 1:] + self.shift
        return torch.cat([first, others], dim=-1).log_softmax(-1)
