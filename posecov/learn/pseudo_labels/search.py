"""The k nearest rows of a table, exactly, in bounded memory, at little more than the price of the matrix product.

Squared distances of a chunk of queries to a block of the table are one float32 matrix product. A random sample of the table
gives every query a bound that a little more than k rows fall below; the bound is part of the product, so that what is left to
do is to pick out the few positive entries. The distances of those that are kept are computed again from differences, since
|x|^2 - 2 x y + |y|^2 cancels, and a query whose order could still be wrong by that cancellation is searched again in float64.
"""

import math

import numpy as np
import torch
from numpy.typing import DTypeLike

QUERIES = 512
"""Queries that are searched at a time."""

BLOCK = 2048
"""Rows of the table in one matrix product."""

_SPARE = 8  # Candidates kept beyond k, whose exact distances are computed too.
_SMALL = 256  # Rows of the table for each candidate up to which selecting from all of them is faster.
_PRODUCT, _TILE = 2**20, 2**16  # Distances computed and selected from at a time, when selecting from all rows.
_TINY = 1e-30
_ACCURATE = 4e-6  # Squared distances whose rounding error is below this share are good enough.
_HELD = 64  # Candidates held for each one kept, before bounds are tightened: only bad luck with the sample gets there.
_NEGLIGIBLE = 1e-4  # Rows whose squared distances differ by less than this share may stand in for each other.

Parts = list[
    tuple[np.ndarray, np.ndarray, np.ndarray]
]  # candidates: number of the query, row of the table, gap below the bound


class ExactSearch:
    """Searches the rows of one table.

    Args:
        points: (N, M) finite.
        dtype: of the matrix product.
    """

    def __init__(self, points: np.ndarray, dtype: DTypeLike = np.float32):
        self.points, self.dtype = points, np.dtype(dtype)
        count, self.size = points.shape
        self.centre = np.mean(points, axis=0, dtype=np.float64)
        # Rows y, 1, |y|^2: times a query's row 2 x, bound - |x|^2, -1 they are the bound minus the squared distance.
        self.table = np.empty((count, self.size + 2), dtype=self.dtype)
        for start in range(0, count, 65536):
            self.table[start : start + 65536] = self._rows(points[start : start + 65536] - self.centre)
        sample = min(max(1024, min(count // 32, 16384)), count)
        self.sample = self.table[np.sort(np.random.default_rng(0).choice(count, sample, replace=False))]
        # Large buffers are kept: the system hands out fresh ones page by page, which costs as much as the product.
        self._products, self._signs = np.empty(0, dtype=self.dtype), np.empty(0, dtype=bool)
        self._copies = np.empty(0, dtype=f"i{self.dtype.itemsize}")
        self._precise: ExactSearch | None = None

    def __len__(self) -> int:
        return len(self.table)

    def search(self, queries: np.ndarray, k: int, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows of each query, nearest first.

        Args:
            queries: (n, M); memory grows with n, see `QUERIES`.
            k: neighbours, at most the rows that a query may have.
            own: (n,) row of the table that a query may not have as neighbour; None: all may be.

        Returns:
            (n, k) int64 rows, and (n, k) float64 squared distances. A row whose squared distance is within 1e-4 of that of
            the k-th nearest may be taken for it.
        """
        allowed = len(self) - (own is not None)
        kept = min(k + _SPARE, allowed)
        centred = queries - self.centre
        rows = self._rows(centred)
        query = np.column_stack([2 * rows[:, : self.size], -rows[:, -1:], np.full((len(rows), 1), -1, dtype=self.dtype)])
        index, rough = self._candidates(query, kept, own)
        # Bounds of the product's rounding error: the nearest row is no longer than the query and the distance together.
        epsilon, length = 4 * np.finfo(self.dtype).eps, np.square(centred).sum(axis=1)
        nearest, farthest = np.maximum(rough.min(axis=1), 0), np.maximum(rough.max(axis=1), 0)
        error = epsilon * (length + np.square(np.sqrt(length) + np.sqrt(farthest)))
        squared = rough.astype(np.float64)
        again = np.flatnonzero(error > _ACCURATE * nearest)
        squared[again] = self.distances(queries[again], index[again])
        order = np.argsort(squared, axis=1)[:, :k]
        index, squared = np.take_along_axis(index, order, axis=1), np.take_along_axis(squared, order, axis=1)
        last = squared[:, -1]
        unsure = np.flatnonzero((last > farthest - error) & (error > _NEGLIGIBLE * last) & (last > 0))
        if len(unsure) and kept < allowed and self.dtype == np.float32:
            self._precise = self._precise or ExactSearch(self.points, np.float64)
            mine = None if own is None else own[unsure]
            index[unsure], squared[unsure] = self._precise.search(queries[unsure], k, mine)
        return index, squared

    def distances(self, queries: np.ndarray, index: np.ndarray) -> np.ndarray:
        """(n, K) float64 squared distances of queries (n, M) to the rows ``index`` (n, K), from differences."""
        squared = np.empty(index.shape)
        step = max(1, 2**17 // (index.shape[1] * self.size))  # what stays in the cache
        kept = np.empty((step, index.shape[1], self.size), dtype=np.result_type(self.points, queries))
        for start in range(0, len(index), step):
            rows = index[start : start + step]
            near = np.take(self.points, rows, axis=0, out=kept[: len(rows)], mode="clip")
            near -= queries[start : start + step, None]
            squared[start : start + step] = np.einsum("nkm,nkm->nk", near, near)
        return squared

    def _rows(self, centred: np.ndarray) -> np.ndarray:
        """(n, M + 2) y, 1, |y|^2 of centred points (n, M)."""
        seen = centred.astype(self.dtype)
        norms = np.square(seen, dtype=np.float64).sum(axis=1)  # of what the product sees
        return np.column_stack([seen, np.ones(len(seen), dtype=self.dtype), norms.astype(self.dtype)])

    def _candidates(self, query: np.ndarray, kept: int, own: np.ndarray | None, rank: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(n, kept) rows and squared distances, as good as the product's rounding, in no order.

        Args:
            query: (n, M + 2) with bounds of 0.
            kept: candidates wanted.
            own: as in `search`.
            rank: the sample's row that gives the bound; 0: one that is just likely to be far enough.
        """
        sample = len(self.sample)
        expected = kept * sample / len(self)
        rank = rank or math.ceil(expected + 2 * math.sqrt(expected) + 2)
        if len(self) <= _SMALL * kept or 3 * rank > sample:
            return self._whole(query, kept, own)
        gap = self._product(query, self.sample)
        gap.partition(sample - 1 - rank, axis=1)
        index, squared = self._below(query, -gap[:, sample - 1 - rank], kept, own)
        short = np.flatnonzero(np.isinf(squared[:, 0]))
        if len(short):
            mine = None if own is None else own[short]
            index[short], squared[short] = self._candidates(query[short], kept, mine, 2 * rank)
        return index, squared

    def _below(self, query: np.ndarray, bound: np.ndarray, kept: int, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows among those below a bound (n,); infinite distances where they are fewer than ``kept``."""
        query, count = query.copy(), len(query)
        query[:, -2] += bound
        parts: Parts = []
        held = 0
        for start in range(0, len(self), BLOCK):
            gap = self._product(query, self.table[start : start + BLOCK])
            _exclude(gap, own, start)
            flat = gap.ravel()
            hits = np.flatnonzero(np.greater(flat, 0, out=self._signs[: len(flat)]))
            number = hits // gap.shape[1]
            parts.append((number, hits - (number * gap.shape[1] - start), flat[hits]))
            held += len(hits)
            if held > _HELD * count * kept:
                index, best = _largest(parts, count, kept)
                change = np.maximum(best.min(axis=1), 0)
                query[:, -2] -= change
                bound = bound - change
                number, place = np.nonzero(best >= change[:, None])
                parts = [(number, index[number, place], best[number, place] - change[number])]
                held = len(number)
        index, best = _largest(parts, count, kept)
        best[np.isinf(best).any(axis=1)] = -np.inf
        return index, bound[:, None] - best

    def _whole(self, query: np.ndarray, kept: int, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The same by selection from all rows, which needs no bound: for small tables and many neighbours."""
        index, squared = np.empty((len(query), kept), dtype=np.int64), np.empty((len(query), kept), dtype=self.dtype)
        # Rounding must not make a distance negative, see below; ``query`` holds -|x|^2.
        margin = _TINY - 8 * np.finfo(self.dtype).eps * query[:, -2:-1]
        query = query.copy()
        query[:, -2:-1] -= margin
        step, tile = max(1, _PRODUCT // len(self)), max(1, _TILE // len(self))
        for start in range(0, len(query), step):
            gaps = self._product(query[start : start + step], self.table)
            _exclude(gaps, None if own is None else own[start : start + step], 0)
            for first in range(0, len(gaps), tile):
                rows = slice(start + first, start + min(first + tile, len(gaps)))
                index[rows], squared[rows] = self._smallest(gaps[first : first + tile], kept)
        return index, squared - margin

    def _smallest(self, gap: np.ndarray, kept: int) -> tuple[np.ndarray, np.ndarray]:
        """(n, kept) rows and squared distances of the largest gaps (n, N), all negative."""
        # The bits of negative numbers, read as integers, increase with the distance, and integers are faster to select.
        bits = gap.view(f"i{self.dtype.itemsize}")
        if bits.size > len(self._copies):
            self._copies = np.empty(bits.size, dtype=bits.dtype)
        copy = self._copies[: bits.size].reshape(bits.shape)
        np.copyto(copy, bits)
        copy.partition(kept - 1, axis=1)
        signs = self._signs[: bits.size].reshape(bits.shape)
        hits = np.flatnonzero(np.less_equal(bits, copy[:, kept - 1 : kept], out=signs).ravel())
        if len(hits) == len(gap) * kept:
            found = hits.reshape(len(gap), kept)
            return found - np.arange(len(gap))[:, None] * len(self), -gap.ravel()[found]
        number = hits // len(self)  # ties
        index, best = _largest([(number, hits - number * len(self), gap.ravel()[hits])], len(gap), kept)
        return index, -best

    def _product(self, query: np.ndarray, table: np.ndarray) -> np.ndarray:
        """(n, B) bounds minus squared distances, until the next call. torch's product is faster than NumPy's here."""
        size = len(query) * len(table)
        if size > len(self._products):
            self._products, self._signs = np.empty(size, dtype=self.dtype), np.empty(size, dtype=bool)
        out = self._products[:size].reshape(len(query), len(table))
        torch.mm(torch.from_numpy(query), torch.from_numpy(table).T, out=torch.from_numpy(out))
        return out


def _exclude(gap: np.ndarray, own: np.ndarray | None, start: int) -> None:
    """Take from each query its own row."""
    if own is not None:
        inside = np.flatnonzero((own >= start) & (own < start + gap.shape[1]))
        gap[inside, own[inside] - start] = -np.inf


def _largest(parts: Parts, count: int, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, kept) rows and gaps of the candidates with the largest gaps of each query, padded with minus infinity."""
    number, rows, gaps = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(parts) > 1:
        order = np.argsort(number.astype(np.min_scalar_type(count)), kind="stable")  # of 16 bits: a radix sort
        rows, gaps = rows[order], gaps[order]
    counts = np.bincount(number, minlength=count)
    first = np.cumsum(counts) - counts
    width = max(int(counts.max()), kept)
    table = np.full((count, width), -np.inf, dtype=gaps.dtype)
    table.ravel()[np.arange(len(gaps)) + np.repeat(np.arange(count) * width - first, counts)] = gaps
    place = np.argpartition(table, width - kept, axis=1)[:, width - kept :]
    # A padded place may point beyond its query's candidates, never beyond the last row.
    return rows[np.minimum(place + first[:, None], max(len(rows) - 1, 0))], np.take_along_axis(table, place, axis=1)
