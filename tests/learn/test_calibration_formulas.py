"""The parts of a calibration: shrinking, what it aims at, how it chooses, and the law that its numbers make."""

import dataclasses
import math

import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.law import Law
from posecov.learn.calibration import Calibration, calibrate, calibrate_law, calibrated_law, laws, shrink
from posecov.learn.calibration.adapt import _joined
from posecov.learn.calibration.mixture import likeliest
from posecov.learn.calibration.mixture import match_coverage as match_mixture
from posecov.learn.calibration.shared import check_people, choose, worst_deviation
from posecov.learn.calibration.single import fit, match_coverage
from posecov.mixture import Mixture

ORDERS = np.array([[0, 1, 2, 3], [2, 3, 0, 1]])
SCATTER = np.array([[2.0, 0.5, 0.8, 0.1], [0.5, 1.0, 0.2, 0.3], [0.8, 0.2, 3.0, -0.6], [0.1, 0.3, -0.6, 1.5]])


def _people(count=200, nu=5.0):
    mean = np.random.default_rng(0).normal(size=(count, 4))
    return Law(mean, np.broadcast_to(SCATTER, (count, 4, 4)), nu)


def _drawn(people, stretch=1.0):
    values = people.mean + stretch * (people.sample(np.random.default_rng(1), 1)[0] - people.mean)
    values[::4, 2:] = np.nan
    return values


def _deviation(people, values):
    """By its definition: the largest of eight differences, and a tenth of their root mean square."""
    levels, kinds = (0.5, 0.68, 0.9, 0.95), (people.mass(values), people.joint_masses(values))
    off = np.array([(m[~np.isnan(m)] <= level).mean() - level for m in kinds for level in levels])
    return np.abs(off).max() + 0.1 * np.sqrt(np.square(off).mean())


def test_shrinking_leaves_each_joint_s_own_block():
    for matrix in (SCATTER, np.stack([SCATTER, 2 * SCATTER])):
        found = shrink(matrix, 0.25)
        for a in (slice(0, 2), slice(2, 4)):
            for b in (slice(0, 2), slice(2, 4)):
                np.testing.assert_allclose(found[..., a, b], (1.0 if a == b else 0.75) * matrix[..., a, b])


def test_the_worst_deviation_counts_and_the_others_break_ties():
    found = worst_deviation(np.array([[0.1, 0.1, -0.05], [-0.1, 0.0, 0.02]]))
    np.testing.assert_allclose(found, [0.11, 0.1 + 0.1 * np.sqrt(0.005), 0.05 + 0.1 * np.sqrt(0.00145)])


def test_the_choice_costs_at_most_a_fifth_of_a_nat():
    one = Calibration(np.ones(2), 0.0, 5.0, 1.0, 10.0)
    fits = [(dataclasses.replace(one, after=after), worst) for after, worst in ((10.0, 0.3), (10.19, 0.2), (10.21, 0.1))]
    assert choose(fits).after == 10.19
    assert choose(fits[:1]).after == 10.0
    for count, refused in ((49, True), (50, False)):
        if refused:
            with pytest.raises(PosecovError, match="at least 50 people, there are 49"):
                check_people(count)
        else:
            check_people(count)


def test_a_calibrated_mixture_has_the_numbers_of_its_calibration():
    weights = np.array([[0.9, 0.1], [0.5, 0.5]])
    people = Mixture.of_exchanges(np.arange(8.0).reshape(2, 4), np.stack([SCATTER, SCATTER]), 5.0, weights, ORDERS)
    found = calibrated_law(people, Calibration(np.array([2.0, 3.0]), 0.1, 7.0, 0.0, 0.0, temperature=0.5, shift=0.3))
    odds = np.exp(0.5 * np.log([1 / 9, 1.0]) + 0.3)
    np.testing.assert_allclose(found.weights[:, 1] / found.weights[:, 0], odds)
    rows = np.array([2.0, 2.0, 3.0, 3.0])
    np.testing.assert_allclose(found.scatter[1, 0], shrink(SCATTER, 0.1) * np.outer(rows, rows))
    np.testing.assert_array_equal(found.mean, people.mean)
    assert found.degrees_of_freedom == 7


def test_a_calibration_that_says_nothing_changes_nothing():
    weights = np.array([[0.9, 0.1], [1.0, 0.0]])
    people = Mixture.of_exchanges(np.arange(8.0).reshape(2, 4), np.stack([SCATTER, SCATTER]), 5.0, weights, ORDERS)
    found = calibrated_law(people, Calibration(np.ones(2), 0.0, 5.0, 0.0, 0.0))
    np.testing.assert_allclose(found.weights, weights, atol=1e-12)
    np.testing.assert_allclose(found.scatter, people.scatter)
    # What cannot be stays finite, and may be after all when the weights are drawn together.
    warmer = calibrated_law(people, Calibration(np.ones(2), 0.0, 5.0, 0.0, 0.0, temperature=0.5, shift=1.0))
    assert warmer.weights[1, 1] == pytest.approx(math.exp(1 - 15), rel=1e-3)


def test_few_people_tell_a_scale_and_many_all(monkeypatch):
    for name in ("calibrate_scale", "calibrate_mixture"):
        monkeypatch.setattr(laws, name, lambda *given, name=name: (name, *given))
    monkeypatch.setattr(laws, "calibrate", lambda *given: ("calibrate", *given))
    many, few = _people(50), _people(49)
    weights = np.full((50, 2), 0.5)
    mixed = Mixture.of_exchanges(many.mean, many.scatter, 5.0, weights, ORDERS)
    for people, name in ((few, "calibrate_scale"), (mixed, "calibrate_mixture")):
        values = people.mean + 1.0
        called, first, second = calibrate_law(people, values)
        assert (called, first is people, second is values) == (name, True, True)
    called, residuals, scatter, nu = calibrate_law(many, many.mean + 1.0)
    assert (called, scatter is many.scatter, nu) == ("calibrate", True, 5.0)
    np.testing.assert_allclose(residuals, 1.0)


def test_hardly_anybody_is_refused_by_the_single_law_too():
    with pytest.raises(PosecovError, match="at least 50 people, there are 49"):
        calibrate(np.zeros((49, 4)), np.broadcast_to(SCATTER, (49, 4, 4)), 5.0)


def test_laws_of_groups_are_one_law_in_the_people_s_order():
    people, order = _people(5), np.array([3, 0, 4, 1, 2])
    weights = np.random.default_rng(2).dirichlet(np.ones(2), size=5)
    mixed = Mixture.of_exchanges(people.mean, people.scatter * np.arange(1.0, 6)[:, None, None], 5.0, weights, ORDERS)
    found = _joined([mixed[:2], mixed[2:]], order)
    for name in ("weights", "means", "scatter", "orders"):
        whole = getattr(mixed, name)
        np.testing.assert_array_equal(getattr(found, name), whole if name == "orders" else whole[order])
    single = _joined([people[:2], people[2:]], order)
    np.testing.assert_array_equal(single.mean, people.mean[order])
    np.testing.assert_array_equal(single.scatter, people.scatter[order])
    assert single.degrees_of_freedom == found.degrees_of_freedom == 5.0


@pytest.mark.parametrize("nu", [5.0, math.inf])
def test_a_fit_tells_the_likelihoods_of_the_laws_before_and_after(nu):
    people = _people(nu=nu)
    values = _drawn(people, 1.5)
    found, worst = fit(values - people.mean, people.scatter, nu, 0.2)
    mended = calibrated_law(people, found)
    assert found.before == pytest.approx(people.negative_log_likelihood(values).mean())
    assert found.after == pytest.approx(mended.negative_log_likelihood(values).mean())
    assert math.isinf(found.degrees_of_freedom) == math.isinf(nu)
    assert worst == pytest.approx(_deviation(mended, values), abs=1e-9)


def test_joints_have_factors_of_their_own_drawn_to_the_common_one():
    people = _people(2000)
    stretched = (_drawn(people) - people.mean) * np.repeat([1.3, 0.7], 2)
    found = fit(stretched, people.scatter, 5.0, 0.0)[0]
    np.testing.assert_allclose(found.factor, [1.3, 0.7], rtol=0.07)
    # With hardly anybody, joints are called alike.
    few = fit(stretched[:50], people.scatter[:50], 5.0, 0.0)[0]
    assert few.factor[0] / few.factor[1] < found.factor[0] / found.factor[1]


@pytest.mark.parametrize("stretch", [0.8, 1.0, 1.25])
def test_coverage_is_matched_by_a_common_factor_and_degrees_of_freedom(stretch):
    people = _people(4000)
    residuals = _drawn(people, stretch) - people.mean
    factor, nu, worst = match_coverage(residuals, people.scatter, 20.0)
    assert factor == pytest.approx(stretch, rel=0.04)
    assert nu == pytest.approx(5.0, rel=0.3)
    assert worst < 0.015


def test_the_likeliest_mixture_is_no_less_likely_and_its_coverage_is_matched_from_there():
    rng, people = np.random.default_rng(3), _people(150)
    weights = np.stack([np.full(150, 0.8), np.full(150, 0.2)], axis=1)
    truth = Mixture.of_exchanges(4 * people.mean, people.scatter, 5.0, weights, ORDERS)
    values = truth.sample(rng, 1)[0]
    values[::4, 2:] = np.nan
    found = likeliest(truth, values, 0.1, 1.0)
    nll = calibrated_law(truth, found).negative_log_likelihood(values).mean()
    assert nll <= calibrated_law(truth, Calibration(np.ones(2), 0.1, 5.0, 0, 0)).negative_log_likelihood(values).mean()
    # At the optimum every number is the best one: likelihood and prior rise on both sides.
    for change in (
        {"factor": found.factor * 1.02},
        {"factor": found.factor / 1.02},
        {"shift": found.shift + 0.1},
        {"shift": found.shift - 0.1},
        {"degrees_of_freedom": found.degrees_of_freedom * 1.1},
        {"degrees_of_freedom": found.degrees_of_freedom / 1.1},
    ):
        worse = calibrated_law(truth, dataclasses.replace(found, **change)).negative_log_likelihood(values).mean()
        assert worse > nll
    matched, worst = match_mixture(truth, values, found)
    law = calibrated_law(truth, matched)
    assert matched.after == pytest.approx(law.negative_log_likelihood(values).mean())
    assert worst == pytest.approx(_deviation(law, values), abs=1e-9)
    assert worst < _deviation(calibrated_law(truth, found), values) + 1e-9
