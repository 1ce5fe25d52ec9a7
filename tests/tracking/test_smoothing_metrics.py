"""Jitter, lag and the band of innovations."""

import math

import numpy as np
import pytest
from scipy import stats

from posecov.tracking.metrics import accelerations, jitter, lag_s, nis_band, share_in_band

TIMES = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.05, 300))


def test_a_parabola_has_its_acceleration_at_uneven_times():
    points = np.stack([3 * TIMES**2 + TIMES, 4 * TIMES**2], axis=-1)[:, None, :]
    np.testing.assert_allclose(accelerations(points, TIMES), np.broadcast_to([6.0, 8.0], (298, 1, 2)), rtol=1e-6)
    assert jitter(points, TIMES) == pytest.approx(10)
    points[5] = np.nan
    assert jitter(points, TIMES) == pytest.approx(10)


def test_lag_is_how_late_a_motion_comes():
    def motion(times):
        return np.stack([np.sin(3 * times), np.cos(2 * times)], axis=-1)[:, None, :]

    assert lag_s(motion(TIMES - 0.02), motion(TIMES), TIMES) == pytest.approx(0.02, rel=0.02)
    assert lag_s(motion(TIMES) * 0.9, motion(TIMES), TIMES) == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("nu", [5.0, math.inf])
def test_the_band_holds_what_it_says(nu):
    rng = np.random.default_rng(1)
    stretch = 1.0 if math.isinf(nu) else np.sqrt((nu - 2) / rng.chisquare(nu, 20000))
    nis = np.square(rng.standard_normal((6, 20000)) * stretch).sum(axis=0)
    assert share_in_band(nis, 6, nu) == pytest.approx(0.95, abs=0.006)
    assert share_in_band(np.array([np.nan, 6.0]), 6, nu) == 1


def test_the_gaussian_band_is_chi_square():
    np.testing.assert_allclose(nis_band(28, math.inf), stats.chi2(28).interval(0.95))
