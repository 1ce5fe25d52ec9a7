"""How other joints follow one that moves: what its place explains of theirs, by a law's scatter matrix."""

import numpy as np

from posecov import coordinates


def gains(scatter: np.ndarray, joint: int) -> np.ndarray:
    """How far every joint moves with one: S_jh S_hh^-1, the slope of its conditional mean (`law.condition`).

    Args:
        scatter: (2J, 2J), or a covariance; positive definite in the rows of ``joint``.
        joint: h.

    Returns:
        (J, 2, 2), the identity for the joint itself; the displacement of j is gains[j] @ that of h.
    """
    rows = coordinates.rows([joint])
    across = np.asarray(scatter, dtype=np.float64)[:, rows]
    return np.linalg.solve(across[rows].T, across.T).T.reshape(-1, 2, 2)


def correlations(scatter: np.ndarray, joint: int) -> np.ndarray:
    """Multiple correlation of every joint with one: the root of the share of its variance that the other's place explains.

    sqrt(tr(S_jh S_hh^-1 S_hj) / tr S_jj): no direction is singled out, and turning the picture changes nothing.

    Returns:
        (J,) in [0, 1], 1 for the joint itself; 0 where the variance is 0.
    """
    scatter = np.asarray(scatter, dtype=np.float64)
    across = scatter[:, coordinates.rows([joint])].reshape(-1, 2, 2)
    explained = np.einsum("jab,jab->j", gains(scatter, joint), across)
    whole = np.trace(coordinates.joint_blocks(scatter), axis1=-2, axis2=-1)
    share = np.divide(explained, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.sqrt(np.clip(share, 0.0, 1.0))
