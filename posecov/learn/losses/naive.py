"""A baseline that shows why the other forms exist. Never train with it."""

import torch
from torch import Tensor


def wasserstein_autograd(covariance: Tensor, root: Tensor) -> Tensor:
    """The exact distance as `posecov.learn.losses.wasserstein`, with autograd left to differentiate the eigendecomposition.

    The gradient divides by differences of eigenvalues of S~^1/2 S S~^1/2: NaN or huge where two are (nearly) equal. Nothing
    is checked or masked; experiments count how often it fails.

    Args:
        covariance: (..., D, D) predicted, symmetric.
        root: (..., D, D) of the pseudo-label.

    Returns:
        (...) squared units, in the precision of the arguments.
    """
    values, vectors = torch.linalg.eigh(root.mT @ covariance @ root)
    overlap = (vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2)) @ vectors.mT
    traces = covariance.diagonal(dim1=-2, dim2=-1).sum(-1) + root.square().sum((-2, -1))
    return traces - 2 * overlap.diagonal(dim1=-2, dim2=-1).sum(-1)
