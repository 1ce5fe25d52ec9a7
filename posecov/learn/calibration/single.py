"""Calibration of a single Student-t, or Gaussian."""

import math

import numpy as np
from scipy import optimize

from posecov import law
from posecov.coordinates import joint_blocks, unflatten
from posecov.errors import PosecovError
from posecov.learn.calibration.shared import (
    JOINT_SPREAD,
    LOG_DEGREES,
    LOG_FACTOR,
    MASSES,
    Calibration,
    check_people,
    choose,
    shrink,
    worst_deviation,
)

_SHRINKAGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


def calibrate(residuals: np.ndarray, scatter: np.ndarray, degrees_of_freedom: float) -> Calibration:
    """The calibration whose central regions hold best what they promise, at a likelihood next to the best.

    Correlations learned on some people are a little too strong for others, so that regions of all joints together hold too
    few while those of single joints hold too many. Correlations between joints therefore shrink, as far as it lowers the
    worst deviation of coverage and costs at most 0.2 nats per person; `fit` does the rest for each shrinkage.

    Args:
        residuals: (N, 2J) label minus mean, NaN without a label.
        scatter: (N, 2J, 2J) predicted.
        degrees_of_freedom: of the law it was predicted under; inf is kept.

    Raises:
        PosecovError: hardly anybody to calibrate on.
    """
    check_people(len(residuals))
    fits = [fit(residuals, scatter, degrees_of_freedom, shrinkage) for shrinkage in _SHRINKAGES]
    return choose(fits)


def fit(residuals: np.ndarray, scatter: np.ndarray, degrees_of_freedom: float, shrinkage: float) -> tuple[Calibration, float]:
    """Factors on the sigmas, and degrees of freedom, with which a law's central regions hold what they promise.

    First the likeliest factor of each joint; then one common factor and the degrees of freedom with the smallest worst
    deviation of coverage at 50, 68, 90 and 95 %, of all joints together and averaged over the joints by themselves. The
    likelihood alone looks after the joint regions only: errors of single joints have heavier tails than a common
    Student-t's marginals, and their regions come out too wide.

    One law stays one law: factors are on joints (all correlations stay), so marginals and conditionals remain those of one
    multivariate Student-t.

    Args:
        residuals, scatter, degrees_of_freedom: see `calibrate`.
        shrinkage: of the correlations between joints.

    Returns:
        The calibration, and its worst deviation of coverage.

    Raises:
        PosecovError: the likelihood is not finite.
    """
    before = float(law.negative_log_likelihood(residuals, scatter, degrees_of_freedom).mean())
    scatter = shrink(np.asarray(scatter, dtype=np.float64), shrinkage)
    residuals, scatter = np.asarray(residuals, dtype=np.float64), np.asarray(scatter, dtype=np.float64)
    count, size = residuals.shape
    gaussian = np.isinf(degrees_of_freedom)
    present = ~np.isnan(residuals)
    joint_present = present.reshape(count, -1, 2).any(axis=2)

    def unpack(parameters: np.ndarray) -> tuple[np.ndarray, float]:
        factor = np.exp(parameters[0] + parameters[2:])
        return factor, np.inf if gaussian else 2.0 + float(np.exp(parameters[1]))

    def objective(parameters: np.ndarray) -> float:
        factor, nu = unpack(parameters)
        rows = np.repeat(factor, 2)
        # |D S D| and r^T (D S D)^-1 r with D on the diagonal: scale the residuals instead of every matrix.
        nll = law.negative_log_likelihood(residuals / rows, scatter, nu) + (joint_present * 2 * np.log(factor)).sum(axis=1)
        return float(nll.mean() + np.square(parameters[2:] / JOINT_SPREAD).sum() / (2 * count))

    start = np.zeros(2 + size // 2)
    start[1] = 0.0 if gaussian else np.log(degrees_of_freedom - 2.0)
    bounds = [LOG_FACTOR, LOG_DEGREES] + [LOG_FACTOR] * (size // 2)
    start[1] = np.clip(start[1], *bounds[1])
    found = optimize.minimize(objective, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
    if not np.isfinite(found.fun):
        raise PosecovError("calibration: the likelihood is not finite; was the model trained to its end?")
    factor, nu = unpack(found.x)
    common, nu, deviation = match_coverage(residuals / np.repeat(factor, 2), scatter, nu)
    factor = factor * common
    after = law.negative_log_likelihood(residuals / np.repeat(factor, 2), scatter, nu)
    after = after + (joint_present * 2 * np.log(factor)).sum(axis=1)
    return Calibration(factor, shrinkage, nu, before, float(after.mean())), deviation


def match_coverage(residuals: np.ndarray, scatter: np.ndarray, degrees_of_freedom: float) -> tuple[float, float, float]:
    """A common factor on the sigmas, and degrees of freedom, that fit the coverage of all joints together and of each.

    Args:
        residuals: (N, 2J), NaN without a label. scatter: (N, 2J, 2J).
        degrees_of_freedom: where the search starts; inf is kept.

    Returns:
        Factor and degrees of freedom, the best on a grid of 1 % and 5 % steps, and the worst deviation left.
    """
    size = np.sum(~np.isnan(residuals), axis=1)
    together = law.squared_mahalanobis(residuals, scatter)
    points = unflatten(residuals)
    single = law.squared_mahalanobis(points, joint_blocks(scatter))[~np.isnan(points).any(axis=2)]
    degrees = [math.inf] if math.isinf(degrees_of_freedom) else np.geomspace(2.5, 40.0, 57)
    factors = np.exp(np.arange(-0.35, 0.351, 0.01))
    best = (math.inf, 1.0, degrees_of_freedom)
    for nu in degrees:
        # A region holds the people whose squared distance is below its radius: sort once, count for every factor.
        radii = law.central_radius_squared(MASSES[:, None], np.append(np.unique(size), 2), nu)
        each = np.searchsorted(np.sort(single), radii[:, -1:] * factors**2) / len(single)
        whole = np.zeros_like(each)
        for index, dimension in enumerate(np.unique(size)):
            whole += np.searchsorted(np.sort(together[size == dimension]), radii[:, index : index + 1] * factors**2) / len(size)
        difference = np.concatenate([each, whole]) - np.tile(MASSES, 2)[:, None]
        deviations = worst_deviation(difference)
        place = int(np.argmin(deviations))
        if deviations[place] < best[0]:
            best = (float(deviations[place]), float(factors[place]), float(nu))
    return best[1], best[2], best[0]
