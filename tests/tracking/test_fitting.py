"""Motion and the lasting of errors, found in a film."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from small_people import TWO, moving_two, walking_two

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.pose import Pose
from posecov.tracking.fitting import fit_motion, innovation_nll
from posecov.tracking.motion import MotionModel, error_root


@pytest.mark.parametrize("error_time_s", [0.05, 0.3])
def test_a_film_tells_how_long_errors_last_and_how_people_move(error_time_s):
    truth = MotionModel(acceleration=0.6, error_time_s=error_time_s)
    times, poses = moving_two(truth, 150, seed=2)
    fitted = fit_motion(poses, times, evaluations=25)
    assert fitted.error_time_s == pytest.approx(error_time_s, rel=0.5)
    assert fitted.acceleration == pytest.approx(0.6, rel=0.5)
    assert innovation_nll(poses, times, fitted) <= innovation_nll(poses, times, truth) + 0.02


def test_the_likelihood_is_that_of_the_sequence():
    """Two frames of a person at rest: the second given the first, from the Gaussian of both."""
    times, poses = walking_two(frames=2)
    model = MotionModel(acceleration=1e-9, speed=1e-9, error_time_s=0.1, tails=math.inf)
    phi = np.exp(-(times[1] - times[0]) / 0.1)
    first, second = (coordinates.flatten(pose.keypoints.astype(float)) for pose in poses)
    spreads = [pose.covariance.astype(float) for pose in poses]
    across = phi * error_root(spreads[1]) @ error_root(spreads[0]).T
    # With a flat prior the difference of both frames is what one knows.
    spread = spreads[0] + spreads[1] - across - across.T
    expected = -stats.multivariate_normal(np.zeros(4), spread).logpdf(second - first)
    assert innovation_nll(poses, times, model) == pytest.approx(expected, rel=1e-5)


def test_a_film_without_two_frames_is_refused():
    with pytest.raises(PosecovError, match="frames that follow each other"):
        fit_motion([Pose([[0, 0], [0, 9]], np.eye(4), TWO), None], [0.0, 1.0])


def test_everything_else_of_the_model_stays():
    times, poses = walking_two()
    base = MotionModel(speed=3.0, shared=0.1)
    fitted = fit_motion(poses, times, base, evaluations=4)
    assert dataclasses.replace(fitted, acceleration=base.acceleration, error_time_s=base.error_time_s) == base
