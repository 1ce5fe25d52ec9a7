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


def test_units_may_be_shorter_than_a_pixel():
    per_joint, share = metrics.pck(np.array([[0.05, 0.2]]), np.array([0.5]))
    np.testing.assert_array_equal(per_joint, [1, 0])
    assert share == 0.5
    truth, labelled = np.array([[[0.0, 0.0], [0.3, 0.4]]] * 3), np.ones((3, 2), dtype=bool)
    known = np.array([0.25, 0.0, np.nan])
    np.testing.assert_allclose(metrics.head_sizes(truth, labelled, ("head_top", "neck"), known), [0.25, 0.5, 0.5])


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


def test_a_joint_that_one_person_has_or_nobody_breaks_no_figure():
    masses = np.array([[0.9, 0.1, np.nan], [0.1, np.nan, np.nan], [0.1, np.nan, np.nan]])
    sigmas = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    # The only one is its joint's least sure, too.
    np.testing.assert_allclose(metrics.coverage_by_sigma(masses, sigmas, 0.5, bins=3), [0, 1, 1])
    # A single person has no rank.
    errors = np.where(np.isnan(masses), np.nan, sigmas)
    assert metrics.rank_correlation(sigmas, errors) == pytest.approx(1)


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


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_rank_correlation_has_no_unit(unit):
    rng = np.random.default_rng(4)
    expected = rng.random((20, 1))
    assert metrics.rank_correlation(unit * expected, unit * expected**2) == pytest.approx(1)
    rounded = np.full((20, 1), 3.0) * (1 + 1e-13 * rng.standard_normal((20, 1)))
    assert metrics.rank_correlation(unit * rounded, expected) == 0
    assert metrics.rank_correlation(np.zeros((20, 1)), expected) == 0


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


def test_bootstrap_intervals_are_central():
    assert metrics.percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    low, high = metrics.percentile_interval(np.arange(1001.0))
    assert (low, high) == pytest.approx((25, 975))
    # One term in all is counted once.
    assert metrics.bootstrap_interval(np.array([3.0]), np.array([1.0])) == (3, 3)


def test_heads_are_those_annotated_or_head_top_to_neck():
    truth = np.array([[[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]] * 3)
    labelled = np.array([[True, True, True], [True, False, True], [True, True, True]])
    for names in (("head_top", "neck", "hip"), ("head_top", "upper_neck", "hip")):
        np.testing.assert_allclose(metrics.head_sizes(truth, labelled, names), [5, np.nan, 5])
        known = np.array([np.nan, np.nan, 7.0])
        np.testing.assert_allclose(metrics.head_sizes(truth, labelled, names, known), [5, np.nan, 7])
    # Neck to upper neck is no head, and a skeleton may have neither.
    for names in (("upper_neck", "neck", "hip"), ("head_top", "knee", "hip"), ("nose", "knee", "hip")):
        assert np.isnan(metrics.head_sizes(truth, labelled, names)).all()
    # MPII: 0.6 of the diagonal of a head box of 30 x 40.
    assert metrics.head_box_size(np.array([1.0, 2.0, 30.0, 40.0])) == pytest.approx(30)


def round_people(count, joints, sigma, dof=math.inf):
    return Law(
        np.zeros((count, 2 * joints)), np.broadcast_to(sigma**2 * np.eye(2 * joints), (count, 2 * joints, 2 * joints)), dof
    )


def test_energy_score_of_a_round_gaussian():
    # |X| of a d-dimensional standard normal has mean sqrt(2) G((d + 1) / 2) / G(d / 2); X - X' is sqrt(2) as wide. Away from
    # the mean, |X - y| of two dimensions follows Rice's law.
    sigma, away = 3.0, 5.0
    norm = {d: math.sqrt(2) * math.gamma((d + 1) / 2) / math.gamma(d / 2) for d in (2, 4)}
    values = np.array([[0.0, 0, 0, 0], [away, 0, np.nan, np.nan], [np.nan] * 4])
    whole, single, chunks = metrics.energy_scores(round_people(3, 2, sigma), values, draws=40_000, seed=1)
    rice = sigma * stats.rice(away / sigma).mean()
    expected = [sigma * norm[4] * (1 - 1 / math.sqrt(2)), rice - sigma * norm[2] / math.sqrt(2), np.nan]
    np.testing.assert_allclose(whole, expected, rtol=0.01)
    centre = sigma * norm[2] * (1 - 1 / math.sqrt(2))
    np.testing.assert_allclose(single, [[centre, centre], [expected[1], np.nan], [np.nan, np.nan]], rtol=0.01)
    # The chunks' spread tells how much the draws matter.
    np.testing.assert_allclose(whole[:2], chunks[:, :2].mean(axis=0))
    assert chunks.shape == (1250, 3)
    error = chunks[:, :2].std(axis=0) / math.sqrt(len(chunks))
    assert (np.abs(whole[:2] - expected[:2]) < 4 * error).all()


@pytest.mark.parametrize("dof", [4.0, math.inf])
def test_the_energy_score_prefers_the_law_that_the_values_come_from(dof):
    rng = np.random.default_rng(4)
    factor = rng.standard_normal((6, 6))
    true = Law(np.zeros((800, 6)), np.broadcast_to(factor @ factor.T, (800, 6, 6)), dof)
    values = true.sample(rng, 1)[0]
    others = [Law(true.mean, scale * true.scatter, dof) for scale in (0.3, 3.0)]
    others += [
        Law(true.mean + 1, true.scatter, dof),
        Law(true.mean, np.linalg.det(true.scatter)[0] ** (1 / 6) * np.eye(6), dof),
    ]
    best = metrics.energy_scores(true, values)[0].mean()
    for other in others:
        scatter = np.broadcast_to(other.scatter, true.scatter.shape)
        assert metrics.energy_scores(Law(other.mean, scatter, dof), values)[0].mean() > best
    again = metrics.energy_scores(true, values, draws=96, seed=7)[0]
    np.testing.assert_array_equal(again, metrics.energy_scores(true, values, draws=70, seed=7)[0])


def test_limb_vectors_are_calibrated_only_if_the_joint_covariance_is():
    rng = np.random.default_rng(5)
    root = rng.standard_normal((6, 3)) @ rng.standard_normal((3, 6)) + 0.5 * rng.standard_normal((6, 6))
    true = Law(rng.uniform(0, 20, (4000, 6)), np.broadcast_to(root @ root.T, (4000, 6, 6)), 5.0)
    values = true.sample(rng, 1)[0]
    values[:1000, 2:4] = np.nan
    # The same joints, each with its own block, but independent of each other.
    blocks = np.kron(np.eye(3), np.ones((2, 2)))
    for people, right in ((true, True), (Law(true.mean, true.scatter * blocks, 5.0), False)):
        single = people.joint_masses(values)
        masses = metrics.limb_masses(people, values, [(0, 1), (2, 0)])
        assert np.isnan(masses[:1000, 0]).all()
        assert not np.isnan(masses[:, 1]).any()
        assert stats.kstest(single[:, 0], "uniform").pvalue > 1e-3
        for limb in masses.T:
            assert (stats.kstest(limb[~np.isnan(limb)], "uniform").pvalue > 1e-3) == right
    assert metrics.limb_masses(true, values, []).shape == (4000, 0)


def test_the_risk_curve_by_hand():
    sigmas, errors = np.array([[1.0, 4.0], [3.0, 2.0], [9.0, 5.0]]), np.array([[0.0, 6.0], [np.nan, 2.0], [12.0, 0.0]])
    curve = metrics.risk_curve(sigmas, errors)
    np.testing.assert_allclose(curve, [0, 1, 8 / 3, 2, 4])
    assert metrics.error_left(curve) == pytest.approx(0.5)
    assert metrics.error_left(curve, 1.0) == 1
    # Joints of one sigma count with their mean, in whatever order they come; so a constant sigma drops nothing.
    constant = np.array([[0.1, np.nextafter(0.1, 1)], [0.1, 0.1], [np.nextafter(0.1, 0), 0.1]])
    np.testing.assert_allclose(metrics.risk_curve(constant, errors), np.full(5, 4.0))
    # Nothing is better than the order of the errors themselves.
    assert (metrics.risk_curve(errors, errors) <= curve + 1e-12).all()
    assert math.isnan(metrics.error_left(metrics.risk_curve(sigmas, np.full((3, 2), np.nan))))


def test_error_left_of_a_known_law():
    # Two kinds of joints, four times as many sure ones, with errors of mean 1 and 3 on average: 1 of 1.4 is left.
    rng = np.random.default_rng(7)
    sigmas = np.where(np.arange(50_000) % 5 == 0, 3.0, 1.0)[:, None]
    errors = sigmas * rng.exponential(size=sigmas.shape)
    assert metrics.error_left(metrics.risk_curve(sigmas, errors)) == pytest.approx(1 / 1.4, abs=0.01)


def test_sigma_bins_of_a_law_with_the_right_second_moments_lie_on_the_diagonal():
    rng = np.random.default_rng(8)
    sigma = rng.uniform(1, 5, (20_000, 2))
    errors = np.linalg.norm(rng.standard_normal((20_000, 2, 2)), axis=-1) * sigma
    errors[::3, 0] = np.nan
    told, found = metrics.sigma_bins(sigma, errors)
    assert len(told) == 10
    assert (np.diff(told) > 0).all()
    np.testing.assert_allclose(found, told, rtol=0.05)
    assert len(metrics.sigma_bins(sigma[:2], errors[:2])[0]) == 3


def test_nobody_has_no_share():
    assert math.isnan(metrics.coverage(np.full(3, np.nan), 0.5))
    assert math.isnan(metrics.pck(np.ones((2, 3)), np.array([np.nan, 0.0]))[1])


@pytest.mark.parametrize(("count", "nominal"), [(7, 0.9), (1000, 0.5), (1000, 0.95)])
def test_the_binomial_band_is_scipys(count, nominal):
    low, high = np.array(metrics.binomial_band(count, nominal)) * count
    assert stats.binom.cdf(low - 1, count, nominal) <= 0.025 < stats.binom.cdf(low, count, nominal)
    assert stats.binom.cdf(high - 1, count, nominal) < 0.975 <= stats.binom.cdf(high, count, nominal)
