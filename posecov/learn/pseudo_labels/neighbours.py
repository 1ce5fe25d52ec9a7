"""Who the neighbours of a sample are, and how much each of them counts."""

import logging
from dataclasses import dataclass

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.pseudo_labels.approximate import make_search
from posecov.learn.pseudo_labels.search import QUERIES
from posecov.learn.pseudo_labels.whitening import check_finite

COLLAPSED = 3.0
"""Median effective number of neighbours below which a pseudo-covariance says little."""

_TEMPERATURE_ROWS = 20_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of each of N queries.

    Attributes:
        index: (N, k) integers, rows of the table.
        weight: (N, k), rows sum to 1.
        temperature: of the softmax over minus squared distances.
        rows: of the table when the queries are others than its rows; 0 when they are its rows.
        recall: share of the true neighbours that the search found, measured on a sample; 1 for the exact search.
    """

    index: np.ndarray
    weight: np.ndarray
    temperature: float
    rows: int = 0
    recall: float = 1.0

    @property
    def effective(self) -> np.ndarray:
        """(N,) effective number of neighbours, 1 / sum w^2."""
        return 1.0 / np.square(self.weight, dtype=np.float64).sum(axis=1)


def find_neighbours(
    points: np.ndarray,
    k: int,
    effective: float | None,
    queries: np.ndarray | None = None,
    own: bool = False,
    approximate: bool = True,
) -> Neighbours:
    """The k nearest rows of each query, weighted by softmax(-d^2 / temperature).

    Args:
        points: (N, M) whitened features: the table.
        k: neighbours, fewer than N.
        effective: the temperature makes the mean effective number of neighbours this fraction of k; None: temperature 1,
            as in the paper.
        queries: (Q, M) whitened by the same map; None: the rows of the table.
        own: whether a row of the table is its own neighbour.
        approximate: whether a very large table may be searched with faiss; see `approximate.make_search`.

    Raises:
        PosecovError: fewer than k rows to choose from, or features that are not numbers.
    """
    check_table(points, k, queries, own)
    asked = points if queries is None else queries
    search, recall = make_search(points, k, approximate)
    index, squared = np.empty((len(asked), k), dtype=np.int64), np.empty((len(asked), k))
    for start in range(0, len(asked), QUERIES):
        stop = min(start + QUERIES, len(asked))
        mine = np.arange(start, stop) if queries is None and not own else None
        index[start:stop], squared[start:stop] = search.search(asked[start:stop], k, mine)
    temperature = temperature_for(squared, effective)
    weight = softmax(-squared / temperature)
    neighbours = Neighbours(index, weight, temperature, 0 if queries is None else len(points), recall)
    report(neighbours.effective, k, temperature)
    return neighbours


def check_table(points: np.ndarray, k: int, queries: np.ndarray | None = None, own: bool = False) -> None:
    """Refuse tables that cannot be searched. Raises PosecovError that names the argument."""
    check_finite(points, "features")
    if queries is not None:
        check_finite(queries, "queries")
        if queries.shape[1] != points.shape[1]:
            raise PosecovError(f"pseudo-labels: queries have {queries.shape[1]} columns, the features {points.shape[1]}")
    if len(points) < 2:
        raise PosecovError("pseudo-labels: features of a single sample; a sample's neighbours are other samples")
    if not 0 < k <= len(points) - (queries is None and not own):
        raise PosecovError(
            f"pseudo-labels: {k} neighbours asked for among {len(points)} people; lower --pseudo-labels.neighbours"
        )


def report(effective: np.ndarray, k: int, temperature: float) -> tuple[float, float]:
    """Log median and 10th percentile of the effective numbers (N,) of neighbours, and return them; warn on collapse."""
    median, low = float(np.median(effective)), float(np.percentile(effective, 10))
    log.info(
        "pseudo-labels: k %d, temperature %.3g, effective neighbours %.1f (median), %.1f (10th percentile)",
        k, temperature, median, low,
    )  # fmt: skip
    if median < COLLAPSED:
        log.warning(
            "pseudo-labels: weights have collapsed onto %.1f neighbours (median; 10th percentile %.1f); take fewer dimensions "
            "or a higher temperature",
            median, low,
        )  # fmt: skip
    return median, low


def shuffled(neighbours: Neighbours, seed: int) -> Neighbours:
    """A control: as many random others, with the same weights."""
    rng = np.random.default_rng(seed)
    count, k = neighbours.index.shape
    if neighbours.rows:
        others = rng.integers(0, neighbours.rows, size=(count, k))
    else:
        others = rng.integers(0, count - 1, size=(count, k))
        others = others + (others >= np.arange(count)[:, None])
    return Neighbours(others, neighbours.weight, neighbours.temperature, neighbours.rows)


def temperature_for(squared: np.ndarray, effective: float | None) -> float:
    """The temperature at which the mean effective number of neighbours is a fraction of k; 1 for None.

    By bisection in its logarithm, on at most 20,000 of the squared distances (N, k), evenly spread.
    """
    if effective is None:
        return 1.0
    count, k = squared.shape
    if count > _TEMPERATURE_ROWS:
        squared = squared[np.linspace(0, count - 1, _TEMPERATURE_ROWS).astype(np.int64)]
    squared = np.asarray(squared, dtype=np.float64)
    spread = float(np.median(squared.max(axis=1) - squared.min(axis=1))) + 1e-12
    low, high = np.log(spread) - 12.0, np.log(spread) + 12.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1.0 / np.square(softmax(-squared / np.exp(middle))).sum(axis=1)).mean() < effective * k:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis of (N, k)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
