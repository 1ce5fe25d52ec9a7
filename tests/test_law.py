"""The law against SciPy, Monte Carlo, brute force and hand calculations."""

import math

import numpy as np
import pytest
from scipy import linalg, stats

from posecov import law
from posecov.errors import PosecovError

DOFS = [math.inf, 4.5, 1.5]


def random_scatter(rng, dimension, batch=()):
    factor = rng.standard_normal((*batch, dimension, dimension + 2))
    return factor @ np.swapaxes(factor, -1, -2) + 0.1 * np.eye(dimension)


def reference(mean, scatter, dof):
    return stats.multivariate_normal(mean, scatter) if math.isinf(dof) else stats.multivariate_t(mean, scatter, df=dof)


@pytest.mark.parametrize("dof", DOFS)
def test_nll_is_scipys(dof):
    rng = np.random.default_rng(0)
    scatter, residuals = random_scatter(rng, 6), 3 * rng.standard_normal((5, 6))
    expected = -reference(np.zeros(6), scatter, dof).logpdf(residuals)
    np.testing.assert_allclose(law.negative_log_likelihood(residuals, scatter, dof), expected, rtol=1e-12)


def test_nll_takes_a_scatter_and_degrees_of_freedom_for_each_person():
    rng = np.random.default_rng(1)
    scatter, residuals, dof = random_scatter(rng, 4, (3,)), rng.standard_normal((3, 4)), np.array([3.0, math.inf, 9.0])
    expected = [-reference(np.zeros(4), scatter[n], dof[n]).logpdf(residuals[n]) for n in range(3)]
    np.testing.assert_allclose(law.negative_log_likelihood(residuals, scatter, dof), expected, rtol=1e-12)


def test_large_degrees_of_freedom_reach_the_gaussian():
    rng = np.random.default_rng(2)
    scatter, residuals = random_scatter(rng, 28), rng.standard_normal(28)
    gaussian = law.negative_log_likelihood(residuals, scatter, math.inf)
    for dof in (1e8, 1e12, 1e15):
        assert law.negative_log_likelihood(residuals, scatter, dof) == pytest.approx(gaussian, abs=1e3 / dof + 1e-9)
        assert law.central_mass(30.0, 28, dof) == pytest.approx(stats.chi2(28).cdf(30.0), abs=1e-6)


@pytest.mark.parametrize("dof", DOFS)
def test_missing_coordinates_are_marginalised(dof):
    rng = np.random.default_rng(3)
    scatter, residuals = random_scatter(rng, 6, (4,)), rng.standard_normal((4, 6))
    missing = [[], [0, 1], [2, 5], [0, 1, 2, 3, 4, 5]]
    for row, rows in zip(residuals, missing, strict=True):
        row[rows] = np.nan
    nll, squared = law.negative_log_likelihood(residuals, scatter, dof), law.squared_mahalanobis(residuals, scatter)
    for n, rows in enumerate(missing[:3]):
        kept = np.setdiff1d(np.arange(6), rows)
        block, left = scatter[n][np.ix_(kept, kept)], residuals[n, kept]
        assert nll[n] == pytest.approx(-reference(np.zeros(len(kept)), block, dof).logpdf(left), rel=1e-12)
        assert squared[n] == pytest.approx(left @ np.linalg.inv(block) @ left, rel=1e-10)
    assert nll[3] == squared[3] == 0
    assert np.isnan(law.Law(np.zeros((4, 6)), scatter, dof).mass(residuals)[3])


@pytest.mark.parametrize("dof", DOFS)
@pytest.mark.parametrize("dimension", [2, 28])
def test_central_mass_is_the_radial_distribution_and_its_inverse(dof, dimension):
    squared = np.array([0.0, 0.3, 2.0, 30.0, 400.0])
    expected = stats.chi2(dimension).cdf(squared) if math.isinf(dof) else stats.f(dimension, dof).cdf(squared / dimension)
    np.testing.assert_allclose(law.central_mass(squared, dimension, dof), expected, atol=1e-13)
    if dimension == 2:
        np.testing.assert_allclose(law.circle_mass(squared, dof), expected, atol=1e-13)
    masses = np.array([1e-8, 0.05, 0.5, 0.95, 1 - 1e-9])
    back = law.central_mass(law.central_radius_squared(masses, dimension, dof), dimension, dof)
    np.testing.assert_allclose(back, masses, rtol=1e-8)
    assert law.central_mass(math.inf, dimension, dof) == 1
    far = 1 - 1e-9
    tail = stats.chi2(dimension).isf(1 - far) if math.isinf(dof) else dimension * stats.f(dimension, dof).isf(1 - far)
    assert law.central_radius_squared(far, dimension, dof) == pytest.approx(tail, rel=1e-7)


@pytest.mark.parametrize("mass", [0.0, 1.0, -0.1, math.nan])
def test_a_mass_outside_of_0_and_1_is_an_error(mass):
    with pytest.raises(PosecovError, match="mass"):
        law.central_radius_squared(mass, 2, 5.0)


@pytest.mark.parametrize("dof", [math.inf, 5.0])
def test_own_samples_are_uniform_jointly_and_for_each_joint(dof):
    rng = np.random.default_rng(4)
    one = law.Law(rng.standard_normal(8), random_scatter(rng, 8), dof)
    samples = one.sample(rng, 20_000)
    many = law.Law(np.broadcast_to(one.mean, samples.shape), np.broadcast_to(one.scatter, (20_000, 8, 8)), dof)
    assert stats.kstest(many.mass(samples), "uniform").pvalue > 1e-3
    for masses in many.joint_masses(samples).T:
        assert stats.kstest(masses, "uniform").pvalue > 1e-3
    moments = (samples - one.mean).T @ (samples - one.mean) / len(samples)
    np.testing.assert_allclose(moments, one.covariance, atol=0.1 * np.diag(one.covariance).max())


def test_covariance_is_nu_over_nu_minus_2_times_scatter():
    scatter = np.array([[2.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(law.covariance_from_scatter(scatter, 4.0), 2 * scatter)
    np.testing.assert_allclose(law.covariance_from_scatter(scatter, math.inf), scatter)
    np.testing.assert_allclose(law.scatter_from_covariance(law.covariance_from_scatter(scatter, 3.0), 3.0), scatter)
    for dof in (2.0, 1.0, math.nan):
        with pytest.raises(PosecovError, match="degrees of freedom"):
            law.covariance_from_scatter(scatter, dof)


@pytest.mark.parametrize("dof", DOFS)
def test_conditioning_is_joint_over_marginal_density(dof):
    rng = np.random.default_rng(5)
    mean, scatter = rng.standard_normal((3, 5)), random_scatter(rng, 5, (3,))
    values, known, rest = 4 * rng.standard_normal((3, 5)), [3, 1], [0, 2, 4]
    after = law.condition(mean, scatter, dof, known, values[:, known])
    conditional = law.negative_log_likelihood(values[:, rest] - after[0], after[1], after[2])
    joint = law.negative_log_likelihood(values - mean, scatter, dof)
    evidence = law.Law(mean, scatter, dof).marginal(known).negative_log_likelihood(values[:, known])
    np.testing.assert_allclose(conditional, joint - evidence, rtol=1e-10)
    assert after[2] == dof + 2


def test_conditioning_two_coordinates_by_hand():
    # x has variance 4, y has 1, covariance 1, x is seen 4 above its mean: y moves by 1/4 x 4; m = 4^2 / 4 = 4.
    scatter = np.array([[4.0, 1.0], [1.0, 1.0]])
    mean, conditional, dof = law.condition(np.zeros(2), scatter, 3.0, [0], np.array([4.0]))
    assert mean == pytest.approx([1.0])
    assert dof == 4
    assert conditional.item() == pytest.approx((1 - 1 / 4) * (3 + 4) / (3 + 1))
    assert law.condition(np.zeros(2), scatter, math.inf, [0], np.array([4.0]))[1].item() == pytest.approx(0.75)


def test_conditioning_on_nothing_and_on_everything():
    mean, scatter, dof = law.condition(np.arange(2.0), np.eye(2), 5.0, [], np.zeros(0))
    np.testing.assert_allclose(mean, [0, 1])
    np.testing.assert_allclose(scatter, np.eye(2))
    assert dof == 5
    assert law.condition(np.arange(2.0), np.eye(2), 5.0, [0, 1], np.ones(2))[0].shape == (0,)


def test_conditioning_keeps_calibration():
    rng = np.random.default_rng(6)
    one = law.Law(np.zeros(6), random_scatter(rng, 6), 4.0)
    samples = one.sample(rng, 20_000)
    many = law.Law(np.zeros((20_000, 6)), np.broadcast_to(one.scatter, (20_000, 6, 6)), 4.0)
    masses = many.condition([0, 1, 2], samples[:, :3]).mass(samples[:, 3:])
    assert stats.kstest(masses, "uniform").pvalue > 1e-3
    # Calibrated also where the evidence is surprising, which is where reusing the old radius fails.
    far = law.squared_mahalanobis(samples[:, :3], one.scatter[:3, :3]) > 10
    assert far.sum() > 500
    assert stats.kstest(masses[far], "uniform").pvalue > 1e-3


def test_hidden_joints_are_predicted_as_by_conditioning_one_at_a_time():
    rng = np.random.default_rng(7)
    scatter, values, mean = random_scatter(rng, 8, (2,)), rng.standard_normal((2, 8)), rng.standard_normal((2, 8))
    values[1, 4:6] = np.nan
    left = law.Law(mean, scatter, 5.0).hidden_joint_residuals(values)
    for n, joint in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 3)]:
        hidden = np.array([2 * joint, 2 * joint + 1])
        kept = np.flatnonzero(~np.isnan(values[n]))
        known = np.setdiff1d(kept, hidden)
        block = scatter[n][np.ix_(known, known)]
        guess = mean[n, hidden] + scatter[n][np.ix_(hidden, known)] @ np.linalg.inv(block) @ (values[n, known] - mean[n, known])
        np.testing.assert_allclose(left[n, joint], values[n, hidden] - guess, rtol=1e-9)
    assert np.isnan(left[1, 2]).all()
    assert np.isfinite(left[0]).all()


def brute_probability(variances, radius, dof):
    """Density integrated over the disc: radially by quadrature on a fine polar grid."""
    angles = (np.arange(20_000) + 0.5) * 2 * np.pi / 20_000
    along = variances[0] * np.cos(angles) ** 2 + variances[1] * np.sin(angles) ** 2
    squared = radius**2 / along
    return np.mean(1 - np.exp(-squared / 2) if math.isinf(dof) else 1 - (1 + squared / dof) ** (-dof / 2))


@pytest.mark.parametrize("dof", [math.inf, 3.0])
@pytest.mark.parametrize("axes", [(1.0, 1.0), (3.0, 1.0), (50.0, 0.5), (2000.0, 1.0)])
@pytest.mark.parametrize("radius", [0.3, 2.0, 60.0])
def test_probability_within_a_radius(dof, axes, radius):
    turn = linalg.expm(np.array([[0, -0.7], [0.7, 0]]))
    scatter = turn @ np.diag(np.square(axes)) @ turn.T
    assert law.probability_within(scatter, radius, dof) == pytest.approx(
        brute_probability(np.square(axes), radius, dof), abs=1e-6
    )


def test_probability_within_a_radius_is_that_of_samples_and_of_a_line():
    rng = np.random.default_rng(8)
    one = law.Law(np.zeros(2), np.array([[9.0, 2.0], [2.0, 1.0]]), 4.0)
    inside = np.linalg.norm(one.sample(rng, 200_000), axis=1) < 2.5
    assert law.probability_within(one.scatter, 2.5, 4.0) == pytest.approx(inside.mean(), abs=5 * inside.std() / 200_000**0.5)
    assert law.probability_within(np.diag([4.0, 0.0]), 2.0, math.inf) == pytest.approx(2 * stats.norm.cdf(1.0) - 1, abs=1e-7)
    assert law.probability_within(np.zeros((2, 2)), 1.0, 4.0) == 1
    np.testing.assert_allclose(
        law.probability_within(np.stack([np.eye(2)] * 2), np.array([0.0, 2.0]), math.inf), [0, 1 - np.exp(-2)]
    )
    with pytest.raises(PosecovError, match="radius"):
        law.probability_within(np.eye(2), -1.0, 4.0)


def test_probability_within_takes_degrees_of_freedom_for_each_point():
    scatter, dofs = random_scatter(np.random.default_rng(14), 2, (3,)), np.array([1.5, 4.5, math.inf])
    within = law.probability_within(scatter, np.array([1.0, 2.0, 3.0]), dofs)
    each = [law.probability_within(scatter[n], n + 1.0, dofs[n]) for n in range(3)]
    np.testing.assert_allclose(within, each, rtol=1e-12)


def test_expected_distance_about_the_mean_has_closed_forms():
    # Round Gaussians follow Rayleigh's law, and half the squared radius of a round t follows F(2, nu).
    assert law.expected_distance(np.zeros(2), 4 * np.eye(2), math.inf) == pytest.approx(2 * np.sqrt(np.pi / 2), rel=1e-9)
    radial = stats.f(2, 4.5).expect(lambda f: np.sqrt(2 * f))
    assert law.expected_distance(np.zeros(2), np.eye(2), 4.5) == pytest.approx(radial, rel=1e-6)
    assert law.expected_distance(np.array([3.0, 4.0]), np.zeros((2, 2)), 4.5) == pytest.approx(5, rel=1e-3)
    # On a line it is the expected size of a number.
    line = law.expected_distance(np.zeros(2), np.diag([9.0, 0.0]), math.inf)
    assert line == pytest.approx(3 * np.sqrt(2 / np.pi), rel=1e-3)
    with pytest.raises(PosecovError, match="more than 1 degree"):
        law.expected_distance(np.zeros(2), np.eye(2), 0.9)


@pytest.mark.parametrize("dof", [math.inf, 3.0])
@pytest.mark.parametrize("axes", [(1.0, 1.0), (3.0, 1.0), (50.0, 1.0)])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (5.0, -2.0), (300.0, 400.0)])
def test_expected_distance_is_that_of_a_sum_over_the_plane(dof, axes, offset):
    turn = linalg.expm(np.array([[0, -0.7], [0.7, 0]]))
    # Quantiles of the radius times many directions: mean over both is the expectation.
    share = (np.arange(4000) + 0.5) / 4000
    share = 1 - (1 - share) ** 4  # More of them where the tail is.
    weight = 4 * (1 - (np.arange(4000) + 0.5) / 4000) ** 3 / 4000
    radius = np.sqrt(stats.chi2(2).ppf(share) if math.isinf(dof) else 2 * stats.f(2, dof).ppf(share))
    angle = np.arange(720) * np.pi / 360
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=-1) @ (turn * axes).T
    found = weight @ np.linalg.norm(radius[:, None, None] * unit + np.array(offset), axis=-1).mean(axis=1)
    scatter = turn @ np.diag(np.square(axes)) @ turn.T
    assert law.expected_distance(np.array(offset), scatter, dof) == pytest.approx(found, rel=2e-3)


def test_expected_errors_of_many_people_are_those_of_each():
    rng = np.random.default_rng(3)
    many = law.Law(rng.standard_normal((3, 4)), random_scatter(rng, 4, (3,)), np.array([2.5, 7.0, math.inf]))
    each = [law.Law(many.mean[i], many.scatter[i], many.degrees_of_freedom[i]).expected_errors() for i in range(3)]
    np.testing.assert_allclose(many.expected_errors(), each, rtol=1e-12)
    far = np.linalg.norm(many[0].sample(rng, 400_000).reshape(-1, 2, 2) - many[0].mean.reshape(2, 2), axis=-1)
    np.testing.assert_allclose(far.mean(axis=0), each[0], rtol=0.03)


@pytest.mark.parametrize("dof", [math.inf, 4.0])
def test_an_ellipse_holds_its_mass(dof):
    rng = np.random.default_rng(9)
    direction = np.array([np.cos(-1.1), np.sin(-1.1)])
    scatter = 9 * np.outer(direction, direction) + np.eye(2)
    axes, angle = law.ellipse_axes(scatter, 0.8, dof)
    assert angle == pytest.approx(-1.1)
    assert axes[0] / axes[1] == pytest.approx(10**0.5)
    samples = law.sample(rng, np.zeros(2), scatter, dof, 50_000)
    first, second = samples @ direction / axes[0], samples @ np.array([-direction[1], direction[0]]) / axes[1]
    assert np.mean(first**2 + second**2 < 1) == pytest.approx(0.8, abs=0.01)


def test_ellipse_angles_lie_in_the_upper_half_turn():
    for angle in (0.0, 0.5, 1.5, -1.5, np.pi / 2):
        direction = np.array([np.cos(angle), np.sin(angle)])
        found = law.ellipse_axes(np.outer(direction, direction), 0.5, 4.0)[1]
        assert np.sin(found - angle) == pytest.approx(0, abs=1e-7)
        assert -np.pi / 2 < found <= np.pi / 2


def test_joint_sigma_averages_over_directions():
    covariance = np.diag([9.0, 1.0, 4.0, 4.0])
    covariance[0, 1] = covariance[1, 0] = 2.0
    np.testing.assert_allclose(law.joint_sigma(np.stack([covariance, 4 * covariance])), [[5**0.5, 2], [2 * 5**0.5, 4]])


def test_log_volume_is_the_mean_log_standard_deviation():
    covariance = np.diag([1.0, 4.0, 9.0, 16.0])
    assert law.log_volume(covariance) == pytest.approx(np.log([1, 2, 3, 4]).mean())
    labelled = np.array([[True, True, False, False], [False] * 4])
    volumes = law.log_volume(np.stack([covariance] * 2), labelled)
    assert volumes[0] == pytest.approx(np.log([1, 2]).mean())
    assert np.isnan(volumes[1])


def test_wasserstein_distance_and_its_bound():
    rng = np.random.default_rng(10)
    first, second = random_scatter(rng, 4, (50,)), random_scatter(rng, 4, (50,))
    means = rng.standard_normal((2, 50, 4))
    found = law.gaussian_wasserstein2(means[0], first, means[1], second)
    for n in range(50):
        root = linalg.sqrtm(second[n]).real
        cross = linalg.sqrtm(root @ first[n] @ root).real
        expected = np.square(means[0, n] - means[1, n]).sum() + np.trace(first[n] + second[n] - 2 * cross)
        assert found[n] == pytest.approx(expected, rel=1e-8)
    bures = law.gaussian_wasserstein2(means[0], first, means[0], second)
    for roots in (
        (law.symmetric_root(first), law.symmetric_root(second)),
        (np.linalg.cholesky(first), np.linalg.cholesky(second)),
    ):
        assert (law.wasserstein2_factor_bound(*roots) >= bures - 1e-9).all()
    # Equality when the covariances commute.
    stretched = 4 * first
    bound = law.wasserstein2_factor_bound(law.symmetric_root(first), law.symmetric_root(stretched))
    np.testing.assert_allclose(bound, law.gaussian_wasserstein2(means[0], first, means[0], stretched), rtol=1e-8)
    np.testing.assert_allclose(bound, np.trace(first, axis1=1, axis2=2), rtol=1e-8)


def test_symmetric_root():
    matrix = random_scatter(np.random.default_rng(11), 5, (3,))
    root = law.symmetric_root(matrix)
    np.testing.assert_allclose(root @ root, matrix, rtol=1e-9)
    np.testing.assert_allclose(root, np.swapaxes(root, 1, 2), rtol=1e-9)


@pytest.mark.parametrize("dof", DOFS)
def test_a_difference_of_coordinates_has_the_law_of_the_linear_map(dof):
    rng = np.random.default_rng(11)
    people = law.Law(rng.standard_normal((3, 6)), random_scatter(rng, 6, (3,)), dof)
    difference = people.difference([4, 5], [0, 1])
    matrix = np.array([[-1.0, 0, 0, 0, 1, 0], [0, -1.0, 0, 0, 0, 1]])
    np.testing.assert_allclose(difference.mean, people.mean @ matrix.T)
    np.testing.assert_allclose(difference.scatter, matrix @ people.scatter @ matrix.T)
    assert difference.degrees_of_freedom == dof
    drawn = people.sample(rng, 2000)
    masses = difference.mass(drawn @ matrix.T)
    assert stats.kstest(masses[:, 1], "uniform").pvalue > 1e-3


def test_what_is_not_a_covariance_is_an_error_of_ours():
    with pytest.raises(PosecovError, match="positive definite"):
        law.squared_mahalanobis(np.ones(2), np.diag([1.0, -1.0]))
    with pytest.raises(PosecovError, match="degrees of freedom"):
        law.negative_log_likelihood(np.ones(2), np.eye(2), 0.0)


def test_one_bad_number_of_degrees_of_freedom_among_many_is_an_error():
    for dofs in ([3.0, -1.0], [3.0, 0.0]):
        with pytest.raises(PosecovError, match="must be positive"):
            law.central_mass(np.ones(2), 2, np.array(dofs))
    with pytest.raises(PosecovError, match="more than 2"):
        law.covariance_from_scatter(np.ones((2, 2, 2)), np.array([3.0, 2.0]))


def test_a_law_from_second_moments_has_them_and_counts_its_people():
    covariance = random_scatter(np.random.default_rng(20), 4, (3,))
    many = law.Law.from_covariance(np.arange(12).reshape(3, 4), covariance, 5.0)
    np.testing.assert_allclose(many.covariance, covariance, rtol=1e-12)
    np.testing.assert_allclose(many.scatter, 0.6 * covariance, rtol=1e-12)
    np.testing.assert_array_equal(many.mean[2], [8, 9, 10, 11])
    assert (len(many), len(many[1]), len(many[1:])) == (3, 1, 2)


def test_wasserstein_distance_of_a_law_from_itself_is_not_negative():
    """Rounding would take it below 0 in about half of these."""
    rng = np.random.default_rng(21)
    for _ in range(20):
        covariance = random_scatter(rng, 6)
        assert 0 <= law.gaussian_wasserstein2(np.zeros(6), covariance, np.zeros(6), covariance) < 1e-12 * np.trace(covariance)


def test_sigmas_of_one_person_are_those_in_a_batch():
    covariance = random_scatter(np.random.default_rng(22), 6, (2,))
    np.testing.assert_allclose(law.joint_sigma(covariance)[1], law.joint_sigma(covariance[1]))
