"""Filter and smoother against the brute-force conditional of the whole sequence, gaps, and the labelling of a film."""

import math

import numpy as np
import pytest
from small_people import STANDING, TWO, exchanged, standing, walking_two

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.pose import Pose
from posecov.skeleton import Skeleton
from posecov.tracking.kalman import KalmanFilter
from posecov.tracking.motion import MotionModel, error_root, limb_depths, person_size
from posecov.tracking.smoother import filter_film, smooth

MODEL = MotionModel(error_time_s=0.08)


def brute_force(times, poses, model, steps, known):
    """Posterior means (T, D) and covariances (T, D, D) of all positions, from one Gaussian of all states and measurements.

    Only the poses in ``known`` are measured. The position of the first frame has a nearly flat prior.
    """
    dimension, count = len(poses[0].covariance), 3 * len(poses[0].covariance)
    speed = model.speed * person_size(coordinates.flatten(poses[0].keypoints.astype(float)))
    prior = np.diag(np.repeat([1e7, speed**2, 1.0], dimension))
    joint = np.zeros((count * len(times), count * len(times)))
    joint[:count, :count] = prior
    for index in range(1, len(times)):
        now, last = slice(index * count, (index + 1) * count), slice((index - 1) * count, index * count)
        dt = times[index] - times[index - 1]
        step = np.kron(model.transition(dt), np.eye(dimension))
        size = person_size(steps[index - 1].filtered.position)
        joint[now, : index * count] = step @ joint[last, : index * count]
        joint[: index * count, now] = joint[now, : index * count].T
        joint[now, now] = step @ joint[last, last] @ step.T + model.noise(dt, size, limb_depths(TWO))
    observe = np.zeros((len(known) * dimension, len(joint)))
    values = []
    for row, index in enumerate(known):
        rows, start = slice(row * dimension, (row + 1) * dimension), index * count
        observe[rows, start : start + dimension] = np.eye(dimension)
        observe[rows, start + 2 * dimension : start + count] = error_root(poses[index].covariance.astype(float))
        values.append(coordinates.flatten(poses[index].keypoints.astype(float)))
    gain = np.linalg.solve(observe @ joint @ observe.T, observe @ joint).T
    mean, spread = gain @ np.concatenate(values), joint - gain @ observe @ joint
    places = [slice(index * count, index * count + dimension) for index in range(len(times))]
    return [mean[place] for place in places], [spread[place, place] for place in places]


@pytest.mark.parametrize("model", [MODEL, MotionModel(error_time_s=0.0), MotionModel(fading_s=math.inf, shared=0.0)])
@pytest.mark.parametrize("missing", [(), (2, 3)])
def test_filter_and_smoother_are_the_exact_conditionals(model, missing):
    times, poses = walking_two()
    seen = [None if index in missing else pose for index, pose in enumerate(poses)]
    known = [index for index in range(len(poses)) if index not in missing]
    steps = filter_film(seen, times, model)
    means, spreads = brute_force(times, poses, model, steps, known)
    for pose, mean, spread in zip(smooth(seen, times, model), means, spreads, strict=True):
        np.testing.assert_allclose(coordinates.flatten(pose.keypoints), mean, atol=2e-3)
        np.testing.assert_allclose(pose.covariance, spread, rtol=2e-3, atol=2e-3)
    for last in (1, 4):
        means, spreads = brute_force(times, poses, model, steps, [index for index in known if index <= last])
        np.testing.assert_allclose(steps[last].filtered.position, means[last], atol=2e-3)
        np.testing.assert_allclose(steps[last].filtered.position_covariance, spreads[last], rtol=2e-3, atol=2e-3)


def test_short_gaps_are_filled_long_ones_split_the_film_and_nothing_is_made_up_outside():
    times = np.concatenate([np.arange(10) / 30, 0.5 + np.arange(5) / 30, 3 + np.arange(5) / 30])
    moving = [standing(STANDING + 60 * time) for time in times]
    poses = [None, *moving[1:6], None, None, *moving[8:12], None, None, None, *moving[15:19], None]
    model = MotionModel(error_time_s=0.0, acceleration=3.0)
    found = smooth(poses, times, model, gap_s=1.0)
    assert [pose is None for pose in found] == [index in (0, 12, 13, 14, 19) for index in range(20)]
    assert found[6].sigma.mean() > found[4].sigma.mean()
    np.testing.assert_allclose(found[6].keypoints, STANDING + 60 * times[6], atol=0.3)
    alone = smooth(poses[15:19], times[15:19], model)
    np.testing.assert_array_equal(found[15].covariance, alone[0].covariance)


def test_a_film_that_began_exchanged_is_labelled_as_all_its_frames_say():
    weights = [0.9, 0.06, 0.04]
    poses = [standing(exchanged() if index == 0 else STANDING, nu=5.0, weights=weights) for index in range(8)]
    for pose in smooth(poses, np.arange(8) / 30):
        np.testing.assert_allclose(pose.keypoints, STANDING, atol=0.5)


@pytest.mark.parametrize(
    ("weights", "wrong", "frames"),
    [
        ([0.9, 0.06, 0.04], (0, 7), 8),  # The last frame alone would leave it as it began.
        ([0.5, 0.4, 0.1], (0,), 3),  # Little evidence, and none against it.
    ],
)
def test_the_sum_over_a_film_decides_about_left_and_right(weights, wrong, frames):
    poses = [standing(exchanged() if index in wrong else STANDING, nu=5.0, weights=weights) for index in range(frames)]
    for pose in smooth(poses, np.arange(frames) / 30):
        np.testing.assert_allclose(pose.keypoints, STANDING, atol=0.5)
    right = [pose for index, pose in enumerate(poses) if index not in wrong]
    assert [step.component for step in filter_film(right, np.arange(len(right)) / 30, MODEL)] == [0] * len(right)


def test_gaps_are_filled_up_to_a_second():
    for gap, filled in ((0.95, True), (1.05, False)):
        assert (smooth([standing(), None, standing()], [0.0, gap / 2, gap])[1] is not None) == filled


def test_it_knows_more_than_the_live_filter_and_ends_as_sure():
    times, poses = walking_two(frames=12)
    kalman = KalmanFilter(MODEL)
    live, offline = [kalman.update(pose, time) for pose, time in zip(poses, times, strict=True)], smooth(poses, times, MODEL)
    assert all(late.sigma.mean() < early.sigma.mean() for late, early in zip(offline[:-1], live[:-1], strict=True))
    np.testing.assert_allclose(offline[-1].covariance, live[-1].covariance)


def test_bad_input_is_one_line():
    times, poses = walking_two()
    with pytest.raises(PosecovError, match="7 poses need as many times, not 6"):
        smooth(poses, times[:-1])
    with pytest.raises(PosecovError, match="must be later"):
        smooth(poses, times[::-1])
    assert smooth([None, None], [0.0, 1.0]) == [None, None]
    assert smooth([], []) == []


def test_needles_of_uncertainty_at_a_high_frame_rate_stay_covariances():
    one, rng = Skeleton("one", ("point",)), np.random.default_rng(0)
    for _ in range(40):
        along = rng.standard_normal((3, 2)) * 10 ** rng.uniform(0, 5, (3, 2))
        poses = [Pose(rng.normal(10, 1, (1, 2)), np.outer(row, row) * (1 + 1e-6 * np.eye(2)), one) for row in along]
        for pose in smooth(poses, np.cumsum(rng.uniform(1e-5, 1e-4, 3)), MotionModel()):
            np.linalg.cholesky(pose.covariance)
