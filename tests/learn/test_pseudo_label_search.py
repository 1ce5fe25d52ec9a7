import sys
import types

import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.learn.benchmarks.pseudo_labels import measure
from posecov.learn.pseudo_labels import approximate, find_neighbours, fit_whitening, search, shuffled
from posecov.learn.pseudo_labels.search import ExactSearch


def brute(points, queries, k, own=None):
    distance = np.square(queries[:, None].astype(np.float64) - points[None]).sum(axis=2)
    if own is not None:
        distance[np.arange(len(queries)), own] = np.inf
    index = np.argsort(distance, axis=1)[:, :k]
    return index, np.take_along_axis(distance, index, axis=1)


@pytest.mark.parametrize(("rows", "size", "k"), [(300, 4, 20), (9000, 3, 10), (9000, 40, 10), (6000, 8, 700), (9000, 1, 30)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exact_search_is_brute_force(rows, size, k, dtype):
    points = (np.random.default_rng(0).normal(size=(rows, size)) + 30).astype(dtype)
    own = np.r_[100:140, rows - 40 : rows]
    index, squared = ExactSearch(points).search(points[own], k, own)
    true, distance = brute(points, points[own], k, own)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(index, true, strict=True)]) > 0.9995
    np.testing.assert_allclose(squared, distance, rtol=2e-5, atol=1e-12)


def test_ordered_tables_bad_luck_and_tight_memory(monkeypatch):
    # A table in order of distance, a sample that knows only the far end, and room for few candidates.
    points = np.sort(np.random.default_rng(0).normal(size=(9000, 1)), axis=0) * np.ones(3)
    monkeypatch.setattr(search, "_HELD", 2)
    found = ExactSearch(points)
    for part in (points[-1000:], points[:1000]):
        found.sample = found._rows(part - found.centre)
        index, squared = found.search(points[:5], 12)
        np.testing.assert_allclose(squared, brute(points, points[:5], 12)[1], rtol=1e-4)
        assert all(len(set(row)) == 12 for row in index)


def test_cancellation_does_not_hide_neighbours():
    # Two tight clouds far apart: float32 products cannot tell who is near in them.
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5000, 2)) * 1e-4 + np.where(rng.random(5000) < 0.5, 100.0, -100.0)[:, None]
    own = np.arange(60)
    index, squared = ExactSearch(points).search(points[own], 15, own)
    true, distance = brute(points, points[own], 15, own)
    np.testing.assert_allclose(squared, distance, rtol=1e-3)
    assert np.mean(np.sort(index) == np.sort(true)) > 0.999


def test_the_nearest_of_far_neighbours_are_measured_exactly():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 3))
    points[1::2] = points[::2] + 1e-3 * rng.normal(size=(200, 3))
    own = np.arange(60)
    squared = ExactSearch(points).search(points[own], 15, own)[1]
    np.testing.assert_allclose(squared, brute(points, points[own], 15, own)[1], rtol=2e-5)


def test_duplicates_are_neighbours_at_distance_zero():
    points = np.repeat(np.random.default_rng(0).normal(size=(100, 5)), 30, axis=0)
    found = find_neighbours(points, 20, 0.8)
    assert (found.index // 30 == np.arange(3000)[:, None] // 30).all()
    assert not (found.index == np.arange(3000)[:, None]).any()
    np.testing.assert_allclose(found.weight, 1 / 20)


def test_held_out_queries_and_own_row():
    rng = np.random.default_rng(0)
    table, asked = rng.normal(size=(500, 3)), rng.normal(size=(40, 3))
    found = find_neighbours(table, 8, 0.7, asked)
    np.testing.assert_array_equal(found.index, brute(table, asked, 8)[0])
    assert found.rows == 500
    assert shuffled(found, 0).index.max() > 450
    itself = find_neighbours(table, 8, None, own=True)
    np.testing.assert_array_equal(itself.index[:, 0], np.arange(500))
    distance = brute(table, table[:1], 8)[1][0]
    np.testing.assert_allclose(itself.weight[0], np.exp(-distance) / np.exp(-distance).sum(), rtol=1e-4)


def test_collapse_is_reported(caplog):
    find_neighbours(np.random.default_rng(0).normal(size=(2000, 32)), 50, None, own=True)
    assert "collapsed onto 1.0 neighbours" in caplog.text
    assert "10th percentile" in caplog.text


def test_mahalanobis_does_not_depend_on_units():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4))
    units = np.array([1e-6, 1, 1e3, 1e6])
    one, other = (np.square(fit_whitening(t).apply(t)[0] - fit_whitening(t).apply(t)[7]).sum() for t in (x, x * units + 5))
    assert one == pytest.approx(other, rel=1e-6)
    difference = x[0] - x[7]
    assert one == pytest.approx(difference @ np.linalg.inv(np.cov(x.T)) @ difference)
    wide = np.column_stack([x, np.full(300, 0.1), x[:, 0]])
    assert fit_whitening(wide).apply(wide).shape == (300, 4)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_numbers(wrong):
    x = np.random.default_rng(0).normal(size=(50, 3))
    bad = x.copy()
    bad[7, 1] = wrong
    with pytest.raises(PosecovError, match="features, row 7"):
        fit_whitening(bad)
    with pytest.raises(PosecovError, match="features, row 7"):
        find_neighbours(bad, 5, 0.5)
    with pytest.raises(PosecovError, match="queries, row 7"):
        find_neighbours(x, 5, 0.5, bad)


def test_tables_that_cannot_be_searched():
    x = np.random.default_rng(0).normal(size=(10, 3))
    with pytest.raises(PosecovError, match="single sample"):
        fit_whitening(x[:1])
    with pytest.raises(PosecovError, match="single sample"):
        find_neighbours(x[:1], 1, 0.5)
    with pytest.raises(PosecovError, match="neighbours asked for among 10"):
        find_neighbours(x, 10, 0.5)
    assert find_neighbours(x, 10, 0.5, x + 0.1).index.shape == (10, 10)
    with pytest.raises(PosecovError, match="2 columns"):
        find_neighbours(x, 3, 0.5, x[:, :2])


class _Cells:
    """Stands in for faiss: an index that misses every row beyond ``share`` of the table."""

    def __init__(self, share, found=None):
        self.share, self.found, self.rows = share, found, []

    def train(self, rows): ...

    def add(self, rows):
        self.rows.append(rows)

    def search(self, queries, k):
        table = np.concatenate(self.rows)
        table = table[: int(self.share * len(table))]
        index, squared = brute(table, queries, k)
        if self.found is not None:
            index[::2, self.found :] = -1  # As faiss says that its cells held no more.
        return squared, index


@pytest.mark.parametrize(("share", "recall"), [(0.98, 0.98), (0.5, 1.0)])
def test_approximate_search_is_used_only_when_it_finds_enough(monkeypatch, share, recall):
    faiss = types.ModuleType("faiss")
    faiss.omp_set_num_threads = lambda count: None
    faiss.IndexFlatL2 = lambda size: None
    faiss.IndexIVFFlat = lambda flat, size, cells: _Cells(share)
    faiss.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "faiss", faiss)
    monkeypatch.setattr(approximate, "APPROXIMATE_ROWS", 1000)
    points = np.random.default_rng(0).normal(size=(1500, 3))
    found = find_neighbours(points, 10, 0.8)
    assert found.recall == pytest.approx(recall, abs=0.01)
    assert not (found.index == np.arange(1500)[:, None]).any()
    true = brute(points, points[:50], 10, np.arange(50))[0]
    hits = np.mean([np.isin(a, b).mean() for a, b in zip(true, found.index, strict=False)])
    assert hits == pytest.approx(recall, abs=0.03)
    assert find_neighbours(points, 10, 0.8, approximate=False).recall == 1.0


@pytest.mark.parametrize("own", [None, np.arange(40)])
def test_queries_whose_cells_held_too_few_are_searched_exactly(monkeypatch, own):
    faiss = types.ModuleType("faiss")
    faiss.omp_set_num_threads = lambda count: None
    faiss.IndexFlatL2 = lambda size: None
    faiss.IndexIVFFlat = lambda flat, size, cells: _Cells(1.0, found=4)
    monkeypatch.setitem(sys.modules, "faiss", faiss)
    points = np.random.default_rng(1).normal(size=(900, 3)) + 50
    index, squared = approximate.ApproximateSearch(points, 10).search(points[:40], 10, own)
    true, distance = brute(points, points[:40], 10, own)
    np.testing.assert_array_equal(index, true)
    np.testing.assert_allclose(squared, distance, rtol=1e-9, atol=1e-12)


def test_benchmark_figures():
    found = measure((1000,), size=8, k=10, queries=64, memory=False)
    assert found["pseudo_labels_recall"] == 1.0
    assert found["pseudo_labels_over_matmul_1e3"] > 0
