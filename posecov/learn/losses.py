"""What is differentiated. Every reported figure is computed by `posecov.law` instead; parity tests tie the two."""

import math

import torch
from torch import Tensor

from posecov.coordinates import joint_mask_to_rows


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


def mask_scatter(scatter: Tensor, labelled: Tensor) -> Tensor:
    """Marginalise joints without a label: their rows become those of the identity, which add nothing to log det."""
    rows = joint_mask_to_rows(labelled).to(scatter.dtype)
    return scatter * rows.unsqueeze(-1) * rows.unsqueeze(-2) + torch.diag_embed(1.0 - rows)


def student_t_nll(residual: Tensor, scatter: Tensor, labelled: Tensor, degrees_of_freedom: Tensor | None) -> Tensor:
    """Negative log-likelihood of a multivariate Student-t over the labelled coordinates; `posecov.law` has the formula.

    Computed in float64, since a joint that is very sure beside one that is not strains a float32 Cholesky.

    Args:
        residual: (N, 2J) label minus mean; anything where there is no label.
        scatter: (N, 2J, 2J).
        labelled: (N, J) bool.
        degrees_of_freedom: scalar, or None for the Gaussian.

    Returns:
        (N,) nats.
    """
    rows = joint_mask_to_rows(labelled)
    residual = torch.where(rows, residual, torch.zeros((), dtype=residual.dtype)).double()
    factor = torch.linalg.cholesky(mask_scatter(scatter.double(), labelled))
    white = torch.linalg.solve_triangular(factor, residual.unsqueeze(-1), upper=False).squeeze(-1)
    squared = white.square().sum(-1)
    half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    size = rows.sum(-1).double()
    if degrees_of_freedom is None:
        return 0.5 * (size * math.log(2 * math.pi) + squared) + half_log_det
    nu = degrees_of_freedom.double()
    constant = torch.lgamma(nu / 2) - torch.lgamma((nu + size) / 2) + 0.5 * size * torch.log(nu * math.pi)
    return constant + half_log_det + 0.5 * (nu + size) * torch.log1p(squared / nu)


def procrustes_wasserstein(covariance: Tensor, root: Tensor, labelled: Tensor) -> Tensor:
    """Covariance part of the squared 2-Wasserstein distance to pseudo-labels, over the labelled coordinates.

    For any factors F F^T = S, A A^T = S~ the bound of ToSS (arXiv 2502.10587, theorem 1) reads |F - A Q|_F^2 with Q
    orthogonal. A predicted factor is not symmetric, so Q = I would be loose: Q is turned to the optimum, detached, where the
    bound equals the distance, and by the envelope theorem its gradient is the distance's. With W the polar factor of A^T F,

        |F - A W|_F^2 = tr S + tr S~ - 2 tr (A^T S A)^1/2,     gradient by S:  I - T,  T = A (A^T S A)^-1/2 A^T.

    So F itself is never needed, and no eigendecomposition is differentiated.

    Args:
        covariance: (N, 2J, 2J) predicted.
        root: (N, 2J, 2J) root of the pseudo-label; no gradient.
        labelled: (N, J) bool; rows of a root are a factor of the marginal.

    Returns:
        (N,) crop pixels^2.
    """
    rows = joint_mask_to_rows(labelled).double()
    predicted = covariance.double() * rows.unsqueeze(-1) * rows.unsqueeze(-2)
    factor = root.double() * rows.unsqueeze(-1)
    with torch.no_grad():
        inner = factor.transpose(1, 2) @ predicted @ factor
        values, vectors = torch.linalg.eigh(inner)
        values = values.clamp_min(0.0)
        useful = values > 1e-12 * values.amax(-1, keepdim=True)
        inverse = torch.where(useful, values.clamp_min(1e-300).rsqrt(), 0.0)
        nuclear = torch.where(useful, values.sqrt(), 0.0).sum(-1)
        transport = factor @ ((vectors * inverse.unsqueeze(-2)) @ vectors.transpose(1, 2)) @ factor.transpose(1, 2)
        constant = factor.square().sum((1, 2)) - nuclear
    trace = predicted.diagonal(dim1=-2, dim2=-1).sum(-1)
    return trace - (predicted * transport).sum((1, 2)) + constant
