"""The loss of the pose's mean alone: heatmaps and distances."""

import torch
from torch import Tensor


def joint_counts(positions: Tensor, points: Tensor, labelled: Tensor) -> Tensor:
    """What `mean_loss` divides by: (3,) int64, labelled joints inside the grid, all labelled ones, and all joints.

    Args:
        positions: (P, 2) crop pixels. points: (N, J, 2) crop pixels. labelled: (N, J) bool.
    """
    everything = torch.full((), labelled.numel(), dtype=torch.int64, device=labelled.device)
    return torch.stack([_inside(positions, points, labelled).sum(), labelled.sum(), everything])


def mean_loss(
    log_probabilities: Tensor,
    mean: Tensor,
    positions: Tensor,
    points: Tensor,
    labelled: Tensor,
    sigma: float,
    weight: float,
    counts: Tensor | None = None,
    taught: Tensor | None = None,
    share: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of the softmax with a Gaussian around the label, and the L1 distance of the mean, both per joint.

    Joints without a label count for nothing. A label outside the grid has no cross entropy.

    Args:
        log_probabilities: (N, J, P).
        mean: (N, 2J) crop pixels.
        positions: (P, 2) crop pixels.
        points: (N, J, 2) crop pixels.
        labelled: (N, J) bool.
        sigma: of the Gaussian, in cells.
        weight: of the distance, which is in cells.
        counts: `joint_counts` of all people that the loss is a mean over, where these are some of them: the results of the
            parts then add up to those of the whole. None: these are all.
        taught: (N, J, P) where a teacher sees the joints, labelled or not: the loss is then the cross entropy with it for
            ``share``, and the above for the rest.
        share: 0 to 1.

    Returns:
        loss (scalar); mean error of the labelled joints in crop pixels (scalar, detached).
    """
    cell = positions[1, 0] - positions[0, 0]
    squared = ((positions - points.unsqueeze(2)) / cell).square().sum(-1)
    target = (-squared / (2 * sigma**2)).softmax(-1)
    entropy = -(target * log_probabilities).sum(-1)
    inside = _inside(positions, points, labelled)
    difference = mean.unflatten(1, (-1, 2)) - points
    distance = difference.abs().sum(-1) / cell
    within, count, joints = (joint_counts(positions, points, labelled) if counts is None else counts).clamp_min(1)
    loss = (entropy * inside).sum() / within + weight * (distance * labelled).sum() / count
    if taught is not None:
        loss = (1.0 - share) * loss - share * (taught * log_probabilities).sum() / joints
    return loss, ((difference.norm(dim=-1) * labelled).sum() / count).detach()


def _inside(positions: Tensor, points: Tensor, labelled: Tensor) -> Tensor:
    half = (positions[1, 0] - positions[0, 0]) / 2
    return labelled & (points >= positions.amin(0) - half).all(-1) & (points <= positions.amax(0) + half).all(-1)
