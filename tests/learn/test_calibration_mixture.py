"""Calibration of mixtures over exchanges, on people drawn from a law that is known."""

import dataclasses

import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.law import Law
from posecov.learn.calibration import calibrate, calibrate_law, calibrate_mixture, calibrated_law
from posecov.mixture import Mixture

ORDERS = np.array([[0, 1, 2, 3, 4, 5], [2, 3, 0, 1, 4, 5]])


def _truth(count=700, nu=5.0):
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(count, 6, 6))
    scatter = factor @ np.swapaxes(factor, 1, 2) / 6 + 0.3 * np.eye(6)
    odds = rng.normal(-1.0, 1.0, size=count)
    weights = np.stack([np.ones(count), np.exp(odds)], axis=1)
    return Mixture.of_exchanges(rng.normal(size=(count, 6)) * 6, scatter, nu, weights, ORDERS)


def _draw(people):
    return people.sample(np.random.default_rng(1), 1)[0]


def test_calibration_undoes_what_is_wrong_with_scale_weights_and_tails():
    truth = _truth()
    values = _draw(truth)
    odds = np.log(truth.weights[:, 1] / truth.weights[:, 0])
    wrong = np.stack([np.ones(len(odds)), np.exp((odds - 0.7) / 0.5)], axis=1)
    rows = np.repeat([2.0, 2.0, 1.6], 2)
    claimed = Mixture.of_exchanges(truth.mean, truth.scatter[:, 0] / rows[:, None] / rows, 20.0, wrong, ORDERS)
    found = calibrate_mixture(claimed, values)
    np.testing.assert_allclose(found.factor, [2.0, 2.0, 1.6], rtol=0.08)
    assert found.degrees_of_freedom == pytest.approx(5.0, rel=0.3)
    assert found.temperature == pytest.approx(0.5, abs=0.12)
    assert found.shift == pytest.approx(0.7, abs=0.3)
    mended = calibrated_law(claimed, found)
    best = truth.negative_log_likelihood(values).mean()
    assert found.after == pytest.approx(mended.negative_log_likelihood(values).mean())
    assert found.before == pytest.approx(claimed.negative_log_likelihood(values).mean())
    assert found.after < best + 0.05
    for level in (0.5, 0.9):
        assert (mended.mass(values) <= level).mean() == pytest.approx(level, abs=0.03)


def test_people_without_some_labels_take_part():
    truth = _truth(200)
    values = _draw(truth)
    values[::3, 2:4] = np.nan
    found = calibrate_mixture(truth, values)
    np.testing.assert_allclose(found.factor, 1.0, rtol=0.08)


def test_a_single_law_is_calibrated_by_the_same_call():
    rng = np.random.default_rng(2)
    scatter = np.broadcast_to(np.eye(6), (600, 6, 6))
    people = Law(rng.normal(size=(600, 6)), scatter, 6.0)
    values = people.mean + 1.7 * (people.sample(rng, 1)[0] - people.mean)
    found = calibrate_law(people, values)
    assert dataclasses.asdict(found).keys() == dataclasses.asdict(calibrate(values - people.mean, scatter, 6.0)).keys()
    np.testing.assert_allclose(found.factor, 1.7, rtol=0.06)
    np.testing.assert_allclose(calibrated_law(people, found).scatter[0].diagonal(), np.repeat(found.factor, 2) ** 2)


def test_hardly_anybody_is_refused():
    with pytest.raises(PosecovError, match="at least 50"):
        calibrate_mixture(_truth(20), np.zeros((20, 6)))
