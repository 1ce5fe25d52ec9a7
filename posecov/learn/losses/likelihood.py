"""Squared error, likelihoods and KL divergence. `posecov.law` has the same formulas in NumPy; parity tests tie the two.

In all of them a residual is label minus mean, (..., D); ``rows`` (..., D) bool marks the labelled coordinates, None meaning
all, and the loss is that of their marginal: 0, with gradient 0, when there are none. Leading dimensions are arbitrary and
broadcast. Covariances are symmetric. Returned is one float64 number per sample, (...), in nats (or squared units of the
residual). Likelihoods are densities: they may be negative, and in units s times smaller they are D log s more.

Raised is `LossError`, naming the argument and the first sample, where a matrix is not positive definite, or something is NaN or
infinite at a labelled coordinate.
"""

import math

import torch
from torch import Tensor

from posecov.learn.losses.checks import LossError, check
from posecov.learn.losses.masks import labelled_count, mask_covariance, mask_vector

_LOG_2_PI = math.log(2 * math.pi)


def mse(residual: Tensor, rows: Tensor | None = None) -> Tensor:
    """Sum over coordinates of the squared residual, (...), squared units."""
    residual = mask_vector(residual, rows)
    return check(residual.square().sum(-1), {"residual": residual})


def nll(residual: Tensor, covariance: Tensor, rows: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of a Gaussian, ``1/2 (D log 2 pi + log det S + r^T S^-1 r)``.

    Args:
        residual: (..., D).
        covariance: (..., D, D).
        rows: (..., D) bool or None.

    Returns:
        (...) nats.
    """
    return _elliptical_nll(residual, covariance, rows, None, "covariance")


def student_t_nll(residual: Tensor, scatter: Tensor, rows: Tensor | None, degrees_of_freedom: Tensor | None) -> Tensor:
    """Negative log-likelihood of a multivariate Student-t; its covariance is nu / (nu - 2) times the scatter.

    Args:
        residual: (..., D).
        scatter: (..., D, D).
        rows: (..., D) bool or None.
        degrees_of_freedom: nu, scalar or (...); None for the Gaussian.

    Returns:
        (...) nats.
    """
    return _elliptical_nll(residual, scatter, rows, degrees_of_freedom, "scatter")


def student_t_mixture_nll(
    values: Tensor,
    mean: Tensor,
    scatter: Tensor,
    rows: Tensor | None,
    degrees_of_freedom: Tensor | None,
    log_weights: Tensor,
    orders: Tensor,
) -> Tensor:
    """Negative log-likelihood of a mixture over exchanges of coordinates, ``-log sum_k w_k t(P_k y; mu, S, nu)``.

    P_k is its own inverse and moves no volume. A coordinate without a label moves with its partner. See `posecov.mixture`.

    Args:
        values: (..., D) y; anything, also NaN, where there is no label.
        mean: (..., D) mu.
        scatter: (..., D, D) S.
        rows: (..., D) bool or None.
        degrees_of_freedom: nu, scalar; None for Gaussians.
        log_weights: (..., K) log w, normalised.
        orders: (K, D) P_k y = y[orders[k]].

    Returns:
        (...) nats.
    """
    residual = values[..., orders] - mean.unsqueeze(-2)
    # With all labels there, one factorisation serves all components.
    moved = None if rows is None or bool(rows.all()) else rows[..., orders]
    each = student_t_nll(residual, scatter.unsqueeze(-3), moved, degrees_of_freedom)
    check(log_weights.double().sum(-1), {"log_weights": log_weights})
    return -torch.logsumexp(log_weights.double() - each, dim=-1)


def nll_precision(residual: Tensor, factor: Tensor, rows: Tensor | None = None) -> Tensor:
    """Gaussian negative log-likelihood from a factor F of the precision, ``S^-1 = F F^T``: nothing is inverted.

    There is no floor inside: a singular precision is an error. For one of size c append columns, [F, c^1/2 I].

    The precision of a marginal is a Schur complement, not a block: with the unlabelled coordinates first, the last block of the
    Cholesky factor of the permuted precision is a factor of it. So all of F must be finite, and where labels are missing
    the rows of F without a label get a gradient too, unless the sample has no label at all.

    Args:
        residual: (..., D).
        factor: (..., D, R) with R >= D, any shape of entries (triangular or not).
        rows: (..., D) bool or None.

    Returns:
        (...) nats.
    """
    ordered, ordered_rows, factor = mask_vector(residual, rows), rows, factor.double()
    if rows is not None:
        shape = torch.broadcast_shapes(rows.shape, residual.shape, factor.shape[:-1])
        order = rows.expand(shape).byte().argsort(dim=-1, stable=True)
        ordered_rows = rows.expand(shape).gather(-1, order)
        ordered = ordered.expand(shape).gather(-1, order)
        factor = factor.expand(*shape, factor.shape[-1]).gather(-2, order.unsqueeze(-1).expand(*shape, factor.shape[-1]))
    lower, info = torch.linalg.cholesky_ex(factor @ factor.mT)
    white = mask_vector((lower.mT @ ordered.unsqueeze(-1)).squeeze(-1), ordered_rows)
    half_log_det = mask_vector(lower.diagonal(dim1=-2, dim2=-1), ordered_rows, 1.0).log().sum(-1)
    loss = 0.5 * (labelled_count(residual, rows) * _LOG_2_PI + white.square().sum(-1)) - half_log_det
    return check(loss, {"residual": ordered}, {"factor": factor}, {"factor": info})


def nll_diagonal(residual: Tensor, variance: Tensor, rows: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of independent Gaussians.

    Args:
        residual: (..., D).
        variance: (..., D), positive.
        rows: (..., D) bool or None.

    Returns:
        (...) nats.
    """
    return beta_nll(residual, variance, rows, 0.0)


def beta_nll(residual: Tensor, variance: Tensor, rows: Tensor | None = None, beta: float = 0.5) -> Tensor:
    """`nll_diagonal` with each coordinate's term weighted by stop_gradient(variance^beta) (Seitzer et al., arXiv 2203.09168).

    At beta = 0 it is the likelihood. At beta = 1 the mean has the gradient of half the squared error, coordinate by coordinate.

    Args:
        residual: (..., D).
        variance: (..., D), positive.
        rows: (..., D) bool or None.
        beta: 0 to 1.

    Returns:
        (...) nats, weighted.
    """
    residual, variance = mask_vector(residual, rows), mask_vector(variance, rows, 1.0)
    terms = 0.5 * (_LOG_2_PI + variance.log() + residual.square() / variance)
    if beta != 0.0:
        terms = variance.detach() ** beta * terms
    return check(mask_vector(terms, rows).sum(-1), {"residual": residual, "variance": variance})


def faithful(residual: Tensor, covariance: Tensor, rows: Tensor | None = None) -> Tensor:
    """``|r|^2`` plus the likelihood of the detached residual (Stirn et al., arXiv 2212.09184): the mean learns as if alone.

    The authors also stop the covariance's gradient at features shared with the mean; that is the network's to do.

    Args:
        residual: (..., D).
        covariance: (..., D, D).
        rows: (..., D) bool or None.

    Returns:
        (...), squared units plus nats.
    """
    return mse(residual, rows) + nll(residual.detach(), covariance, rows)


def kl(
    residual: Tensor,
    covariance: Tensor,
    pseudo: Tensor,
    rows: Tensor | None = None,
    pseudo_log_det: bool = True,
    own: float = 0.5,
) -> Tensor:
    """KL divergence of N(label, P) from the prediction, with the calibration of ToSS (arXiv 2502.10587).

        1/2 [ (1 - own) tr(S^-1 P) + own r^T S^-1 r - D + ln det S - ln det P ]

    The paper's calibration is own = 1/2. Without it (both weights 1) the optimum over S is, by Lemma 1 of that paper, Sigma_Y +
    P: replacing a label y by N(y, P) adds P to the covariance Sigma_Y of the residuals, twice the truth where P is the truth.
    With it the optimum is own Sigma_Y + (1 - own) P, which is P where the residuals' outer products average to P. As a price,
    the value is no divergence: it can be negative. At own = 1 it is the NLL, but for constants; below, pseudo-labels smooth
    the likelihood, so that single residuals are not learned by heart.

    For a singular P ln det P is -inf. It is constant in training: ``pseudo_log_det=False`` leaves it out, as the catalogue
    does, for all samples alike; with True a singular P is an error, never dropped silently.

    Args:
        residual: (..., D).
        covariance: (..., D, D) predicted, S.
        pseudo: (..., D, D) pseudo-label, P; no gradient.
        rows: (..., D) bool or None.
        pseudo_log_det: whether - ln det P is part of the value.
        own: share of the sample's own residual, 0 to 1.

    Returns:
        (...) nats.
    """
    residual, covariance = mask_vector(residual, rows), mask_covariance(covariance, rows, 1.0)
    masked = mask_covariance(pseudo.detach(), rows)
    lower, info = torch.linalg.cholesky_ex(covariance)
    moments = (1 - own) * masked + own * residual.unsqueeze(-1) * residual.unsqueeze(-2)
    batch = torch.broadcast_shapes(moments.shape, lower.shape)
    solved = torch.cholesky_solve(moments.expand(batch), lower.expand(batch))
    log_det = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    loss = 0.5 * (solved.diagonal(dim1=-2, dim2=-1).sum(-1) - labelled_count(residual, rows) + log_det)
    failed = {"covariance": info}
    if pseudo_log_det:
        # Cholesky often survives a singular matrix with pivots that are pure rounding.
        whole = mask_covariance(pseudo.detach(), rows, 1.0)
        pivots, pseudo_info = torch.linalg.cholesky_ex(whole)
        squared = pivots.diagonal(dim1=-2, dim2=-1).square()
        failed["pseudo"] = (pseudo_info != 0) | (squared <= 1e-13 * whole.diagonal(dim1=-2, dim2=-1)).any(-1)
        loss = loss - 0.5 * squared.log().sum(-1)
    return check(loss, {"residual": residual}, {"covariance": covariance, "pseudo": masked}, failed)


def _elliptical_nll(
    residual: Tensor, scatter: Tensor, rows: Tensor | None, degrees_of_freedom: Tensor | None, name: str
) -> Tensor:
    residual, scatter = mask_vector(residual, rows), mask_covariance(scatter, rows, 1.0)
    lower, info = torch.linalg.cholesky_ex(scatter)
    squared = torch.linalg.solve_triangular(lower, residual.unsqueeze(-1), upper=False).square().sum((-2, -1))
    half_log_det = lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    size = labelled_count(residual, rows)
    if degrees_of_freedom is None:
        loss = 0.5 * (size * _LOG_2_PI + squared) + half_log_det
    else:
        nu = degrees_of_freedom.double()
        constant = torch.lgamma(nu / 2) - torch.lgamma((nu + size) / 2) + 0.5 * size * torch.log(nu * math.pi)
        loss = constant + half_log_det + 0.5 * (nu + size) * torch.log1p(squared / nu)
        if not torch.isfinite(loss).all() and not ((nu > 0) & torch.isfinite(nu)).all():
            raise LossError("degrees_of_freedom: must be positive and finite; None is the Gaussian")
    return check(loss, {"residual": residual}, {name: scatter}, {name: info})
