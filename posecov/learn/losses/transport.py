"""Covariance part of the squared 2-Wasserstein distance to pseudo-labels, and its bounds (ToSS, arXiv 2502.10587).

    W2(S, S~) = tr S + tr S~ - 2 tr (S~^1/2 S S~^1/2)^1/2  =  min over orthogonal Q of |F - A Q|_F^2

for any factors F F^T = S, A A^T = S~. Any Q, so also Q = I, bounds it: `wasserstein_bound` compares a predicted factor with the
root as they are, `wasserstein_symmetric` the two symmetric roots (Theorem 1; equal when S and S~ commute). Of the exact forms

- `wasserstein` is the formula on the left, differentiated through the root by its Sylvester equation, to any order;
- `wasserstein_procrustes` is the minimum on the right with Q turned to the optimum and detached. By the envelope theorem value
  and gradient are the same; nothing is differentiated through an eigendecomposition, and a step is cheaper. It has no second
  derivative.

Both have the gradient I - T by S, T the optimal transport map from S to S~. All are functions of the covariance alone: the
mean's part of the distance, |r|^2, is `mse`, which the catalogue adds.

``root`` is (..., D, D), A above: it carries no gradient. ``rows`` (..., D) bool marks the labelled coordinates, None meaning
all, and the loss is that of the marginals: rows of a factor are a factor of the marginal. Without labels it is 0 with gradient
0. Leading dimensions are arbitrary and broadcast. Returned is one float64 number per sample, (...), squared units. Singular
covariances are allowed; `LossError` names the argument and the first sample where one is indefinite or not finite.
"""

import torch
from torch import Tensor

from posecov.learn.losses.checks import ROUNDING, check
from posecov.learn.losses.masks import mask_covariance, mask_factor
from posecov.learn.losses.roots import clean_roots, root_and_eigenvalues, symmetric_root


def wasserstein_bound(factor: Tensor, root: Tensor, rows: Tensor | None = None) -> Tensor:
    """``|F - [A, 0]|_F^2`` over labelled rows: a bound whose gradient is linear in the predicted factor; no decomposition.

    Its minimum is F = [A, 0], so a network learns the root itself. It is loose for factors that are turned against A.

    Args:
        factor: (..., D, R) predicted, S = F F^T; the narrower of F and A is padded with columns of zeros.
        root: (..., D, D).
        rows: (..., D) bool or None.

    Returns:
        (...) squared units.
    """
    factor, root = mask_factor(factor, rows), mask_factor(root.detach(), rows)
    common = min(factor.shape[-1], root.shape[-1])
    loss = (factor[..., :common] - root[..., :common]).square().sum((-2, -1))
    for rest in (factor[..., common:], root[..., common:]):
        if rest.shape[-1]:
            loss = loss + rest.square().sum((-2, -1))
    return check(loss, None, {"factor": factor, "root": root})


def wasserstein_symmetric(covariance: Tensor, root: Tensor, rows: Tensor | None = None) -> Tensor:
    """``|S^1/2 - S~^1/2|_F^2``, the bound of Theorem 1, with a root that is differentiable at repeated eigenvalues.

    With labels missing, the roots are those of the marginals. Near-singular predictions have large gradients.

    Args:
        covariance: (..., D, D) predicted.
        root: (..., D, D) *symmetric* root of the pseudo-label.
        rows: (..., D) bool or None.

    Returns:
        (...) squared units.
    """
    covariance, target = mask_covariance(covariance, rows), mask_factor(root.detach(), rows)
    _check_finite(covariance, covariance, target)
    _check_finite(target, covariance, target)
    if rows is not None and not rows.all():
        # The square of a root loses half of the digits: keep the root itself where nothing is missing.
        target = torch.where(rows.all(-1)[..., None, None], target, symmetric_root(target @ target.mT))
    predicted, values = root_and_eigenvalues(covariance)
    indefinite = values[..., 0] < -ROUNDING * values.abs().amax(-1)
    return check((predicted - target).square().sum((-2, -1)), None, None, {"covariance": indefinite})


def wasserstein(covariance: Tensor, root: Tensor, rows: Tensor | None = None) -> Tensor:
    """The exact distance ``tr S + tr S~ - 2 tr (A^T S A)^1/2``, differentiable to any order.

    For the symmetric A = S~^1/2 it is the formula as printed; every other factor has the same eigenvalues.

    Args:
        covariance: (..., D, D) predicted.
        root: (..., D, D), any factor of the pseudo-label.
        rows: (..., D) bool or None.

    Returns:
        (...) squared units.
    """
    covariance, factor = mask_covariance(covariance, rows), mask_factor(root.detach(), rows)
    inner = factor.mT @ covariance @ factor
    _check_finite(inner, covariance, factor)
    overlap, values = root_and_eigenvalues(inner)
    loss = _trace(covariance) + factor.square().sum((-2, -1)) - 2 * _trace(overlap)
    return check(loss, None, None, {"covariance": _indefinite(values, covariance, factor)})


def wasserstein_procrustes(covariance: Tensor, root: Tensor, rows: Tensor | None = None) -> Tensor:
    """The exact distance as the bound ``|F - A W|_F^2`` at the best rotation W, which is detached.

    A predicted factor is not symmetric, so the bound with W = I would be loose. With W the polar factor of A^T F,

        |F - A W|_F^2 = tr S + tr S~ - 2 tr (A^T S A)^1/2,     gradient by S:  I - T,  T = A (A^T S A)^-1/2 A^T,

    so F itself is never needed: the loss is ``tr S - <S, T> +`` a constant, with T detached.

    Args:
        covariance: (..., D, D) predicted.
        root: (..., D, D), any factor of the pseudo-label.
        rows: (..., D) bool or None.

    Returns:
        (...) squared units.
    """
    covariance, factor = mask_covariance(covariance, rows), mask_factor(root.detach(), rows)
    with torch.no_grad():
        inner = factor.mT @ covariance @ factor
        _check_finite(inner, covariance, factor)
        values, vectors = torch.linalg.eigh(inner)
        roots = clean_roots(values)
        inverse = torch.where(roots > 0, roots.clamp_min(1e-300).reciprocal(), 0.0)
        turned = factor @ vectors
        transport = (turned * inverse.unsqueeze(-2)) @ turned.mT
        constant = factor.square().sum((-2, -1)) - roots.sum(-1)
    loss = _trace(covariance) - (covariance * transport).sum((-2, -1)) + constant
    return check(loss, None, None, {"covariance": _indefinite(values, covariance, factor)})


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _check_finite(decomposed: Tensor, covariance: Tensor, root: Tensor) -> None:
    """Before an eigendecomposition, which does not return from NaN."""
    check(decomposed.detach(), None, {"covariance": covariance, "root": root})


def _indefinite(values: Tensor, covariance: Tensor, factor: Tensor) -> Tensor:
    """Whether A^T S A has a negative eigenvalue (values ascend). Directions of S that a singular A does not see go unjudged."""
    size = covariance.detach().square().sum((-2, -1)).sqrt() * factor.square().sum((-2, -1))
    return values[..., 0] < -ROUNDING * size
