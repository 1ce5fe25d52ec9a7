"""The loss of the pose's mean alone: heatmaps and distances."""

from torch import Tensor


def mean_loss(
    log_probabilities: Tensor, mean: Tensor, positions: Tensor, points: Tensor, labelled: Tensor, sigma: float, weight: float
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

    Returns:
        loss (scalar); mean error of the labelled joints in crop pixels (scalar, detached).
    """
    cell = positions[1, 0] - positions[0, 0]
    squared = ((positions - points.unsqueeze(2)) / cell).square().sum(-1)
    target = (-squared / (2 * sigma**2)).softmax(-1)
    entropy = -(target * log_probabilities).sum(-1)
    low, high = positions.amin(0) - cell / 2, positions.amax(0) + cell / 2
    inside = labelled & (points >= low).all(-1) & (points <= high).all(-1)
    difference = mean.unflatten(1, (-1, 2)) - points
    distance = difference.abs().sum(-1) / cell
    count = labelled.sum().clamp_min(1)
    loss = (entropy * inside).sum() / inside.sum().clamp_min(1) + weight * (distance * labelled).sum() / count
    return loss, ((difference.norm(dim=-1) * labelled).sum() / count).detach()
