"""Covariance pseudo-labels from neighbours in feature space (ToSS, arXiv 2502.10587, algorithm 1).

What the paper leaves open, decided here: features are whitened by PCA to few dimensions (in many dimensions the weights
collapse onto one neighbour); a person is not its own neighbour; the temperature of the softmax is set from the data, so that
a chosen share of the k neighbours counts; people without some labels take part with those they have; each pseudo-covariance
is shrunk towards its diagonal, so that it has full rank.
"""

import logging
from dataclasses import dataclass

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.config import PseudoLabelConfig

_CHUNK = 512
_EIGENVALUE_FLOOR = 1e-4  # of the mean eigenvalue
_COLLAPSED = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of each of N people.

    Attributes:
        index: (N, k) int64.
        weight: (N, k) float64, rows sum to 1.
        temperature: of the softmax over minus squared distances.
    """

    index: np.ndarray
    weight: np.ndarray
    temperature: float

    @property
    def effective(self) -> np.ndarray:
        """(N,) effective number of neighbours, 1 / sum w^2."""
        return 1.0 / np.square(self.weight).sum(axis=1)


def whiten(features: np.ndarray, dimensions: int) -> np.ndarray:
    """Whitened principal components (N, min(dimensions, M)) of features (N, M): Euclidean distance there is Mahalanobis'.

    Constant or identical columns do no harm: components with next to no variance are left out.
    """
    centred = np.asarray(features, dtype=np.float64) - np.mean(features, axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / max(len(centred) - 1, 1))
    order = np.argsort(values)[::-1][:dimensions]
    order = order[values[order] > 1e-9 * max(values.max(), 1e-300)]
    if not len(order):
        raise PosecovError("pseudo-labels: the features are the same for everybody; there are no neighbours")
    return centred @ vectors[:, order] / np.sqrt(values[order])


def find_neighbours(points: np.ndarray, k: int, effective: float) -> Neighbours:
    """The k nearest others of each row, weighted by softmax(-d^2 / temperature).

    Args:
        points: (N, M) whitened features.
        k: neighbours, fewer than N.
        effective: the temperature makes the mean effective number of neighbours this fraction of k.

    Raises:
        PosecovError: fewer than k others.
    """
    if not 0 < k < len(points):
        raise PosecovError(
            f"pseudo-labels: {k} neighbours asked for among {len(points)} people; lower --pseudo-labels.neighbours"
        )
    index = np.empty((len(points), k), dtype=np.int64)
    squared = np.empty((len(points), k))
    norms = np.square(points).sum(axis=1)
    for start in range(0, len(points), _CHUNK):
        query = slice(start, min(start + _CHUNK, len(points)))
        distance = norms[query, None] - 2 * points[query] @ points.T + norms
        distance[np.arange(query.stop - start), np.arange(start, query.stop)] = np.inf
        index[query] = np.argpartition(distance, k - 1, axis=1)[:, :k]
        squared[query] = np.take_along_axis(distance, index[query], axis=1)
    squared = np.maximum(squared, 0.0)
    temperature = _temperature(squared, effective * k)
    neighbours = Neighbours(index, _softmax(-squared / temperature), temperature)
    if np.median(neighbours.effective) < _COLLAPSED:
        log.warning("pseudo-labels: weights have collapsed onto %.1f neighbours", np.median(neighbours.effective))
    return neighbours


def shuffled(neighbours: Neighbours, seed: int) -> Neighbours:
    """A control: as many random others, with the same weights."""
    rng = np.random.default_rng(seed)
    count, k = neighbours.index.shape
    others = rng.integers(0, count - 1, size=(count, k))
    return Neighbours(others + (others >= np.arange(count)[:, None]), neighbours.weight, neighbours.temperature)


def pseudo_covariances(values: np.ndarray, neighbours: Neighbours, centred: bool, shrinkage: float) -> np.ndarray:
    """Weighted covariance of the neighbours' values.

    Args:
        values: (N, D) in one frame, NaN where there is no label. Each pair of coordinates is estimated from the
            neighbours that have both.
        neighbours: of each of the N.
        centred: True for targets, about their weighted mean, without the bias 1 - sum w^2; False for residuals of a mean.
        shrinkage: towards the diagonal, 0 to 1.

    Returns:
        (N, D, D) float64, positive definite.
    """
    present = ~np.isnan(values)
    filled = np.where(present, values, 0.0)
    overall = np.nanmean(np.square(values - (np.nanmean(values, axis=0) if centred else 0.0)), axis=0)
    result = np.empty((len(values), values.shape[1], values.shape[1]))
    for start in range(0, len(values), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(values)))
        index, weight = neighbours.index[rows], neighbours.weight[rows]
        have, taken = present[index].astype(np.float64), filled[index]
        if centred:
            mass = np.einsum("nk,nkd->nd", weight, have)
            centre = np.einsum("nk,nkd->nd", weight, taken) / np.maximum(mass, 1e-12)
            taken = (taken - centre[:, None]) * have
        weighted = weight[:, :, None] * have
        pairs = np.swapaxes(weighted, 1, 2) @ have
        moments = np.swapaxes(weight[:, :, None] * taken, 1, 2) @ taken
        if centred:
            squares = np.swapaxes(np.square(weight)[:, :, None] * have, 1, 2) @ have
            pairs = pairs - squares / np.maximum(pairs, 1e-12)
        # A pair that no neighbour has says nothing: no correlation, and everybody's variance.
        known = pairs > 1e-9
        covariance = np.where(known, moments / np.where(known, pairs, 1.0), np.diag(overall))
        result[rows] = _definite(covariance, shrinkage)
    return result


def roots(covariances: np.ndarray) -> np.ndarray:
    """Symmetric roots (N, D, D) float32, computed in float64."""
    values, vectors = np.linalg.eigh(covariances)
    return ((vectors * np.sqrt(np.maximum(values, 0.0))[:, None]) @ np.swapaxes(vectors, 1, 2)).astype(np.float32)


def pseudo_label_roots(features: np.ndarray, values: np.ndarray, config: PseudoLabelConfig, seed: int) -> np.ndarray:
    """The whole recipe: features (N, M) and values (N, D; targets or residuals) to roots (N, D, D) float32."""
    neighbours = find_neighbours(
        whiten(features, config.dimensions), min(config.neighbours, len(features) - 1), config.effective
    )
    log.info(
        "pseudo-labels from %s: k %d, temperature %.3g, effective neighbours %.1f (median)",
        config.source, neighbours.index.shape[1], neighbours.temperature, np.median(neighbours.effective),
    )  # fmt: skip
    if config.shuffled:
        neighbours = shuffled(neighbours, seed)
    return roots(pseudo_covariances(values, neighbours, config.source == "targets", config.shrinkage))


def _definite(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """Shrink towards the diagonal and lift the eigenvalues of matrices (N, D, D) above a floor."""
    size = covariance.shape[-1]
    diagonal = np.einsum("ndd->nd", covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * diagonal[:, :, None] * np.eye(size)
    values, vectors = np.linalg.eigh((shrunk + np.swapaxes(shrunk, 1, 2)) / 2)
    floor = _EIGENVALUE_FLOOR * np.maximum(diagonal.mean(axis=1), 1e-12)
    values = np.maximum(values, floor[:, None])
    return (vectors * values[:, None]) @ np.swapaxes(vectors, 1, 2)


def _temperature(squared: np.ndarray, target: float) -> float:
    """The temperature at which the mean effective number of neighbours is ``target``, by bisection in its logarithm."""
    spread = float(np.median(squared.max(axis=1) - squared.min(axis=1))) + 1e-12
    low, high = np.log(spread) - 12.0, np.log(spread) + 12.0
    for _ in range(60):
        middle = (low + high) / 2
        weight = _softmax(-squared / np.exp(middle))
        if (1.0 / np.square(weight).sum(axis=1)).mean() < target:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
