"""The order of the 2J coordinates: x0, y0, x1, y1, ... This is its only home.

Everything here is plain indexing, so the functions take NumPy arrays and torch tensors alike.
"""

import numpy as np


def flatten(points):
    """Points (..., J, 2) as coordinate vectors (..., 2J)."""
    return points.reshape(*points.shape[:-2], 2 * points.shape[-2])


def unflatten(vectors):
    """Coordinate vectors (..., 2J) as points (..., J, 2)."""
    return vectors.reshape(*vectors.shape[:-1], vectors.shape[-1] // 2, 2)


def rows(joints) -> np.ndarray:
    """Rows of the coordinate vector that belong to the given joint indices, (2 len(joints),)."""
    joints = np.asarray(joints, dtype=np.intp).reshape(-1)
    return np.stack([2 * joints, 2 * joints + 1], axis=1).reshape(-1)


def joint_mask_to_rows(mask):
    """A mask over joints (..., J) as a mask over coordinates (..., 2J)."""
    return mask.repeat(2, axis=-1) if isinstance(mask, np.ndarray) else mask.repeat_interleave(2, dim=-1)


def joint_blocks(matrix):
    """The 2 x 2 blocks on the diagonal of matrices (..., 2J, 2J), as (..., J, 2, 2)."""
    joints = matrix.shape[-1] // 2
    blocks = matrix.reshape(*matrix.shape[:-2], joints, 2, joints, 2)
    index = np.arange(joints)
    return blocks[..., index, :, index, :] if matrix.ndim == 2 else _moved(blocks, index)


def _moved(blocks, index):
    # Advanced indexes on both sides of a slice put the joint axis first; bring it back.
    picked = blocks[..., index, :, index, :]
    axes = (*range(1, picked.ndim - 2), 0, picked.ndim - 2, picked.ndim - 1)
    return picked.transpose(axes) if isinstance(picked, np.ndarray) else picked.permute(axes)
