"""Weighted covariance of the neighbours' values, and its symmetric root."""

from collections.abc import Iterator

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.pseudo_labels.neighbours import Neighbours
from posecov.learn.pseudo_labels.whitening import check_finite

_CHUNK = 512
_ENTRIES = 2**22  # of gathered values held at a time
_EIGENVALUE_FLOOR = 1e-4  # of the mean eigenvalue


class Everybody:
    """What covariances are taken of, targets or residuals of a mean, and what all people together say.

    Args:
        values: (N, D) in one frame, NaN where there is no label.
        centred: moments about the mean, otherwise about zero.
        pooled: whether `correlation` is wanted.

    Attributes:
        centred: as given.
        variance: (D,) of everybody; stands in where neighbours know nothing.
        correlation: (D, D) of everybody, each pair from those who have both; None unless ``pooled``.

    Raises:
        PosecovError: an infinite value, or a coordinate that nobody has.
    """

    def __init__(self, values: np.ndarray, centred: bool, pooled: bool = False):
        values = np.asarray(values)
        check_finite(values, "values", missing=True)
        present = ~np.isnan(values)
        if not present.any(axis=0).all():
            nobody = int(np.flatnonzero(~present.any(axis=0))[0])
            raise PosecovError(f"pseudo-labels: values, column {nobody}: nobody has a label there; leave this coordinate out")
        self.complete = bool(present.all())
        self.present = present
        self.filled = np.where(present, values, 0.0) if not self.complete else values
        self.size, self.centred = values.shape[1], centred
        counts = present.sum(axis=0)
        centre = self.filled.sum(axis=0, dtype=np.float64) / counts if centred else np.zeros(self.size)
        total = np.zeros(self.size)
        for start in range(0, len(values), 65536):
            some = slice(start, start + 65536)
            total += (np.square(self.filled[some] - centre) * present[some]).sum(axis=0)
        self.variance = total / counts
        self.correlation = self._correlation(centre) if pooled else None

    def _correlation(self, centre: np.ndarray) -> np.ndarray:
        total, pairs = np.zeros((self.size, self.size)), np.zeros((self.size, self.size))
        for start in range(0, len(self.filled), 65536):
            some = slice(start, start + 65536)
            have = self.present[some].astype(np.float64)
            offsets = (self.filled[some] - centre) * have
            total, pairs = total + offsets.T @ offsets, pairs + have.T @ have
        moments = total / np.maximum(pairs, 1.0)
        sigma = np.sqrt(np.maximum(np.diagonal(moments), 1e-300))
        # Pairwise estimates of a correlation can leave [-1, 1].
        return np.clip(moments / sigma[:, None] / sigma, -1.0, 1.0)


def pseudo_covariances(
    values: np.ndarray, neighbours: Neighbours, centred: bool, shrinkage: float, plain: bool = False, pooled: bool = False
) -> np.ndarray:
    """Weighted covariance of the neighbours' values.

    Args:
        values: (N, D) of the table's rows in one frame, NaN where there is no label. Each pair of coordinates is estimated
            from the neighbours that have both. A pair that no neighbour has gets no correlation and everybody's variance.
        neighbours: of each of Q queries.
        centred: True for targets, about their weighted mean, without the bias 1 - sum w^2; False for residuals of a mean.
        shrinkage: 0 to 1, of the correlations; variances stay.
        plain: as printed in the paper: with that bias, and with no floor under the eigenvalues.
        pooled: shrink towards everybody's correlation, otherwise towards the diagonal.

    Returns:
        (Q, D, D) float64, positive definite (semi-definite when plain).

    Raises:
        PosecovError: an infinite value, or a coordinate that nobody has.
    """
    everybody = Everybody(values, centred, pooled)
    size = everybody.size
    result = np.empty((len(neighbours.index), size, size))
    for rows in chunks(len(neighbours.index), neighbours.index.shape[1], size):
        index, weight = neighbours.index[rows], neighbours.weight[rows]
        covariance = weighted_covariance(everybody, index, weight, plain)
        eigenvalues, vectors = definite(covariance, shrinkage, plain, everybody.correlation)
        result[rows] = (vectors * eigenvalues[:, None]) @ np.swapaxes(vectors, 1, 2)
    return result


def chunks(count: int, k: int, size: int) -> Iterator[slice]:
    """Runs of queries whose neighbours' values fit in memory."""
    step = max(1, min(_CHUNK, _ENTRIES // (k * size)))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def weighted_covariance(everybody: Everybody, index: np.ndarray, weight: np.ndarray, plain: bool) -> np.ndarray:
    """(n, D, D) of neighbours ``index`` (n, k) with ``weight`` (n, k), before shrinkage; see `pseudo_covariances`."""
    centred, default = everybody.centred, np.diag(everybody.variance)
    weight = np.asarray(weight, dtype=np.float64)
    taken = everybody.filled[index].astype(np.float64, copy=False)
    if everybody.complete:
        if centred:
            taken = taken - np.einsum("nk,nkd->nd", weight, taken)[:, None]
        moments = np.swapaxes(weight[:, :, None] * taken, 1, 2) @ taken
        share = np.ones((len(index), 1, 1))
        if centred and not plain:
            share = share - np.square(weight).sum(axis=1)[:, None, None]
        known = np.broadcast_to(share > 1e-9, moments.shape)
        return np.where(known, moments / np.where(share > 1e-9, share, 1.0), default)
    have = everybody.present[index].astype(np.float64)
    if centred:
        mass = np.einsum("nk,nkd->nd", weight, have)
        centre = np.einsum("nk,nkd->nd", weight, taken) / np.maximum(mass, 1e-12)
        taken = (taken - centre[:, None]) * have
    pairs = np.swapaxes(weight[:, :, None] * have, 1, 2) @ have
    moments = np.swapaxes(weight[:, :, None] * taken, 1, 2) @ taken
    if centred and not plain:
        squares = np.swapaxes(np.square(weight)[:, :, None] * have, 1, 2) @ have
        pairs = pairs - squares / np.maximum(pairs, 1e-12)
    known = pairs > 1e-9
    return np.where(known, moments / np.where(known, pairs, 1.0), default)


def definite(
    covariance: np.ndarray, shrinkage: float, plain: bool = False, correlation: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (n, D), lifted above a floor, and eigenvectors (n, D, D) of shrunken matrices.

    Args:
        covariance: (n, D, D); variances stay.
        shrinkage: towards the same variances with ``correlation`` (D, D); without one, towards the diagonal.
        plain: no floor.
    """
    diagonal = np.einsum("ndd->nd", covariance)
    sigma = np.sqrt(np.maximum(diagonal, 0.0))
    target = np.eye(covariance.shape[-1]) if correlation is None else correlation
    shrunk = (1 - shrinkage) * covariance + shrinkage * sigma[:, :, None] * target * sigma[:, None, :]
    values, vectors = np.linalg.eigh((shrunk + np.swapaxes(shrunk, 1, 2)) / 2)
    floor = 0.0 if plain else _EIGENVALUE_FLOOR * np.maximum(diagonal.mean(axis=1), 1e-12)[:, None]
    return np.maximum(values, floor), vectors


def roots(covariances: np.ndarray) -> np.ndarray:
    """Symmetric roots (N, D, D) float32, computed in float64."""
    values, vectors = np.linalg.eigh(covariances)
    return root_of(values, vectors)


def root_of(values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(n, D, D) float32 symmetric root from eigenvalues (n, D), negative ones taken as 0, and eigenvectors (n, D, D)."""
    return ((vectors * np.sqrt(np.maximum(values, 0.0))[:, None]) @ np.swapaxes(vectors, 1, 2)).astype(np.float32)
