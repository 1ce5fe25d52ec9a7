"""The mixture against SciPy's densities, Monte Carlo, and the law that it is with one component."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp
from test_law import DOFS, random_scatter, reference

from posecov import law
from posecov.errors import PosecovError
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.mixture import Mixture
from posecov.skeleton import load_skeleton

ORDERS = coordinate_orders(exchanges_of(load_skeleton("lsp14")))
# Three joints of which the first two may be exchanged: 6 coordinates.
SWAP = np.array([[0, 1, 2, 3, 4, 5], [2, 3, 0, 1, 4, 5]])


def make(seed=0, batch=(), dof=4.5, orders=SWAP, apart=3.0):
    rng = np.random.default_rng(seed)
    dimension = orders.shape[1]
    mean = apart * rng.standard_normal((*batch, dimension))
    weights = rng.dirichlet(np.ones(len(orders)), size=batch)
    return Mixture.of_exchanges(mean, random_scatter(rng, dimension, batch), dof, weights, orders)


def scipys(mixture, values):
    """Log density of one person's law by SciPy."""
    parts = [
        np.log(weight) + reference(mean, scatter, mixture.degrees_of_freedom).logpdf(values)
        for weight, mean, scatter in zip(mixture.weights, mixture.means, mixture.scatters, strict=True)
    ]
    return logsumexp(parts, axis=0)


@pytest.mark.parametrize("dof", DOFS)
def test_nll_is_that_of_the_exchanged_labels_under_one_law(dof):
    mixture, rng = make(1, (7,), dof, ORDERS), np.random.default_rng(1)
    values = 3 * rng.standard_normal((7, 28))
    mean, scatter = mixture.mean, mixture.scatter[:, 0]
    for n in range(7):
        one = reference(mean[n], scatter[n], dof)
        parts = [np.log(w) + one.logpdf(values[n][order]) for w, order in zip(mixture.weights[n], ORDERS, strict=True)]
        assert mixture.negative_log_likelihood(values)[n] == pytest.approx(-logsumexp(parts), rel=1e-10)
        assert mixture[n].negative_log_likelihood(values[n]) == pytest.approx(-scipys(mixture[n], values[n]), rel=1e-10)


def test_every_person_has_degrees_of_freedom_of_their_own():
    mixture = make(2, (3,), np.array([3.0, math.inf, 9.0]))
    values = 2 * np.random.default_rng(2).standard_normal((3, 6))
    expected = [-scipys(mixture[n], values[n]) for n in range(3)]
    np.testing.assert_allclose(mixture.negative_log_likelihood(values), expected, rtol=1e-10)
    assert mixture.mass(values).shape == (3,)
    for n in range(3):
        assert mixture.mass(values)[n] == pytest.approx(mixture[n].mass(values[n]), abs=1e-3)
        np.testing.assert_allclose(mixture.covariance[0], mixture[0].covariance)


@pytest.mark.parametrize("dof", [math.inf, 4.5])
def test_missing_labels_are_marginalised(dof):
    mixture = make(3, (5,), dof, ORDERS)
    values = np.random.default_rng(3).standard_normal((5, 28))
    missing = [[], [0, 1], [10, 11, 4, 5], list(range(10)), list(range(28))]
    for row, rows in zip(values, missing, strict=True):
        row[rows] = np.nan
    nll = mixture.negative_log_likelihood(values)
    for n, rows in enumerate(missing[:4]):
        kept = np.setdiff1d(np.arange(28), rows)
        parts = [
            np.log(mixture.weights[n, k])
            + reference(mixture.means[n, k, kept], mixture.scatters[n, k][np.ix_(kept, kept)], dof).logpdf(values[n, kept])
            for k in range(len(ORDERS))
        ]
        assert nll[n] == pytest.approx(-logsumexp(parts), rel=1e-9)
        np.testing.assert_allclose(mixture.responsibilities(values)[n], np.exp(parts - logsumexp(parts)), rtol=1e-7, atol=1e-12)
    assert nll[4] == 0
    assert np.isnan(mixture.mass(values)[4])
    assert np.isnan(mixture.joint_masses(values)[4]).all()


@pytest.mark.parametrize("dof", [math.inf, 4.5])
def test_a_density_in_the_plane_integrates_to_one(dof):
    rng = np.random.default_rng(4)
    plane = Mixture(np.array([0.7, 0.3]), np.array([[0.0, 0.0], [6.0, 2.0]]), random_scatter(rng, 2, (2,)), dof)
    # Quantiles of Cauchy's law as nodes: they reach far enough for the tails.
    share = (np.arange(1000) + 0.5) / 1000
    nodes, jacobian = 3 * np.tan(np.pi * (share - 0.5)), 3 * np.pi * (1 + np.tan(np.pi * (share - 0.5)) ** 2)
    density = np.exp(plane.log_density(np.stack(np.meshgrid(nodes, nodes), axis=-1)))
    assert jacobian @ density @ jacobian / 1e6 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dof", [math.inf, 5.0])
def test_a_mixture_of_one_is_the_law_itself(dof):
    rng = np.random.default_rng(5)
    mean, scatter = rng.standard_normal((9, 6)), random_scatter(rng, 6, (9,))
    single = law.Law(mean, scatter, dof)
    mixture = Mixture.of_exchanges(mean, scatter, dof, np.ones(1), np.arange(6)[None])
    values = 2 * rng.standard_normal((9, 6))
    for given_values in (values, np.where(np.arange(6) < 2, np.nan, values)):
        for ask in ("negative_log_likelihood", "mass", "joint_masses", "hidden_joint_residuals"):
            np.testing.assert_allclose(getattr(mixture, ask)(given_values), getattr(single, ask)(given_values), rtol=1e-9)
    np.testing.assert_allclose(mixture.covariance, single.covariance, rtol=1e-12)
    np.testing.assert_array_equal(mixture.mean, mean)
    draws = [one.sample(np.random.default_rng(1), 4) for one in (mixture, single)]
    np.testing.assert_allclose(*draws, rtol=1e-12)
    after = [one.condition([4, 1], values[:, [4, 1]]) for one in (mixture, single)]
    np.testing.assert_allclose(after[0].mean, after[1].mean, rtol=1e-12)
    np.testing.assert_allclose(after[0].covariance, after[1].covariance, rtol=1e-12)
    assert after[0].degrees_of_freedom == after[1].degrees_of_freedom


@pytest.mark.parametrize("dof", [math.inf, 4.5])
def test_weights_that_are_all_on_one_side_are_the_law_too(dof):
    mixture = make(6, (4,), dof)
    sure = Mixture.of_exchanges(mixture.mean, mixture.scatter[:, 0], dof, np.array([1.0, 0.0]), SWAP)
    single = law.Law(mixture.mean, mixture.scatter[:, 0], dof)
    values = 5 * np.random.default_rng(6).standard_normal((4, 6))
    np.testing.assert_allclose(sure.negative_log_likelihood(values), single.negative_log_likelihood(values), rtol=1e-10)
    np.testing.assert_allclose(sure.mass(values), single.mass(values), atol=2e-3)
    np.testing.assert_allclose(sure.covariance, single.covariance)
    np.testing.assert_allclose(sure.hidden_joint_residuals(values), single.hidden_joint_residuals(values), rtol=1e-9)


def test_swapping_a_limb_of_the_labels_changes_the_responsible_component():
    mixture = make(7, (), 4.5, ORDERS, apart=100.0)
    even = Mixture.of_exchanges(mixture.mean, mixture.scatter[0], 4.5, np.ones(len(ORDERS)), ORDERS)
    for k, order in enumerate(ORDERS):
        assert even.responsibilities(even.mean[order]).argmax() == k
        np.testing.assert_array_equal(even.means[k], even.mean[order])
        np.testing.assert_array_equal(even.scatters[k], even.scatter[0][np.ix_(order, order)])


@pytest.mark.parametrize("dof", [math.inf, 4.5])
def test_covariance_is_the_second_moment_about_the_unexchanged_mean(dof):
    mixture = make(8, (), 9.0 if dof == 4.5 else dof)
    samples = mixture.sample(np.random.default_rng(8), 400_000) - mixture.mean
    scale = np.sqrt(np.diag(mixture.covariance))
    np.testing.assert_allclose(
        samples.T @ samples / 400_000 / np.outer(scale, scale), mixture.covariance / np.outer(scale, scale), atol=0.02
    )


@pytest.mark.parametrize("dof", [math.inf, 4.5])
def test_expected_errors_are_those_of_samples(dof):
    mixture = make(8, (2,), dof)
    apart = mixture.sample(np.random.default_rng(8), 200_000) - mixture.mean
    found = np.linalg.norm(apart.reshape(200_000, 2, 3, 2), axis=-1)
    np.testing.assert_allclose(mixture.expected_errors(), found.mean(axis=0), rtol=0.02)
    np.testing.assert_allclose(mixture[1].expected_errors(), mixture.expected_errors()[1])
    one = Mixture.of_exchanges(mixture.mean, mixture.scatter[:, 0], dof, np.array([1.0, 0.0]), SWAP)
    np.testing.assert_allclose(one.expected_errors(), law.Law(one.mean, one.scatter[:, 0], dof).expected_errors())


def test_marginals_are_those_of_the_samples_and_merge_what_no_coordinate_notices():
    mixture = make(9, (2,), 4.5, ORDERS)
    rows = np.array([10, 11, 24])  # The left ankle, and the neck's x.
    marginal = mixture.marginal(rows)
    assert marginal.components == 2
    moving = (ORDERS[:, 10] != 10).nonzero()[0]
    np.testing.assert_allclose(marginal.weights[:, 1], mixture.weights[:, moving].sum(axis=1))
    np.testing.assert_array_equal(marginal.mean, mixture.mean[:, rows])
    values = np.random.default_rng(9).standard_normal((2, 28))
    values[:, np.setdiff1d(np.arange(28), rows)] = np.nan
    np.testing.assert_allclose(
        marginal.negative_log_likelihood(values[:, rows]), mixture.negative_log_likelihood(values), rtol=1e-12
    )
    assert mixture.marginal([24, 26]).components == 1
    samples = mixture[0].sample(np.random.default_rng(10), 20_000)[:, rows]
    assert stats.kstest(mixture[0].marginal(rows).mass(samples), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dof", DOFS)
@pytest.mark.parametrize("known", [[1], [0, 1], [3, 0, 4], [0, 1, 2, 3]])
def test_conditioning_is_joint_over_marginal_density(dof, known):
    mixture, rest = make(11, (5,), dof), np.setdiff1d(np.arange(6), known)
    values = 4 * np.random.default_rng(11).standard_normal((5, 6))
    after = mixture.condition(known, values[:, known])
    joint = mixture.negative_log_likelihood(values)
    evidence = mixture.marginal(known).negative_log_likelihood(values[:, known])
    np.testing.assert_allclose(after.negative_log_likelihood(values[:, rest]), joint - evidence, rtol=1e-9, atol=1e-9)
    assert (np.diff(after.weights, axis=1) <= 0).all()
    np.testing.assert_allclose(after.weights.sum(axis=1), 1)


def test_conditioning_step_by_step_is_conditioning_at_once():
    mixture, values = make(12), np.array([3.0, -2.0, 1.0])
    once = mixture.condition([5, 0, 2], values)
    twice = mixture.condition([5], values[:1]).condition([0, 2], values[1:])
    np.testing.assert_allclose(once.weights, twice.weights, rtol=1e-9)
    np.testing.assert_allclose(once.means, twice.means, rtol=1e-9)
    np.testing.assert_allclose(once.scatters, twice.scatters, rtol=1e-9)
    assert mixture.condition([], np.zeros(0)) is mixture


def test_evidence_decides_between_left_and_right():
    mean = np.array([0.0, 0, 100, 0, 50, -50])
    mixture = Mixture.of_exchanges(mean, 25 * np.eye(6), 4.5, np.array([0.9, 0.1]), SWAP)
    near, far = mixture.condition([0, 1], np.array([1.0, 2.0])), mixture.condition([0, 1], np.array([99.0, 2.0]))
    np.testing.assert_allclose(near.mean, [100, 0, 50, -50])
    np.testing.assert_allclose(far.mean, [0, 0, 50, -50])
    assert near.weights[0] > 0.999
    assert far.weights[0] > 0.999
    lost = mixture.condition([0, 1], np.array([1e8, -3e7]))
    assert np.isfinite(lost.weights).all()
    assert np.isfinite(lost.covariance).all()


def test_the_vector_between_two_joints_turns_round_where_they_are_exchanged():
    mixture, pull = make(5, dof=6.0), np.zeros((2, 6))
    pull[[0, 1], [0, 1]], pull[[0, 1], [2, 3]] = 1.0, -1.0
    vector = mixture.difference([0, 1], [2, 3])
    np.testing.assert_allclose(vector.means, mixture.means @ pull.T)
    np.testing.assert_allclose(vector.means[1], -vector.means[0])
    values = np.random.default_rng(5).standard_normal((4, 2))
    parts = [
        np.log(w) + reference(pull @ m, pull @ s @ pull.T, 6.0).logpdf(values)
        for w, m, s in zip(mixture.weights, mixture.means, mixture.scatters, strict=True)
    ]
    for value, expected in zip(values, logsumexp(parts, axis=0), strict=True):
        assert vector.negative_log_likelihood(value) == pytest.approx(-expected, rel=1e-9)


def test_own_samples_are_uniform_with_and_without_missing_labels():
    mixture = make(13, (), 4.5, ORDERS)
    samples = mixture.sample(np.random.default_rng(13), 20_000)
    assert stats.kstest(mixture.mass(samples), "uniform").pvalue > 1e-3
    for masses in mixture.joint_masses(samples)[:, [0, 5, 13]].T:
        assert stats.kstest(masses, "uniform").pvalue > 1e-3
    samples[::2, :6], samples[1::2, 20:] = np.nan, np.nan
    assert stats.kstest(mixture.mass(samples), "uniform").pvalue > 1e-3


def test_masses_of_many_people_are_uniform():
    mixture = make(14, (3000,), 4.5, apart=1.0)
    values = mixture.sample(np.random.default_rng(1014), 1)[0]
    values[::3, 2:4] = np.nan
    assert stats.kstest(mixture.mass(values), "uniform").pvalue > 1e-3
    for masses in mixture.joint_masses(values).T:
        assert stats.kstest(masses[~np.isnan(masses)], "uniform").pvalue > 1e-3


def test_masses_stay_uniform_after_near_and_after_far_evidence():
    one, rng = make(15, apart=2.0), np.random.default_rng(15)
    samples = one.sample(rng, 20_000)
    masses = one.condition([0, 1], samples[:, :2]).mass(samples[:, 2:])
    far = one.marginal([0, 1]).mass(samples[:, :2]) > 0.9
    for chosen in (masses, masses[~far], masses[far]):
        assert stats.kstest(chosen, "uniform").pvalue > 1e-3


def test_hidden_joints_are_predicted_as_by_conditioning_one_at_a_time():
    mixture = make(16, (3,), 4.5, ORDERS)
    values = mixture.sample(np.random.default_rng(16), 1)[0]
    values[1, 4:10] = np.nan
    left = mixture.hidden_joint_residuals(values)
    for n in range(3):
        kept = np.flatnonzero(~np.isnan(values[n]))
        for joint in range(14):
            hidden = np.array([2 * joint, 2 * joint + 1])
            if np.isnan(values[n, hidden]).any():
                assert np.isnan(left[n, joint]).all()
                continue
            seen = mixture[n].marginal(kept)
            known = np.setdiff1d(kept, hidden)
            after = seen.condition(np.searchsorted(kept, known), values[n, known])
            np.testing.assert_allclose(left[n, joint], values[n, hidden] - after.mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        mixture[0].hidden_joint_residuals(values), mixture[np.zeros(3, int)].hidden_joint_residuals(values)
    )


def test_hidden_joints_take_the_likeliest_component_where_it_is_a_near_thing():
    mixture = make(18, (400,), 2.1, apart=1.5)
    values = mixture.sample(np.random.default_rng(1018), 1)[0]
    left = mixture.hidden_joint_residuals(values)
    for joint in range(3):
        hidden = [2 * joint, 2 * joint + 1]
        known = np.setdiff1d(np.arange(6), hidden)
        after = mixture.condition(known, values[:, known])
        np.testing.assert_allclose(left[:, joint], values[:, hidden] - after.mean, rtol=1e-6, atol=1e-8)


def test_hidden_joints_of_one_pose_under_the_laws_of_many():
    mixture, values = make(19, (3,)), 2 * np.random.default_rng(19).standard_normal(6)
    left = mixture.hidden_joint_residuals(values)
    assert (len(mixture), len(mixture[0]), left.shape) == (3, 1, (3, 3, 2))
    for n in range(3):
        np.testing.assert_allclose(left[n], mixture[n].hidden_joint_residuals(values), rtol=1e-9)


class AtTheEnd(np.random.Generator):
    """Draws nothing but the largest number below 1."""

    def random(self, size):
        return np.full(size, 1 - 2.0**-53)


def test_a_draw_beyond_weights_whose_sum_was_rounded_down_is_of_the_last_component():
    weights = np.full(7, 1 / 7)
    assert np.cumsum(weights)[-1] < 1 - 2.0**-53
    mixture = Mixture(weights, np.arange(7.0)[:, None] * np.ones(2), np.broadcast_to(1e-12 * np.eye(2), (7, 2, 2)), math.inf)
    np.testing.assert_allclose(mixture.sample(AtTheEnd(np.random.PCG64(0)), 3), 6, atol=1e-4)


def test_what_underflows_stays_finite():
    mean = np.array([0.0, 0, 1e6, 0, 0, 0])
    mixture = Mixture.of_exchanges(mean, 1e-2 * np.eye(6), math.inf, np.array([1.0, 1e-300]), SWAP)
    for values in (mean, mean[SWAP[1]], np.full(6, 1e9)):
        assert np.isfinite(mixture.negative_log_likelihood(values))
        assert 0 <= mixture.mass(values) <= 1
        assert mixture.responsibilities(values).sum() == pytest.approx(1)
    assert mixture.mass(mean) == pytest.approx(0, abs=1e-3)
    assert mixture.mass(np.full(6, 1e9)) == 1


def test_hypotheses_merge_exchanges_that_one_cannot_see():
    mean = np.zeros(28)
    mean[ORDERS[1] != np.arange(28)] = np.where(np.arange(12) < 6, 0.0, 80.0)  # Legs apart, arms together.
    weights = np.array([0.5, 0.1, 0.06, 0.04, 0.1, 0.05, 0.05, 0.1])
    mixture = Mixture.of_exchanges(mean, 16 * np.eye(28), 4.5, weights, ORDERS)
    found = {tuple(indices): probability for indices, probability in mixture.hypotheses()}
    names = [exchange.name for exchange in exchanges_of(load_skeleton("lsp14"))]
    assert [[names[k] for k in group] for group in found] == [
        ["none", "arm", "forearm", "wrist"],
        ["leg", "arm and leg together"],
        ["lower leg"],
        ["ankle"],
    ]
    assert list(found.values()) == pytest.approx([0.7, 0.2, 0.06, 0.04])
    # One sees nothing where the joints lie closer than so many standard deviations, of sqrt(16 * 4.5 / 2.5) px.
    apart = np.hypot(80, 80) / np.sqrt(16 * 4.5 / 2.5)
    assert len(mixture.hypotheses(0.99 * apart)) == 4
    assert len(mixture.hypotheses(1.01 * apart)) == 1
    # The law is the mixture of its hypotheses.
    values = mixture.sample(np.random.default_rng(17), 5)
    parts = [np.log(p) + mixture.part(group).log_density(values) for group, p in mixture.hypotheses()]
    np.testing.assert_allclose(logsumexp(parts, axis=0), mixture.log_density(values), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.booleans(), min_size=6, max_size=6), st.sampled_from([2.5, 6.0, math.inf]))
def test_labels_one_by_one_are_labels_together(seed, labelled, dof):
    mixture = make(seed, (3,), dof)
    values = np.where(labelled, 3 * np.random.default_rng(seed).standard_normal((3, 6)), np.nan)
    nll, mass = mixture.negative_log_likelihood(values), mixture.mass(values)
    for n in range(3):
        assert mixture[n].negative_log_likelihood(values[n]) == pytest.approx(nll[n], rel=1e-9, abs=1e-9)
        assert mixture[n].mass(values[n]) == pytest.approx(mass[n], abs=1e-3, nan_ok=True)
    assert np.isnan(mass).all() == (not any(labelled))


@pytest.mark.parametrize(
    ("weights", "orders", "said"),
    [
        (np.array([0.5, -0.5]), SWAP, "weights"),
        (np.array([0.0, 0.0]), SWAP, "weights"),
        (np.array([np.nan, 1.0]), SWAP, "weights"),
        (np.array([1.0]), SWAP, "orders must be"),
        (np.ones(2), SWAP[::-1], "the first one the identity"),
        (np.ones(2), SWAP[:, :4], "orders must be"),
        (np.ones(2), np.array([[0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 0, 1]]), "its own inverse"),
    ],
)
def test_what_is_no_mixture(weights, orders, said):
    with pytest.raises(PosecovError, match=said):
        Mixture.of_exchanges(np.zeros(6), np.eye(6), 4.5, weights, orders)


def test_second_moments_of_exchanges_far_apart_beside_small_scatters_stay_positive_definite():
    for seed in range(5):
        np.linalg.cholesky(make(seed, (), 5.0, ORDERS, apart=1e10).covariance)


def test_several_labels_for_each_of_several_people():
    mixture, values = make(3, (4,)), 3 * np.random.default_rng(3).standard_normal((2, 4, 6))
    values[0, 1, 2:4] = np.nan
    for ask in ("negative_log_likelihood", "hidden_joint_residuals"):
        found = getattr(mixture, ask)(values)
        for i in range(2):
            np.testing.assert_allclose(found[i], getattr(mixture, ask)(values[i]), rtol=1e-10)
