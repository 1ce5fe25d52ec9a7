"""The symmetric root of a predicted covariance, differentiable at repeated eigenvalues.

Differentiating through `torch.linalg.eigh` divides by differences of eigenvalues: NaN where two are equal, as at an isotropic
start. The root R of S is smooth there: R dR + dR R = dS is a Sylvester equation, which divides by sums of roots only.
"""

import torch
from torch import Tensor
from torch.autograd import Function

# Eigenvalues below this share of the largest are rounding of float64 arithmetic; they count as 0.
_NOISE = 1e-13


def clean_roots(values: Tensor) -> Tensor:
    """Roots (..., D) of eigenvalues (..., D) in ascending order; 0 where they are nothing but rounding."""
    useful = values > _NOISE * values[..., -1:].clamp_min(0.0)
    return torch.where(useful, values, 0.0).sqrt()


def symmetric_root(matrix: Tensor) -> Tensor:
    """Symmetric root of positive semi-definite matrices, differentiable to any order.

    The gradient by S of a function with gradient G by the root is ``U [(U^T G U) / (s_i + s_j)] U^T``, with s and U the
    eigenvalues and eigenvectors of the root. Where both s_i and s_j are 0 it is infinite; 0 is taken.

    Args:
        matrix: (..., D, D) finite; its antisymmetric part counts for nothing.

    Returns:
        (..., D, D) float64. Negative eigenvalues count as 0.
    """
    return root_and_eigenvalues(matrix)[0]


def root_and_eigenvalues(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """`symmetric_root`, and the eigenvalues (..., D) of the matrix in ascending order, without gradient."""
    matrix = matrix.double()
    return _Root.apply((matrix + matrix.mT) / 2)


class _Root(Function):
    @staticmethod
    def forward(ctx, matrix):
        values, vectors = torch.linalg.eigh(matrix)
        roots = clean_roots(values)
        root = (vectors * roots.unsqueeze(-2)) @ vectors.mT
        ctx.mark_non_differentiable(values)
        ctx.save_for_backward(root, vectors, roots)
        return root, values

    @staticmethod
    def backward(ctx, gradient, _):
        root, vectors, roots = ctx.saved_tensors
        return _Sylvester.apply(root, (gradient + gradient.mT) / 2, vectors, roots)


class _Sylvester(Function):
    """X with R X + X R = G, R = U diag(s) U^T. Its own derivative is a Sylvester equation again, hence any order."""

    @staticmethod
    def forward(ctx, root, right, vectors, roots):
        sums = roots.unsqueeze(-1) + roots.unsqueeze(-2)
        inverse = torch.where(sums > 0, sums.clamp_min(1e-300).reciprocal(), 0.0)
        solution = vectors @ ((vectors.mT @ right @ vectors) * inverse) @ vectors.mT
        ctx.save_for_backward(root, solution, vectors, roots)
        return solution

    @staticmethod
    def backward(ctx, gradient):
        # R dX + dX R = dG - (dR X + X dR); with Y the solution for the gradient H, <H, dX> = <Y, dG> - <Y X + X Y, dR>.
        root, solution, vectors, roots = ctx.saved_tensors
        dual = _Sylvester.apply(root, (gradient + gradient.mT) / 2, vectors, roots)
        product = solution @ dual
        return -(product + product.mT), dual, None, None
