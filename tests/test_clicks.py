"""Which click helps most, against clicks drawn from the law and given to the pose."""

import math
import time

import numpy as np
import pytest
from test_law import random_scatter

from posecov import coordinates
from posecov.clicks import best_click, expected_gain
from posecov.errors import PosecovError
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.mixture import Mixture
from posecov.pose import Pose
from posecov.skeleton import Skeleton, load_skeleton

LEGS = Skeleton(
    name="legs",
    keypoints=("r_ankle", "r_knee", "l_knee", "l_ankle", "neck"),
    flip_pairs=(("r_ankle", "l_ankle"), ("r_knee", "l_knee")),
    limbs=(("r_ankle", "r_knee"), ("l_ankle", "l_knee"), ("r_knee", "neck"), ("l_knee", "neck")),
)
POINTS = np.array([[100.0, 200.0], [105.0, 150.0], [130.0, 152.0], [135.0, 203.0], [120.0, 60.0]])


def student(dof=5.0):
    scatter = 9 * random_scatter(np.random.default_rng(0), 10)
    return Pose(POINTS, scatter if math.isinf(dof) else scatter * dof / (dof - 2), LEGS, dof)


def confused(dof=5.0, size=9.0, weights=(0.6, 0.25, 0.15)):
    scatter = size * random_scatter(np.random.default_rng(0), 10)
    orders = coordinate_orders(exchanges_of(LEGS))
    return Pose.from_mixture(Mixture.of_exchanges(coordinates.flatten(POINTS), scatter, dof, np.array(weights), orders), LEGS)


def law_of(pose):
    """Of the joints that are not known, as a mixture, and their indices."""
    free = np.flatnonzero([name not in pose.known for name in pose.names])
    rows = coordinates.rows(free)
    mean, scatter = pose.keypoints.reshape(-1)[rows].astype(float), pose.scatter[np.ix_(rows, rows)]
    return pose.components or Mixture(np.ones(1), mean[None], scatter[None], pose.degrees_of_freedom), free


def simulated(pose, joint, count=2000):
    """The reduction by its definition, averaged over clicks drawn from the law."""
    law, free = law_of(pose)
    rows = coordinates.rows(np.flatnonzero(free == pose.names.index(joint)))
    people = law.sample(np.random.default_rng(1), count)
    after = law.condition(rows, people[:, rows]).expected_errors().sum(axis=-1).mean()
    return pose.expected_error.sum() - pose.expected_error[pose.names.index(joint)] - after


@pytest.mark.parametrize("make", [student, lambda: student(math.inf), confused, lambda: confused(size=80.0)])
def test_the_gain_is_the_mean_over_clicks_that_the_law_expects(make):
    pose = make()
    gain = expected_gain(pose)
    assert gain.shape == (5,)
    total = float(pose.expected_error.sum())
    for joint, value in zip(pose.names, gain, strict=True):
        assert value == pytest.approx(simulated(pose, joint), abs=0.02 * total)
    assert best_click(pose) == pose.names[int(gain.argmax())]
    assert gain.max() > 0.05 * total


def test_for_a_student_t_it_is_exact():
    # In one direction two joints of correlation r: the residual has sqrt(1 - r^2) of the width.
    covariance = np.eye(4) * 100.0
    covariance[0, 2] = covariance[2, 0] = covariance[1, 3] = covariance[3, 1] = 80.0
    pose = Pose(np.zeros((2, 2)), covariance, Skeleton("two", ("a", "b")), 6.0)
    np.testing.assert_allclose(expected_gain(pose), 0.4 * pose.expected_error[::-1], rtol=1e-5)
    alone = Pose(np.zeros((2, 2)), np.eye(4) * 100.0, Skeleton("two", ("a", "b")), 6.0)
    np.testing.assert_allclose(expected_gain(alone), 0.0, atol=1e-6)


def test_a_click_that_settles_left_and_right_is_worth_more_than_one_that_does_not():
    gain = dict(zip(LEGS.keypoints, expected_gain(confused()), strict=True))
    assert min(gain["r_ankle"], gain["l_ankle"], gain["r_knee"], gain["l_knee"]) > 3 * gain["neck"]


def test_known_joints_gain_nothing_and_are_not_proposed():
    for pose in (student(), confused()):
        first = best_click(pose)
        after = pose.condition({first: pose.keypoints[pose.names.index(first)]})
        gain = expected_gain(after)
        assert gain[pose.names.index(first)] == 0
        others = [name for name in pose.names if name != first]
        scale = float(after.expected_error.sum())
        for joint in others:
            assert gain[pose.names.index(joint)] == pytest.approx(simulated(after, joint), abs=0.02 * scale)
        assert best_click(after) in others
        assert best_click(pose, among=["neck"]) == "neck"
    everything = pose.condition(dict(zip(pose.names, POINTS, strict=True)))
    np.testing.assert_array_equal(expected_gain(everything), 0)
    with pytest.raises(PosecovError, match="left to click"):
        best_click(everything)
    with pytest.raises(PosecovError, match="nose"):
        best_click(pose, among=["nose"])
    single = pose.condition(dict(zip(pose.names[:4], POINTS[:4], strict=True)))
    assert best_click(single) == "neck"


def test_many_components_take_well_under_a_second():
    coco = load_skeleton("coco17")
    rng = np.random.default_rng(4)
    mean, scatter = 100 * rng.random(34), 25 * random_scatter(rng, 34)
    orders = [np.arange(17)]
    for code in range(1, 65):
        order = np.arange(17)
        for bit, (a, b) in enumerate(coco.flip_pairs[:7]):
            if code >> bit & 1:
                a, b = coco.index(a), coco.index(b)
                order[a], order[b] = b, a
        orders.append(order)
    weights = rng.dirichlet(np.ones(65))
    pose = Pose.from_mixture(
        Mixture.of_exchanges(mean, scatter, 6.0, weights, np.stack([coordinates.rows(order) for order in orders])), coco
    )
    start = time.process_time()
    expected_gain(pose)
    assert time.process_time() - start < 5.0  # Under half a second on one thread; without care it is minutes.
