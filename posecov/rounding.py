"""Covariances in float32: what is kept, written and given away must still be one for a program that computes in float32.

Rounding moves the eigenvalues of a correlation matrix of D coordinates by up to D 2^-24, and a Cholesky factorisation in
float32 needs about as much again (`tools/trust/float32_cholesky.py`). Joints that are as good as fixed to each other, and
exchanges far apart beside small ellipses, are below that.
"""

import numpy as np

from posecov.errors import PosecovError


def least_eigenvalue(dimension: int) -> float:
    """Of a correlation matrix (D, D) that float32 holds safely: D 2^-23."""
    return dimension * 2.0**-23


def covariance_in_float32(matrix: np.ndarray, what: str = "a covariance") -> np.ndarray:
    """Covariances, or scatters, as float32 matrices that are positive definite in float32.

    Variances stay. Where the smallest eigenvalue of the correlation matrix is below `least_eigenvalue`, correlations shrink by
    a few millionths, so far that it is twice that. What comes out goes through unchanged a second time.

    Args:
        matrix: (..., D, D); what is not symmetric in it is averaged.
        what: to call it in errors.

    Raises:
        PosecovError: numbers beyond float32, or a matrix that is not positive definite before rounding.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    matrix = (matrix + np.swapaxes(matrix, -1, -2)) / 2
    with np.errstate(over="ignore", under="ignore"):
        single = matrix.astype(np.float32)
    if not np.isfinite(single).all():
        raise PosecovError(f"{what} has numbers that are not finite in float32")
    variances = np.diagonal(single, axis1=-2, axis2=-1).astype(np.float64)
    if not (variances > 0).all():
        raise PosecovError(f"{what} is not positive definite")
    sigma, least = np.sqrt(variances), least_eigenvalue(matrix.shape[-1])
    correlation = single / sigma[..., :, None] / sigma[..., None, :]
    try:
        np.linalg.cholesky(correlation - least * np.eye(matrix.shape[-1]))
        return single
    except np.linalg.LinAlgError:
        pass
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise PosecovError(f"{what} is not positive definite") from None
    smallest = np.linalg.eigvalsh(correlation)[..., 0]
    # Twice as much as is needed, so that rounding once again does not bring it back below.
    below = np.minimum(smallest, least)
    shrunk = np.where(smallest > least, 0.0, (2 * least - below) / (1 - below))[..., None, None]
    return np.where(np.eye(matrix.shape[-1], dtype=bool), single, single * (1 - shrunk)).astype(np.float32)
