"""Metrics by hand, on two joints where possible, and on samples of the law."""

import math

import numpy as np
import pytest
from scipy import stats

from posecov import metrics
from posecov.law import Law


def test_errors_pck_and_mean_error_by_hand():
    truth = np.array([[[0.0, 0.0], [10.0, 0.0]], [[5.0, 5.0], [np.nan, np.nan]], [[1.0, 1.0], [2.0, 2.0]]])
    means = np.array([[[3.0, 4.0], [10.0, 1.0]], [[5.0, 7.0], [0.0, 0.0]], [[1.0, 1.0], [9.0, 9.0]]])
    labelled = np.array([[True, True], [True, False], [True, True]])
    errors = metrics.keypoint_errors(means, truth, labelled)
    np.testing.assert_allclose(errors, [[5, 1], [2, np.nan], [0, 7 * 2**0.5]])
    assert metrics.mean_error(errors) == pytest.approx((5 + 1 + 2 + 0 + 7 * 2**0.5) / 5)
    # Torsos 20, 10 (where an error of exactly 0.2 torsos does not count), and one person without a torso.
    per_joint, mean = metrics.pck(errors, np.array([20.0, 10.0, np.nan]))
    np.testing.assert_allclose(per_joint, [0, 1])
    assert mean == pytest.approx(1 / 3)
    assert np.isnan(metrics.pck(errors[1:2], np.array([20.0]))[0][1])


def test_labels_that_are_missing_are_nan():
    values = metrics.label_values(np.array([[[1.0, 2.0], [7.0, 7.0]]]), np.array([[True, False]]))
    np.testing.assert_array_equal(values, [[1, 2, np.nan, np.nan]])


def test_nll_counts_labelled_coordinates_in_the_frame_asked_for():
    people = Law(np.zeros((3, 4)), np.broadcast_to(4 * np.eye(4), (3, 4, 4)), math.inf)
    values = np.array([[2.0, 0, 0, 0], [2.0, 0, np.nan, np.nan], [np.nan] * 4])
    nll = metrics.nll_per_person(people, values)
    one = np.log(2 * np.pi) / 2 + np.log(2)
    np.testing.assert_allclose(nll, [4 * one + 0.5, 2 * one + 0.5, np.nan])
    scale = np.array([10.0, 0.1, 1.0])
    scaled = Law(people.mean, people.scatter * scale[:, None, None] ** 2, math.inf)
    np.testing.assert_allclose(
        metrics.nll_per_person(people, values, scale), metrics.nll_per_person(scaled, values * scale[:, None])
    )


def test_tac_of_two_joints_by_hand():
    # x of both joints correlated 0.5, y not at all: hiding either leaves x minus half of the other's, and all of y.
    scatter = np.eye(4)
    scatter[0, 2] = scatter[2, 0] = 0.5
    people = Law(np.zeros((2, 4)), np.broadcast_to(scatter, (2, 4, 4)), 5.0)
    values = np.array([[4.0, 3.0, 8.0, 1.0], [4.0, 3.0, np.nan, np.nan]])
    np.testing.assert_allclose(metrics.tac_errors(people, values), [[3, np.hypot(6, 1)], [5, np.nan]])


def test_coverage_of_a_calibrated_law_and_of_one_that_is_too_narrow():
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((6, 6))
    true = Law(np.zeros(6), factor @ factor.T, 5.0)
    values = true.sample(rng, 4000)
    values[::3, 2:4] = np.nan
    for shrink, right in ((1.0, True), (0.5, False)):
        people = Law(np.zeros(values.shape), np.broadcast_to(shrink * true.scatter, (4000, 6, 6)), 5.0)
        joint, single = people.mass(values), people.joint_masses(values)
        assert np.isnan(single[::3, 1]).all()
        for mass in (0.5, 0.9):
            low, high = metrics.binomial_band(4000, mass, 0.999)
            assert (low <= metrics.coverage(joint, mass) <= high) == right
            for share in metrics.coverage_per_joint(single, mass):
                assert (low - 0.01 <= share <= high + 0.01) == right


def test_coverage_leaves_out_what_is_not_labelled():
    masses = np.array([[0.2, np.nan, np.nan], [0.5, 0.95, np.nan]])
    assert metrics.coverage(masses, 0.5) == pytest.approx(2 / 3)
    np.testing.assert_allclose(metrics.coverage_per_joint(masses, 0.5), [1, 0, np.nan])


def test_coverage_by_sigma_finds_where_sigmas_are_wrong():
    masses = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, np.nan], [0.9, 0.1]])
    # The surest two of each joint: people 1 and 2 of the first, 1 (and no one else within a half) of the second.
    sigmas = np.array([[4.0, 2.0], [1.0, 1.0], [2.0, 0.1], [3.0, 3.0]])
    np.testing.assert_allclose(metrics.coverage_by_sigma(masses, sigmas, 0.5, bins=2), [2 / 3, 2 / 4])


def test_the_binomial_band_holds_its_confidence():
    low, high = metrics.binomial_band(1000, 0.5)
    # 1.96 sqrt(0.25 / 1000) = 3.1 points.
    assert (low, high) == pytest.approx((0.469, 0.531), abs=0.001)
    inside = stats.binom.cdf(high * 1000, 1000, 0.5) - stats.binom.cdf(low * 1000 - 1, 1000, 0.5)
    assert inside == pytest.approx(0.95, abs=0.01)


def test_sharpness_is_that_of_the_labelled_second_moments():
    # Scatter 2 at 4 degrees of freedom is a variance of 4.
    people = Law(np.zeros((2, 4)), np.stack([2 * np.eye(4), np.diag([2.0, 2.0, 50.0, 50.0])]), 4.0)
    values = np.array([[0.0] * 4, [0.0, 0.0, np.nan, np.nan]])
    assert metrics.sharpness(people, values) == pytest.approx(np.log(2))


def test_rank_correlation_is_spearmans_within_joints():
    rng = np.random.default_rng(1)
    sigmas, errors = rng.random((30, 2)), rng.random((30, 2)) + [0, 100]
    errors[:, 0] += sigmas[:, 0]
    errors[4, 0] = np.nan
    kept = np.delete(np.arange(30), 4)
    expected = [stats.spearmanr(sigmas[kept, 0], errors[kept, 0])[0], stats.spearmanr(sigmas[:, 1], errors[:, 1])[0]]
    assert metrics.rank_correlation(sigmas, errors) == pytest.approx(np.mean(expected))
    # Knowing which joint is hard is not rewarded.
    assert metrics.rank_correlation(np.broadcast_to([1.0, 50.0], (30, 2)), errors) == 0
    sizes = rng.random((30, 1))
    assert metrics.rank_correlation(0.1 * sizes / sizes, errors[:, 1:]) == 0


def test_bootstrap_interval_covers_the_mean():
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        values = rng.exponential(size=80)
        low, high = metrics.bootstrap_interval(values, np.ones(80), resamples=200, seed=3)
        inside += low <= 1 <= high
    assert 0.86 <= inside / 200 <= 0.99
    sums, counts = rng.random(50) * 3, np.full(50, 3)
    assert metrics.bootstrap_interval(sums, counts) == metrics.bootstrap_interval(sums, counts)
    low, high = metrics.bootstrap_interval(sums, counts)
    assert low < sums.sum() / 150 < high
