"""What smoothing gains and what it costs, on sequences of points (T, J, 2) at times (T,). NaN is left out."""

import numpy as np

from posecov import law


def accelerations(points: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Second divided differences (T - 2, J, 2) in pixels / s^2, for frames that need not be evenly spaced."""
    times = np.asarray(times_s, dtype=np.float64)[:, None, None]
    velocity = np.diff(points, axis=0) / np.diff(times, axis=0)
    return 2 * np.diff(velocity, axis=0) / (times[2:] - times[:-2])


def jitter(points: np.ndarray, times_s: np.ndarray) -> float:
    """Root mean square acceleration of a joint in pixels / s^2.

    Of a sequence as it is, where a person holds still; of estimated minus true points, where the truth is known and motion
    must not count as jitter.
    """
    squared = np.square(accelerations(points, times_s)).sum(axis=-1)
    return float(np.sqrt(np.nanmean(squared)))


def lag_s(points: np.ndarray, truth: np.ndarray, times_s: np.ndarray) -> float:
    """How many seconds a sequence comes late: least squares of its error on the true velocity, with the sign turned.

    To first order x(t - lag) = x(t) - lag v(t). Errors that have nothing to do with the motion leave it alone.
    """
    velocity = np.gradient(truth, np.asarray(times_s, dtype=np.float64), axis=0)
    counted = ~np.isnan(points - truth)
    return float(-((points - truth) * velocity)[counted].sum() / np.square(velocity)[counted].sum())


def nis_band(dimension: int, degrees_of_freedom: float, confidence: float = 0.95) -> tuple[float, float]:
    """Where the normalised innovation squared, in units of second moments, lies with probability ``confidence``.

    Chi-square for a Gaussian; for a t with nu degrees of freedom nu / (nu - 2) NIS / D follows F(D, nu).
    """
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    spread = 1 / (1 - 2 / degrees_of_freedom)
    low, high = law.central_radius_squared(tails, dimension, degrees_of_freedom) / spread
    return float(low), float(high)


def share_in_band(nis: np.ndarray, dimension: int, degrees_of_freedom: float, confidence: float = 0.95) -> float:
    """Share of frames whose NIS lies in its band, NaN (frames without an innovation) left out."""
    low, high = nis_band(dimension, degrees_of_freedom, confidence)
    counted = nis[~np.isnan(nis)]
    return float(((counted >= low) & (counted <= high)).mean()) if counted.size else float("nan")
