"""Masks for coordinates without a label. What stands there may be NaN: it is replaced before any arithmetic touches it, so that
values do not depend on it and gradients there are exactly 0.

``rows`` is (..., D) bool, True where there is a label, or None when all have one. Everything is turned to float64: a coordinate
that is very sure beside one that is not strains float32.
"""

import torch
from torch import Tensor


def mask_vector(vector: Tensor, rows: Tensor | None, fill: float = 0.0) -> Tensor:
    """Vector (..., D) with ``fill`` where there is no label, float64."""
    vector = vector.double()
    return vector if rows is None else torch.where(rows, vector, fill)


def mask_factor(factor: Tensor, rows: Tensor | None) -> Tensor:
    """Factor (..., D, R) with zero rows where there is no label, float64: the other rows are a factor of the marginal."""
    factor = factor.double()
    return factor if rows is None else torch.where(rows.unsqueeze(-1), factor, 0.0)


def mask_covariance(covariance: Tensor, rows: Tensor | None, diagonal: float = 0.0) -> Tensor:
    """Covariance (..., D, D) with rows and columns without a label replaced, float64.

    Args:
        covariance: (..., D, D).
        rows: (..., D) or None.
        diagonal: what stands there on the diagonal, 0 being off it. With 1 the determinant and quadratic forms are those of the
            marginal; with 0 traces and symmetric roots are.
    """
    covariance = covariance.double()
    if rows is None:
        return covariance
    labelled = rows.unsqueeze(-1) & rows.unsqueeze(-2)
    if diagonal == 0.0:
        return torch.where(labelled, covariance, 0.0)
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return torch.where(labelled, covariance, diagonal * eye)


def labelled_count(values: Tensor, rows: Tensor | None) -> Tensor | float:
    """How many coordinates have a label, (...); ``values`` is (..., D)."""
    return float(values.shape[-1]) if rows is None else rows.sum(-1).double()
