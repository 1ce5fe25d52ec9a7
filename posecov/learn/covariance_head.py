"""The covariance head: Taylor-induced terms around a learned correlation and predicted ellipses.

    scatter(x) = k1(x) J J^T + k2(x) [tr(H_i H_j)]_ij + k3(x)                      (TIC-TAC, arXiv 2310.18953)
    k3(x)      = L(x) (R R^T + U(x) U(x)^T) L(x)^T + floor

L is block-diagonal with one lower-triangular 2 x 2 factor per joint (its predicted ellipse), R a learned constant that
starts at the root of the pooled correlation of training errors, and U a small, regularised deviation of low rank. A freely
predicted factor overfits its correlations and loses to a constant one; this form starts at the constant one.

Beside this form ("correlation") there are those of the papers, to compare with: "factor", a freely predicted k3 = A(x) A(x)^T;
"precision", a freely predicted factor of the inverse, without Taylor terms; "diagonal", variances only.

Where the law is a mixture over exchanges of left and right, this is the scatter of every component, and `exchange_head` weighs
them.

Everything that enters is detached: the covariance never moves the mean.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from posecov.learn.exchange_head import ExchangeHead, mirror_features
from posecov.learn.mean_head import MeanHead, MeanOutput

# The floor, relative to the mean variance: keeps float32 Cholesky safe for any weights and any picture.
RELATIVE_FLOOR = 1e-4
ABSOLUTE_FLOOR = 1e-3  # crop pixels^2
# Bounds of log sigma around its start: exp(+-6) is 400 times smaller or larger than the typical error.
_LOG_RANGE = 6.0
STATISTICS = 7
FORMS = ("correlation", "factor", "precision", "diagonal")


class JointFeatures(NamedTuple):
    """What the covariance head sees of N pictures: small, so that it can be cached.

    Attributes:
        joints: (N, J, C + 7) features under each joint's softmax, and statistics of that softmax.
        latent: (N, m).
        gradient: (N, 2J, 2J) J J^T, crop pixels^2.
        curvature: (N, 2J, 2J) tr(H_i H_j), crop pixels^2.
        mean: (N, 2J) crop pixels.
        mirror: (N, J, 2) see `exchange_head.mirror_features`; zero where the law has no exchanges.
    """

    joints: Tensor
    latent: Tensor
    gradient: Tensor
    curvature: Tensor
    mean: Tensor
    mirror: Tensor


class Covariance(NamedTuple):
    """A predicted scatter matrix and the terms it is made of.

    Attributes:
        scatter: (N, 2J, 2J) crop pixels^2, calibrated.
        k1: (N,), k2: (N,) coefficients of the Taylor terms, before calibration.
        gradient_term: (N, 2J, 2J) k1 J J^T, before calibration.
        curvature_term: (N, 2J, 2J) k2 tr(H_i H_j), before calibration.
        k3: (N, 2J, 2J) the free term with its floor, before calibration.
        deviation: (N, 2J, r) the low-rank deviation U, to be regularised; zero in the other forms.
        factor: (N, 2J, R) of k3 without its floor, before calibration; in the form "precision" of the inverse.
        log_weights: (N, K) of the exchanges; (N, 1) zeros where the law has none.
    """

    scatter: Tensor
    k1: Tensor
    k2: Tensor
    gradient_term: Tensor
    curvature_term: Tensor
    k3: Tensor
    deviation: Tensor
    factor: Tensor
    log_weights: Tensor


def joint_features(
    features: Tensor, latent: Tensor, output: MeanOutput, head: MeanHead, taylor: bool = True, mirror: Tensor | None = None
) -> JointFeatures:
    """Gather what the covariance head sees. No gradient flows through it.

    Args:
        features: (N, C, h, w).
        latent: (N, m).
        taylor: False leaves `gradient` and `curvature` at zero, at no cost.
        mirror: (J,) the partner of every joint; None where the law has no exchanges.
    """
    features, latent = features.detach().float(), latent.detach().float()
    output = MeanOutput(*(tensor.detach() for tensor in output))
    probabilities = output.probabilities
    positions = head.positions
    centre, reach = positions.mean(dim=0), positions.amax(dim=0) / 2
    pooled = probabilities @ features.flatten(2).transpose(1, 2)
    mean = output.mean.unflatten(1, (head.joints, 2))
    # Second moments of the softmax about its mean, in units of a cell.
    cell = positions[1, 0] - positions[0, 0]
    offsets = (positions - mean.unsqueeze(2)) / cell
    weighted = probabilities.unsqueeze(-1) * offsets
    xx = (weighted[..., 0] * offsets[..., 0]).sum(-1)
    yy = (weighted[..., 1] * offsets[..., 1]).sum(-1)
    xy = (weighted[..., 0] * offsets[..., 1]).sum(-1)
    entropy = -(probabilities * output.log_probabilities).sum(-1)
    peak = output.log_probabilities.amax(-1)
    statistics = [
        (xx + 0.05).log().unsqueeze(-1),
        (yy + 0.05).log().unsqueeze(-1),
        (xy / ((xx + 0.05) * (yy + 0.05)).sqrt()).unsqueeze(-1),
        entropy.unsqueeze(-1),
        peak.unsqueeze(-1),
        (mean - centre) / reach,
    ]
    joints = torch.cat([pooled, *statistics], dim=-1).detach()
    swaps = mirror_features(probabilities, output.mean, positions, mirror)
    if not taylor:
        nothing = output.mean.new_zeros(1, 1, 1).expand(len(joints), 2 * head.joints, 2 * head.joints)
        return JointFeatures(joints, latent, nothing, nothing, output.mean, swaps)
    with torch.no_grad():
        gradient, curvature = head.taylor_terms(output)
    return JointFeatures(joints, latent, gradient, curvature, output.mean, swaps)


class CovarianceHead(nn.Module):
    """Per-joint features and the latent to a full 2J x 2J scatter matrix.

    Args:
        channels: C of the pooled features.
        joints: J.
        latent: m.
        hidden: width.
        rank: r, of the deviation from the learned correlation; 0 leaves it out.
        form: of the free term, one of `FORMS`.
        orders: (K, 2J) the exchanges of left and right that the law is a mixture over; None for a single law.
    """

    feature_mean: Tensor
    feature_std: Tensor
    start_sigma: Tensor
    start_root: Tensor
    start_factor: Tensor
    start_taylor: Tensor
    calibration: Tensor
    shrinkage: Tensor
    own_blocks: Tensor

    def __init__(
        self,
        channels: int,
        joints: int,
        latent: int,
        hidden: int,
        rank: int,
        form: str = "correlation",
        orders: np.ndarray | None = None,
    ):
        super().__init__()
        self.channels, self.joints, self.latent, self.hidden = channels, joints, latent, hidden
        self.form, self.rank = form, rank if form == "correlation" else 0
        rank = self.rank
        size = 2 * joints
        inputs = channels + STATISTICS
        # Set once from training data by `start_from`: standardisation, and the constant law that training starts at.
        self.register_buffer("feature_mean", torch.zeros(joints, inputs))
        self.register_buffer("feature_std", torch.ones(joints, inputs))
        self.register_buffer("start_sigma", torch.full((size,), 10.0))
        self.register_buffer("start_root", torch.eye(size))
        self.register_buffer("start_taylor", torch.ones(2))
        # Set by calibration on people that train nothing: a factor on each joint's sigma, and how far correlations between
        # joints shrink towards none.
        self.register_buffer("calibration", torch.ones(joints))
        self.register_buffer("shrinkage", torch.zeros(()))
        self.register_buffer("own_blocks", torch.eye(joints).repeat_interleave(2, 0).repeat_interleave(2, 1), persistent=False)
        self.embed = nn.Linear(inputs, hidden)
        self.joint_bias = nn.Parameter(torch.zeros(joints, hidden))
        self.from_latent = nn.Linear(latent, hidden)
        self.gather = nn.Linear(joints * hidden, hidden)
        self.mix = nn.Linear(2 * hidden, hidden)
        free = form in ("factor", "precision")
        self.entries = nn.Linear(hidden, size * size) if free else None
        if free:
            self.register_buffer("start_factor", torch.eye(size))
        self.ellipse = None if free else nn.Linear(hidden, 3)
        self.ellipse_bias = None if free else nn.Parameter(torch.zeros(joints, 3))
        self.deviation = nn.Linear(hidden, 2 * rank) if rank else None
        self.deviation_bias = nn.Parameter(torch.zeros(joints, 2 * rank)) if rank else None
        self.taylor = nn.Linear(hidden, 2)
        self.exchange = None if orders is None else ExchangeHead(joints, hidden, orders)
        self.root = nn.Parameter(torch.eye(size))
        # log(nu - 2): above two degrees of freedom there is a covariance.
        self.log_degrees = nn.Parameter(torch.tensor(3.0).log())
        self.reset()

    def reset(self) -> None:
        """Draw the weights anew. Output layers start small: the law starts next to the constant one."""
        small = [layer for layer in (self.ellipse, self.taylor, self.deviation, self.entries) if layer is not None]
        for layer in (self.embed, self.from_latent, self.gather, self.mix):
            layer.reset_parameters()
        with torch.no_grad():
            self.calibration.fill_(1.0)
            self.shrinkage.fill_(0.0)
            for bias in (self.joint_bias, self.ellipse_bias, self.deviation_bias):
                if bias is not None:
                    bias.zero_()
        if self.exchange is not None:
            self.exchange.reset()
        for layer in small:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def degrees_of_freedom(self) -> Tensor:
        """nu of the Student-t law whose scatter this head predicts, a scalar above 2."""
        return 2.0 + self.log_degrees.exp()

    @torch.no_grad()
    def start_from(
        self, seen: JointFeatures, scatter: Tensor, degrees_of_freedom: float, taylor_shares: tuple[float, float]
    ) -> None:
        """Start near a constant law: standardise the features, set sigmas and correlation, give the Taylor terms a share.

        Args:
            seen: features of the training people.
            scatter: (2J, 2J) of the training errors, crop pixels^2.
            degrees_of_freedom: of their law; inf for a Gaussian.
            taylor_shares: of the trace, for the gradient and for the curvature term at the start. The free term has the rest,
                so that the trace is the constant law's.
        """
        self.feature_mean.copy_(seen.joints.mean(0))
        self.feature_std.copy_(seen.joints.std(0).clamp_min(1e-3))
        if self.exchange is not None:
            self.exchange.start_from(seen.mirror)
        if math.isfinite(degrees_of_freedom):
            self.log_degrees.fill_(math.log(degrees_of_freedom - 2.0))
        sigma = scatter.diagonal().sqrt()
        correlation = scatter / sigma[:, None] / sigma[None, :]
        root = _symmetric_power(correlation, 0.5)
        self.start_root.copy_(root)
        self.root.copy_(root)
        if self.form in ("factor", "precision"):
            free = scatter * (1.0 - sum(taylor_shares))
            self.start_factor.copy_(_symmetric_power(free, 0.5 if self.form == "factor" else -0.5))
        self.start_sigma.copy_(sigma * (1.0 - sum(taylor_shares)) ** 0.5)
        for i, term in enumerate((seen.gradient, seen.curvature)):
            trace = term.diagonal(dim1=-2, dim2=-1).sum(-1).mean()
            self.start_taylor[i] = taylor_shares[i] * scatter.trace() / trace.clamp_min(1e-12)

    def forward(self, seen: JointFeatures) -> Covariance:
        """Predict the scatter, symmetric and positive definite, crop pixels^2."""
        standardised = ((seen.joints - self.feature_mean) / self.feature_std).clamp(-8.0, 8.0)
        hidden = self.embed(standardised) + self.joint_bias + self.from_latent(seen.latent).unsqueeze(1)
        hidden = nn.functional.silu(hidden)
        whole = nn.functional.silu(self.gather(hidden.flatten(1)))
        wide = torch.cat([hidden, whole.unsqueeze(1).expand_as(hidden)], dim=-1)
        hidden = hidden + nn.functional.silu(self.mix(wide))

        log_scale = _LOG_RANGE * torch.tanh((self.taylor(whole)) / _LOG_RANGE)
        taylor = self.start_taylor * log_scale.exp()
        k1, k2 = taylor[:, 0], taylor[:, 1]
        size = 2 * self.joints
        eye = torch.eye(size, dtype=hidden.dtype, device=hidden.device)
        deviation = hidden.new_zeros(hidden.shape[0], size, 1)
        if self.form == "correlation":
            factor, deviation = self._factor(hidden)
        elif self.form == "diagonal":
            factor = torch.diag_embed(self._sigma(hidden)[0].flatten(1))
        else:
            factor = self._free(whole)
        k3 = factor @ factor.transpose(1, 2)
        if self.form == "precision":
            k1, k2 = torch.zeros_like(k1), torch.zeros_like(k2)
            k3 = torch.linalg.inv((k3 + RELATIVE_FLOOR * self._mean_diagonal(k3) * eye).double()).to(k3.dtype)
            k3 = (k3 + k3.transpose(1, 2)) / 2
        gradient, curvature = k1[:, None, None] * seen.gradient, k2[:, None, None] * seen.curvature
        scatter = gradient + curvature + k3
        floor = (RELATIVE_FLOOR * self._mean_diagonal(scatter) + ABSOLUTE_FLOOR) * eye
        scale = self.calibration.repeat_interleave(2)
        calibrated = scale[:, None] * scale * (1.0 - self.shrinkage + self.shrinkage * self.own_blocks)
        weights = whole.new_zeros(whole.shape[0], 1) if self.exchange is None else self.exchange(whole, seen.mirror)
        return Covariance((scatter + floor) * calibrated, k1, k2, gradient, curvature, k3 + floor, deviation, factor, weights)

    @staticmethod
    def _mean_diagonal(matrix: Tensor) -> Tensor:
        """(N, 1, 1) of (N, D, D)."""
        return matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]

    def _free(self, whole: Tensor) -> Tensor:
        """A(x), (N, 2J, 2J), around the constant one; deviations in units of the typical sigma."""
        assert self.entries is not None
        size = 2 * self.joints
        scale = self.start_factor.square().sum().div(size).sqrt()
        return self.start_factor + scale * self.entries(whole).unflatten(-1, (size, size))

    def _sigma(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Sigmas (N, J, 2) of x and y, and the raw slope (N, J) of y by x."""
        assert self.ellipse is not None
        assert self.ellipse_bias is not None
        raw = self.ellipse(hidden) + self.ellipse_bias
        log_sigma = _LOG_RANGE * torch.tanh(raw[..., :2] / _LOG_RANGE)
        return self.start_sigma.reshape(self.joints, 2) * log_sigma.exp(), raw[..., 2]

    def _factor(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """L [R, U]: (N, 2J, 2J + r), and U alone."""
        sigma, slope = self._sigma(hidden)
        slope = 2.0 * torch.tanh(slope / 2.0)
        columns = [self.root.expand(hidden.shape[0], -1, -1)]
        if self.deviation is not None:
            deviation = (self.deviation(hidden) + self.deviation_bias).unflatten(-1, (2, self.rank)).flatten(1, 2)
            deviation = 2.0 * torch.tanh(deviation / 2.0)
            columns.append(deviation)
        else:
            deviation = hidden.new_zeros(hidden.shape[0], 2 * self.joints, 1)
        stacked = torch.cat(columns, dim=-1).unflatten(1, (self.joints, 2))
        # [x, y] rows of each joint: x' = sigma_x x, y' = sigma_y (slope x + y) / sqrt(1 + slope^2).
        x = sigma[..., 0, None] * stacked[:, :, 0]
        y = sigma[..., 1, None] * (slope[..., None] * stacked[:, :, 0] + stacked[:, :, 1]) / (1 + slope**2).sqrt()[..., None]
        return torch.stack([x, y], dim=2).flatten(1, 2), deviation


def _symmetric_power(matrix: Tensor, power: float) -> Tensor:
    """Of a symmetric positive semi-definite matrix (D, D), float64; tiny eigenvalues are lifted."""
    values, vectors = torch.linalg.eigh(matrix.double())
    return (vectors * values.clamp_min(1e-6 * values.mean().item()).pow(power)) @ vectors.T
