"""Random covariances, roots and masks that the tests of the losses share."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from posecov.learn.losses import symmetric_root

SEEDS = st.integers(0, 2**31 - 1)
FEW = settings(max_examples=20, deadline=None, derandomize=True)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariances(*shape, seed=0):
    """(..., D, D), well conditioned; ``shape`` is (..., D)."""
    factor = normal(*shape, shape[-1], seed=seed)
    return factor @ factor.mT + 0.3 * torch.eye(shape[-1], dtype=torch.float64)


def roots(*shape, seed=0):
    return symmetric_root(covariances(*shape, seed=seed))


def masks(*shape, seed=0):
    """(..., D) with at least one coordinate in each sample."""
    rows = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) > 0.4
    rows[..., 0] = True
    return rows


def spoil(tensor, rows, dimensions):
    """NaN wherever a coordinate without a label is involved."""
    keep = rows.unsqueeze(-1) & rows.unsqueeze(-2) if dimensions == 2 else rows
    return torch.where(keep, tensor, torch.nan)


def numpy(tensor):
    return np.asarray(tensor.detach())


def symmetrised(function):
    """A function of a covariance as one of any matrix, so that numerical differences stay among symmetric ones."""
    return lambda matrix, *rest: function((matrix + matrix.mT) / 2, *rest)
