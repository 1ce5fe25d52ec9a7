"""The One-Euro filter."""

import math

import numpy as np
import pytest
from small_people import STANDING, standing, walking_two

from posecov.errors import PosecovError
from posecov.tracking.one_euro import OneEuroFilter


@pytest.mark.parametrize("way", [1, -1])
def test_it_is_the_recursion_of_the_paper(way):
    times, poses = walking_two()
    poses = poses[::way]
    live = OneEuroFilter(1.5, 0.02, 0.8)
    found = [live.update(pose, time).keypoints[1, 0] for pose, time in zip(poses, times, strict=True)]

    def alpha(cutoff, dt):
        return 1 / (1 + (1 / (2 * math.pi * cutoff)) / dt)

    value, speed, expected = float(poses[0].keypoints[1, 0]), 0.0, [float(poses[0].keypoints[1, 0])]
    for pose, dt in zip(poses[1:], np.diff(times), strict=True):
        raw = (float(pose.keypoints[1, 0]) - value) / dt
        speed = alpha(0.8, dt) * raw + (1 - alpha(0.8, dt)) * speed
        share = alpha(1.5 + 0.02 * abs(speed), dt)
        value = share * float(pose.keypoints[1, 0]) + (1 - share) * value
        expected.append(value)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_covariance_stays_and_a_gap_starts_anew():
    live = OneEuroFilter(gap_s=0.5)
    first = live.update(standing(), 0.0)
    np.testing.assert_array_equal(first.covariance, standing().covariance)
    assert live.update(None, 0.1) is None
    late = live.update(standing(STANDING + 50), 0.2)
    assert (late.keypoints < STANDING + 49).all()
    np.testing.assert_array_equal(live.update(standing(STANDING + 50), 1.0).keypoints, STANDING + 50)
    with pytest.raises(PosecovError, match="must be later"):
        live.update(standing(), 1.0)
