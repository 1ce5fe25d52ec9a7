"""The live filter against textbook formulas, its own assumptions, and bad input."""

import math

import numpy as np
import pytest
from scipy import stats
from small_people import STANDING, TWO, exchanged, moving_two, standing, walking_two

from posecov.errors import PosecovError
from posecov.pose import SAME_PIXEL, Pose
from posecov.skeleton import Skeleton
from posecov.tracking.kalman import KalmanFilter
from posecov.tracking.motion import MotionModel

STILL = MotionModel(acceleration=0.5)


def test_independent_errors_and_constant_velocity_give_the_textbook_filter():
    sigma, skeleton = 3.0, Skeleton(name="one", keypoints=("point",))
    model = MotionModel(shared=0.0, fading_s=math.inf, error_time_s=0.0, speed=2.0)
    kalman = KalmanFilter(model)
    rng = np.random.default_rng(0)
    times, places = np.cumsum(rng.uniform(0.02, 0.1, 12)), rng.uniform(0, 9, 12)
    density = 2 * model.acceleration**2 * model.persistence_s  # A single point has the size 1.
    for index, (time, place) in enumerate(zip(times, places, strict=True)):
        pose = kalman.update(Pose([[place, 0.0]], sigma**2 * np.eye(2), skeleton), time)
        if index == 0:
            mean, spread = np.array([place, 0.0]), np.diag([sigma**2, model.speed**2])
        else:
            dt = time - times[index - 1]
            step = np.array([[1, dt], [0, 1]])
            mean = step @ mean
            spread = step @ spread @ step.T + density * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
            gain = spread[:, 0] / (spread[0, 0] + sigma**2)
            mean, spread = mean + gain * (place - mean[0]), spread - np.outer(gain, spread[0])
        assert pose.keypoints[0, 0] == pytest.approx(mean[0], abs=1e-4)
        assert pose.covariance[0, 0] == pytest.approx(spread[0, 0], rel=1e-4)


def test_innovations_are_chi_square_where_the_model_is_true():
    model = MotionModel(error_time_s=0.15)
    kalman, found = KalmanFilter(model), []
    for time, pose in zip(*moving_two(model, 400, seed=3), strict=True):
        kalman.update(pose, time)
        if kalman.step.innovation is not None:
            found.append(kalman.step.innovation.squared)
    assert stats.kstest(found, stats.chi2(4).cdf).pvalue > 0.01
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.15


def test_who_thinks_lasting_errors_independent_is_too_sure_of_the_place():
    times = np.arange(40) / 30
    lasting, naive = (KalmanFilter(MotionModel(error_time_s=tau)) for tau in (0.5, 0.0))
    for time in times:
        pose = standing()
        sure = [kalman.update(pose, time) for kalman in (lasting, naive)]
    assert sure[0].sigma.mean() > 1.3 * sure[1].sigma.mean()


def test_a_covered_joint_is_carried_by_its_neighbours():
    """The foot is covered and said to err with the head, whose place is known well: the head's error explains the foot's."""
    together = np.array([[4.0, 18.0], [18.0, 100.0]])
    apart = np.diag([4.0, 100.0])
    moved = {}
    for name, block in (("together", together), ("apart", apart)):
        kalman = KalmanFilter(MotionModel(error_time_s=0.0, acceleration=0.1, shared=0.0))
        for index in range(30):
            kalman.update(Pose([[50.0, 0.0], [50.0, 100.0]], 0.01 * np.eye(4), TWO), index / 30)
        # A head 2 px off lets one expect a foot 18 / 4 times as far off.
        pose = kalman.update(Pose([[52.0, 0.0], [59.0, 100.0]], np.kron(block, np.eye(2)), TWO), 1.0)
        moved[name] = pose.keypoints[1, 0] - 50
    assert abs(moved["together"]) < 0.1 * moved["apart"]


def test_a_frame_without_a_person_lets_the_covariance_grow_and_a_long_gap_starts_anew():
    kalman = KalmanFilter(gap_s=0.45)
    assert kalman.update(None, 0.0) is None
    for index in range(10):
        before = kalman.update(standing(), 0.1 + index / 30)
    waits = [kalman.update(None, 0.5 + index / 10) for index in range(6)]
    sigmas = [pose.sigma.mean() for pose in waits if pose is not None]
    assert len(sigmas) == 4  # Seen last at 0.4 s, forgotten after 0.85 s.
    assert (np.diff([before.sigma.mean(), *sigmas]) > 0).all()
    assert waits[0].box is None
    again = kalman.update(standing(STANDING + 300), 1.2)
    np.testing.assert_allclose(again.keypoints, STANDING + 300)


def test_legs_exchanged_in_one_frame_are_turned_back():
    weights = [0.9, 0.06, 0.04]
    kalman = KalmanFilter(STILL)
    for index in range(10):
        kalman.update(standing(nu=5.0, weights=weights), index / 30)
    pose = kalman.update(standing(exchanged(), nu=5.0, weights=weights), 0.4)
    np.testing.assert_allclose(pose.keypoints, STANDING, atol=0.5)
    assert kalman.step.component != 0


def test_a_track_that_began_exchanged_is_mended_once_the_network_has_said_so_often_enough():
    weights = [0.9, 0.06, 0.04]
    kalman = KalmanFilter(STILL)
    kalman.update(standing(exchanged(), nu=5.0, weights=weights), 0.0)
    found = [kalman.update(standing(nu=5.0, weights=weights), index / 30).keypoints for index in range(1, 40)]
    np.testing.assert_allclose(found[2], exchanged(), atol=2)
    np.testing.assert_allclose(found[-1], STANDING, atol=2)


@pytest.mark.parametrize(("error_time_s", "begin"), [(0.0, 0.0), (0.25, 0.0), (0.25, 100.0)])
def test_left_and_right_change_at_five_nats_of_new_evidence(error_time_s, begin):
    kalman = KalmanFilter(MotionModel(acceleration=0.5, error_time_s=error_time_s))
    weights = [0.9, 0.06, 0.04]
    kalman.update(standing(exchanged(), nu=5.0, weights=weights), begin)
    new = 1 - math.exp(-1 / 30 / error_time_s) if error_time_s else 1.0
    needed = math.ceil(5 / (new * math.log(0.9 / 0.06)))
    for index in range(1, needed + 1):
        pose = kalman.update(standing(nu=5.0, weights=weights), begin + index / 30)
        np.testing.assert_allclose(pose.keypoints, exchanged() if index < needed else STANDING, atol=0.1)


def test_a_prediction_is_made_anew_for_another_time_and_after_another_frame():
    times, poses = walking_two()
    kalman = KalmanFilter()
    assert kalman.predicted(0.0) is None
    for time, pose in zip(times, poses, strict=True):
        kalman.update(pose, time)
        np.testing.assert_allclose(kalman.predicted(time).mean, kalman.step.filtered.mean)
        one, other = kalman.predicted(time + 0.1), kalman.predicted(time + 0.3)
        assert (one.time_s, other.time_s) == (time + 0.1, time + 0.3)
        assert np.trace(other.position_covariance) > np.trace(one.position_covariance)


def test_a_gross_error_of_one_joint_is_weighed_down_under_a_student_t():
    gross = STANDING.copy()
    gross[4, 0] += 60
    moved = {}
    for nu in (5.0, math.inf):
        kalman = KalmanFilter(STILL)
        for index in range(10):
            kalman.update(standing(nu=nu), index / 30)
        moved[nu] = np.abs(kalman.update(standing(gross, nu=nu), 0.4).keypoints - STANDING).max(axis=1)
    assert moved[5.0][4] < 0.25 * moved[math.inf][4]
    assert moved[5.0][:4].max() < 1


def test_a_joint_that_is_known_stays_where_it_is():
    kalman = KalmanFilter()
    for index in range(5):
        pose = kalman.update(standing().condition({"l_foot": STANDING[4] + 9}), index / 30)
    np.testing.assert_allclose(pose.keypoints[4], STANDING[4] + 9, atol=1e-3)


@pytest.mark.parametrize(("time", "said"), [(1.0, "later than .* 1 s"), (0.5, "0.5 s, must be later"), (math.nan, "finite")])
def test_times_that_do_not_follow_are_refused(time, said):
    kalman = KalmanFilter()
    kalman.update(standing(), 1.0)
    with pytest.raises(PosecovError, match=said):
        kalman.update(standing(), time)


def test_another_skeleton_is_refused():
    kalman = KalmanFilter()
    kalman.update(standing(), 0.0)
    with pytest.raises(PosecovError, match="two cannot follow one of legs"):
        kalman.update(walking_two()[1][0], 1.0)


def test_a_pose_whose_joints_are_all_known_can_be_followed():
    pose = standing(nu=6.0)
    fixed = pose.condition(dict(zip(pose.names, pose.keypoints, strict=True)))
    kalman = KalmanFilter()
    first = kalman.update(fixed, 0.0)
    np.testing.assert_allclose(first.sigma, SAME_PIXEL, rtol=1e-5)
    for time in (0.1, 0.2):
        np.linalg.cholesky(kalman.update(pose, time).covariance)
    assert (kalman.update(fixed, 0.3).sigma < 2 * SAME_PIXEL).all()


def test_a_small_variance_beside_a_large_one_stays():
    pose = Pose([[50.0, 20.0], [50.0, 120.0]], np.diag([1e-2, 1e-2, 1e6, 1e6]), TWO)
    np.testing.assert_allclose(KalmanFilter().update(pose, 0.0).covariance, pose.covariance, rtol=1e-6)


@pytest.mark.parametrize(
    ("tails", "nu", "expected"), [(4.5, 6.0, 4.5), (4.5, 3.0, 3.0), (math.inf, 6.0, 6.0), (4.5, math.inf, 4.5)]
)
def test_the_law_of_innovations_has_the_heavier_tails_and_the_filter_is_the_same(tails, nu, expected):
    poses = {}
    for own in (tails, math.inf):
        kalman = KalmanFilter(MotionModel(tails=own))
        poses[own] = [kalman.update(standing(STANDING + 3 * index, nu=nu), index / 30) for index in range(3)]
        if own == tails:
            innovation = kalman.step.innovation
    assert innovation.degrees_of_freedom == expected
    scatter = innovation.covariance if math.isinf(expected) else innovation.covariance * (1 - 2 / expected)
    law = stats.multivariate_normal(None, scatter) if math.isinf(expected) else stats.multivariate_t(None, scatter, expected)
    assert innovation.negative_log_likelihood == pytest.approx(-law.logpdf(innovation.residual))
    np.testing.assert_array_equal(poses[tails][-1].keypoints, poses[math.inf][-1].keypoints)
