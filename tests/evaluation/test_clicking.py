import numpy as np
import pytest

from posecov import coordinates, metrics
from posecov.evaluation.clicking import click_figures, ranked_misses
from posecov.evaluation.uncertainty import Noise, People
from posecov.law import Law

JOINTS = ("l_shoulder", "r_hip", "l_wrist")
NOISE = Noise(200, 1, 0)


def people(values, mean):
    errors = np.linalg.norm(coordinates.unflatten(values - mean), axis=-1)
    count = len(values)
    return People(values, errors, np.full(count, 100.0), np.full(count, 30.0), None, JOINTS, [(0, 2)])


def laws(count, nu=8.0):
    """A law under which the wrist goes with the shoulder, and a rival of the same sigmas that knows nothing of that."""
    pattern = np.array([[1.0, 0.0, 0.9], [0.0, 1.0, 0.0], [0.9, 0.0, 1.0]]) * np.outer([2.0, 1.0, 5.0], [2.0, 1.0, 5.0])
    scatter = np.broadcast_to(np.kron(pattern, np.eye(2)), (count, 6, 6))
    mean = np.zeros((count, 6))
    apart = scatter * np.kron(np.eye(3), np.ones((2, 2)))
    return {"model": Law(mean, scatter, nu), "constant_covariance": Law(mean, apart, nu)}


def test_clicks_help_where_the_law_knows_what_goes_with_what_and_it_stays_calibrated():
    chosen = laws(3000)
    values = Law(np.zeros(6), chosen["model"].scatter[0], 8.0).sample(np.random.default_rng(0), 3000)
    found = click_figures(chosen, people(values, chosen["model"].mean), NOISE)
    assert found["people"] == 3000
    trunk = found["trunk"]
    assert trunk["given"] == ["l_shoulder", "r_hip"]
    # What is left of the wrist has sqrt(1 - 0.9^2) of its spread, and the rival leaves it where it is.
    assert trunk["after"]["model"] / trunk["before"] == pytest.approx(np.sqrt(1 - 0.81), rel=0.03)
    assert trunk["after"]["constant_covariance"] == pytest.approx(trunk["before"])
    model, rival = found["one"]["model"], found["one"]["constant_covariance"]
    assert model["best"]["after"] < model["random"]["after"] < model["random"]["before"]
    assert model["difference"]["interval"][0] > 0
    assert rival["random"]["after"] == pytest.approx(rival["random"]["before"])
    for kind in ("near", "far"):
        facts = found["coverage"][kind]
        assert facts["clicks"] > 500
        assert facts["covered"]["50"] == pytest.approx(0.5, abs=0.05)
        assert facts["covered"]["90"] == pytest.approx(0.9, abs=0.03)


def test_too_narrow_a_law_shows_after_near_clicks():
    chosen = laws(1000)
    values = Law(np.zeros(6), 4 * chosen["model"].scatter[0], 8.0).sample(np.random.default_rng(1), 1000)
    found = click_figures(chosen, people(values, chosen["model"].mean), NOISE)
    assert found["coverage"]["near"]["covered"]["50"] < 0.3


def test_only_people_with_all_joints_count():
    chosen = laws(4)
    values = np.full((4, 6), np.nan)
    assert click_figures(chosen, people(values, chosen["model"].mean), NOISE) is None
    values[1] = 1.0
    assert click_figures(chosen, people(values, chosen["model"].mean), NOISE)["people"] == 1


def test_misses_of_those_who_come_first():
    values = np.zeros((10, 6))
    values[:, 0] = [50, 50, 0, 0, 0, 0, 0, 0, 0, 50]
    values[1, 2] = 50
    known = people(values, np.zeros((10, 6)))
    threshold = np.full(10, 6.0)
    assert ranked_misses(known, known.errors.mean(axis=1), threshold) == pytest.approx(3 / 4)
    assert ranked_misses(known, -known.errors.mean(axis=1), threshold) == 0
    threshold[1] = np.nan
    assert ranked_misses(known, known.errors.mean(axis=1), threshold, first=1 / 9) == pytest.approx(1 / 2)
    assert metrics.mean_error(known.errors) > 0


def test_one_joint_has_no_others_to_correct():
    law = Law(np.zeros((5, 2)), np.broadcast_to(np.eye(2), (5, 2, 2)), 8.0)
    values = np.ones((5, 2))
    alone = People(values, np.ones((5, 1)), np.full(5, 100.0), np.full(5, np.nan), None, ("nose",), [])
    assert click_figures({"model": law}, alone, NOISE) is None
