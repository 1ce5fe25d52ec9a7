"""Approximate search for very large tables, with faiss where it is installed."""

import importlib.util
import logging

import numpy as np
import torch

from posecov.learn.pseudo_labels.search import ExactSearch

APPROXIMATE_ROWS = 500_000
"""Rows beyond which faiss is used, if it is installed."""

LEAST_RECALL = 0.95
"""Recall on a sample below which the search is exact instead."""

_SAMPLE = 256
_TRAINED = 64  # Rows per cell that the cells are learned from.

log = logging.getLogger(__name__)


class ApproximateSearch:
    """Inverted lists: looks into the cells of the table nearest to a query.

    Args:
        points: (N, M).
        k: neighbours that recall is measured for.

    Attributes:
        recall: share of the k nearest that was found, for a sample of the table's rows.
        probes: cells looked into, as few as reach `LEAST_RECALL`.
    """

    def __init__(self, points: np.ndarray, k: int):
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        self.points, self.exact = points, ExactSearch(points)
        self.centre = self.exact.centre
        cells = max(1, int(2 * np.sqrt(len(points))))
        rng = np.random.default_rng(0)
        learned = np.sort(rng.choice(len(points), min(len(points), _TRAINED * cells), replace=False))
        self.index = faiss.IndexIVFFlat(faiss.IndexFlatL2(points.shape[1]), points.shape[1], cells)
        self.index.train(self._prepared(points[learned]))
        for start in range(0, len(points), 65536):
            self.index.add(self._prepared(points[start : start + 65536]))
        asked = np.sort(rng.choice(len(points), min(len(points), _SAMPLE), replace=False))
        true = self.exact.search(points[asked], k, asked)[0]
        self.recall, self.probes = 0.0, 4
        while self.recall < LEAST_RECALL and 2 * self.probes <= max(cells // 4, 8):
            self.probes *= 2
            self.index.nprobe = self.probes
            found = self.search(points[asked], k, asked)[0]
            hits = [np.isin(row, nearest).sum() for row, nearest in zip(found, true, strict=True)]
            self.recall = float(np.sum(hits)) / true.size

    def search(self, queries: np.ndarray, k: int, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `ExactSearch.search`, but for the neighbours that are missed."""
        _, index = self.index.search(self._prepared(queries), k + (own is not None))
        if own is not None:
            # Its own row goes last, where it is cut off; without it, the farthest does.
            order = np.argsort(index == own[:, None], axis=1, kind="stable")
            index = np.take_along_axis(index, order, axis=1)[:, :k]
        short = np.flatnonzero((index < 0).any(axis=1))
        if len(short):
            index[short] = self.exact.search(queries[short], k, None if own is None else own[short])[0]
        squared = self.exact.distances(queries, index)
        order = np.argsort(squared, axis=1)
        return np.take_along_axis(index, order, axis=1), np.take_along_axis(squared, order, axis=1)

    def _prepared(self, points: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(points - self.centre, dtype=np.float32)


def make_search(points: np.ndarray, k: int, approximate: bool = True) -> tuple[ExactSearch | ApproximateSearch, float]:
    """The search for a table, and its recall: exact, unless the table is very large, faiss is there, and finds enough.

    Args:
        points: (N, M).
        k: neighbours.
        approximate: whether it may be.
    """
    if approximate and len(points) > APPROXIMATE_ROWS and importlib.util.find_spec("faiss"):
        search = ApproximateSearch(points, k)
        if search.recall >= LEAST_RECALL:
            log.info(
                "pseudo-labels: approximate search with faiss, %d probes, recall %.3f on a sample", search.probes, search.recall
            )
            return search, search.recall
        log.info("pseudo-labels: faiss reaches a recall of %.3f only; the search is exact", search.recall)
        return search.exact, 1.0
    return ExactSearch(points), 1.0
