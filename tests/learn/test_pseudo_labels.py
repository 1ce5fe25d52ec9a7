import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.learn.config import PseudoLabelConfig
from posecov.learn.pseudo_labels import (
    find_neighbours,
    fit_whitening,
    pseudo_covariances,
    pseudo_label_roots,
    roots,
    shuffled,
    whiten,
)
from posecov.learn.pseudo_labels.covariance import Everybody
from posecov.learn.pseudo_labels.neighbours import Neighbours, report


def test_whitened_distance_is_mahalanobis():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) + 5
    white = whiten(x, 3)
    inverse = np.linalg.inv(np.cov(x.T))
    difference = x[3] - x[10]
    assert np.square(white[3] - white[10]).sum() == pytest.approx(difference @ inverse @ difference)


def test_constant_and_identical_columns_do_no_harm():
    x = np.random.default_rng(0).normal(size=(50, 2))
    white = whiten(np.column_stack([x, x[:, 0], np.full(50, 7.0)]), 4)
    assert white.shape == (50, 2)
    with pytest.raises(PosecovError, match="same for everybody"):
        whiten(np.ones((10, 3)), 2)


def test_nearest_others_and_temperature():
    points = np.random.default_rng(0).normal(size=(1200, 3))
    found = find_neighbours(points, 20, 0.6)
    distance = np.linalg.norm(points[700] - points, axis=1)
    assert set(found.index[700]) == set(np.argsort(distance)[1:21])
    assert not (found.index == np.arange(1200)[:, None]).any()
    assert found.effective.mean() == pytest.approx(12, rel=1e-3)
    np.testing.assert_allclose(found.weight.sum(1), 1)
    near, far = np.argsort(distance[found.index[700]])[[0, -1]]
    assert found.weight[700, near] > found.weight[700, far]


def test_a_single_neighbour_is_the_nearest():
    found = find_neighbours(np.array([[0.0], [1.0], [3.0], [3.5]]), 1, None)
    assert found.index[:, 0].tolist() == [1, 0, 3, 2]
    assert found.recall == 1


def test_many_dimensions_do_not_collapse():
    found = find_neighbours(np.random.default_rng(0).normal(size=(800, 64)), 50, 0.5)
    assert np.median(found.effective) > 15


def test_too_few_people():
    with pytest.raises(PosecovError, match="lower --pseudo-labels"):
        find_neighbours(np.zeros((5, 2)), 5, 0.5)


def test_shuffled_keeps_weights_and_excludes_oneself():
    found = find_neighbours(np.random.default_rng(0).normal(size=(100, 2)), 10, 0.5)
    control = shuffled(found, 1)
    assert control.recall == 1
    assert not (control.index == np.arange(100)[:, None]).any()
    np.testing.assert_array_equal(control.weight, found.weight)
    assert (control.index != found.index).mean() > 0.8


def test_a_shuffled_table_has_nobody_as_their_own_neighbour():
    index = np.tile(np.arange(3), (4, 20))
    for rows, own in ((0, False), (4, True)):
        mixed = shuffled(Neighbours(index, np.full(index.shape, 1 / 60), 1.0, *([rows] if rows else [])), 0)
        assert (mixed.index == np.arange(4)[:, None]).any() == own
        assert set(np.unique(mixed.index)) == {0, 1, 2, 3}


def test_fewer_than_three_effective_neighbours_are_warned_of(caplog):
    for effective, warned in ((3.1, False), (2.9, True)):
        caplog.clear()
        assert report(np.linspace(effective - 1, effective + 1, 11), 20, 1.0) == pytest.approx((effective, effective - 0.8))
        assert ("collapsed" in caplog.text) == warned


def test_recovers_a_local_covariance():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(6000, 1))
    correlation = np.where(x[:, 0] > 0, 0.8, -0.8)
    a, b = rng.normal(size=(2, 6000))
    values = np.column_stack([2 * a, 2 * (correlation * a + np.sqrt(1 - correlation**2) * b)])
    neighbours = find_neighbours(whiten(x, 1), 400, 0.8)
    found = pseudo_covariances(values, neighbours, False, 0.0)
    right = np.abs(x[:, 0] - 0.5).argmin()
    np.testing.assert_allclose(found[right], [[4, 3.2], [3.2, 4]], rtol=0.25)
    left = np.abs(x[:, 0] + 0.5).argmin()
    assert found[left, 0, 1] < -2.2


def test_centred_is_unbiased_and_residuals_keep_their_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 1)) + 10
    neighbours = find_neighbours(rng.normal(size=(2000, 2)), 5, 0.99)
    centred = pseudo_covariances(values, neighbours, True, 0.0)[:, 0, 0]
    assert centred.mean() == pytest.approx(1.0, abs=0.08)
    assert pseudo_covariances(values, neighbours, False, 0.0)[:, 0, 0].mean() == pytest.approx(101, rel=0.02)


def test_missing_labels_take_part_with_what_they_have():
    rng = np.random.default_rng(0)
    clean = rng.multivariate_normal([0, 0, 0], [[1, 0.7, 0], [0.7, 1, 0], [0, 0, 4]], size=3000)
    values = clean.copy()
    values[rng.random(3000) < 0.5, 0] = np.nan
    neighbours = find_neighbours(rng.normal(size=(3000, 2)), 600, 0.9)
    found = pseudo_covariances(values, neighbours, False, 0.0).mean(axis=0)
    np.testing.assert_allclose(found, clean.T @ clean / 3000, atol=0.1)


def test_a_pair_that_nobody_has_and_shrinkage_stay_definite():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 4))
    values[::2, 0] = np.nan
    values[1::2, 1] = np.nan
    neighbours = find_neighbours(rng.normal(size=(60, 2)), 3, 0.9)
    found = pseudo_covariances(values, neighbours, False, 0.2)
    assert np.isfinite(found).all()
    assert (np.linalg.eigvalsh(found) > 0).all()
    plain = pseudo_covariances(values[:, 2:], neighbours, False, 0.0)
    shrunk = pseudo_covariances(values[:, 2:], neighbours, False, 0.5)
    np.testing.assert_allclose(shrunk[:, 0, 1], plain[:, 0, 1] / 2, atol=2e-3)


def test_roots_are_symmetric_roots():
    rng = np.random.default_rng(0)
    matrix = np.cov(rng.normal(size=(6, 20)))[None]
    root = roots(matrix)
    np.testing.assert_allclose(root[0] @ root[0], matrix[0], atol=1e-5)
    np.testing.assert_allclose(root, np.swapaxes(root, 1, 2), atol=1e-6)


def test_whole_recipe_tells_shuffled_from_real():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 3))
    sigma = np.exp(x[:, :1])
    values = sigma * rng.normal(size=(1500, 4))
    config = PseudoLabelConfig(neighbours=60, dimensions=3, effective=0.7)
    control = PseudoLabelConfig(neighbours=60, dimensions=3, effective=0.7, shuffled=True)
    real, random = (pseudo_label_roots(x, values, c, 0)[:, 0, 0] for c in (config, control))
    assert np.corrcoef(np.log(real), x[:, 0])[0, 1] > 0.8
    assert abs(np.corrcoef(np.log(random), x[:, 0])[0, 1]) < 0.15


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_everybody_is_all_rows_of_a_table_that_is_read_in_parts(missing, centred):
    rng = np.random.default_rng(5)
    values = rng.normal(size=(66_000, 3)) @ rng.normal(size=(3, 3)) + [1, -2, 0]
    values[65_600:] *= 40  # What lies beyond the first part counts most.
    if missing:
        values[::3, 0], values[1::3, 1] = np.nan, np.nan
    found = Everybody(values, centred, pooled=True)
    offsets = values - (np.nanmean(values, axis=0) if centred else 0.0)
    np.testing.assert_allclose(found.variance, np.nanmean(np.square(offsets), axis=0), rtol=1e-9)
    sigma = np.sqrt(found.variance)
    for a in range(3):
        for b in range(3):
            together = np.nanmean(offsets[:, a] * offsets[:, b]) / sigma[a] / sigma[b]
            assert found.correlation[a, b] == pytest.approx(np.clip(together, -1, 1), abs=1e-9)


def test_a_large_table_is_whitened_and_checked_to_its_end():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(66_000, 3)).astype(np.float32)
    x[65_600:] += [30, 0, 0]
    map_ = fit_whitening(x)
    white = map_.apply(x)
    assert white.dtype == np.float32
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-3)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(white[65_900], (x[65_900] - x.mean(axis=0, dtype=float)) @ map_.matrix, rtol=1e-4, atol=1e-4)
    x[65_540, 1] = np.nan
    with pytest.raises(PosecovError, match="features, row 65540: NaN"):
        map_.apply(x)


def test_a_column_that_is_constant_but_for_rounding_is_no_direction():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 2))
    rounded = 1e14 + rng.choice([0.0, 1 / 64], size=(200, 1))
    assert np.ptp(rounded) > 0
    assert fit_whitening(np.hstack([features, rounded])).matrix.shape == (3, 2)
