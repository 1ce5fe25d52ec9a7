"""Calibration of a mixture over exchanges of left and right: as of a single law, with two numbers for the weights too."""

import dataclasses
import math

import numpy as np
import torch
from scipy import optimize

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
from posecov.learn.losses import student_t_mixture_nll
from posecov.mixture import Mixture

_SHRINKAGES = (0.0, 0.1, 0.2, 0.3)
_FACTORS = np.exp(np.arange(-0.12, 0.121, 0.03))
_LEAST_LOG_WEIGHT = -30.0
_DEGREES = (0.7, 0.85, 1.0, 1.2, 1.5)
_LOG_TEMPERATURE, _SHIFT = (-2.0, 2.0), (-5.0, 5.0)


def calibrate_mixture(people: Mixture, values: np.ndarray) -> Calibration:
    """The calibration whose regions hold best what they promise, at a likelihood next to the best.

    For each shrinkage of the correlations between joints: the likeliest factor of each joint, degrees of freedom, temperature
    and shift of the weights; then one common factor and the degrees of freedom with the smallest worst deviation of coverage.
    Of those at most 0.2 nats per person from the likeliest the one with the smallest deviation is taken.

    Args:
        people: `Mixture.of_exchanges` of N people, with finite degrees of freedom.
        values: (N, 2J) labels, NaN where there is none.

    Raises:
        PosecovError: hardly anybody to calibrate on.
    """
    check_people(len(values))
    before = float(people.negative_log_likelihood(values).mean())
    fits = [match_coverage(people, values, likeliest(people, values, shrinkage, before)) for shrinkage in _SHRINKAGES]
    return choose(fits)


def calibrated_mixture(people: Mixture, found: Calibration) -> Mixture:
    """The people's law with a calibration's numbers."""
    rows = np.repeat(found.factor, 2)
    logits = found.temperature * _log_weights(people)
    logits[:, 1:] += found.shift
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    scatter = shrink(people.scatter[:, 0], found.shrinkage) * rows[:, None] * rows
    return Mixture.of_exchanges(people.mean, scatter, found.degrees_of_freedom, weights, _orders(people))


def likeliest(people: Mixture, labels: np.ndarray, shrinkage: float, before: float) -> Calibration:
    """By maximum likelihood, with joints' factors drawn to the common one, at a given shrinkage; its NLL is left open."""
    present = torch.from_numpy(~np.isnan(labels))
    rows = None if present.all() else present
    values, mean, log_weights = (torch.from_numpy(np.array(a)) for a in (labels, people.mean, _log_weights(people)))
    scatter, orders = torch.from_numpy(shrink(people.scatter[:, 0], shrinkage)), torch.from_numpy(_orders(people))
    count, joints = len(values), values.shape[1] // 2

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        p = torch.tensor(parameters, requires_grad=True)
        factor = (p[0] + p[4:]).exp().repeat_interleave(2)
        logits = p[2].exp() * log_weights
        logits = torch.cat([logits[:, :1], logits[:, 1:] + p[3]], dim=1)
        nll = student_t_mixture_nll(
            values, mean, scatter * factor[:, None] * factor, rows, 2.0 + p[1].exp(), logits.log_softmax(-1), orders
        ).mean()
        total = nll + (p[4:] / JOINT_SPREAD).square().sum() / (2 * count)
        total.backward()
        assert p.grad is not None
        return total.item(), p.grad.numpy()

    start = np.zeros(4 + joints)
    start[1] = np.clip(math.log(float(people.degrees_of_freedom) - 2.0), *LOG_DEGREES)
    bounds = [LOG_FACTOR, LOG_DEGREES, _LOG_TEMPERATURE, _SHIFT, *[LOG_FACTOR] * joints]
    result = optimize.minimize(objective, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 200})
    if not np.isfinite(result.fun):
        raise PosecovError("calibration: the likelihood is not finite; was the model trained to its end?")
    p = result.x
    nu, temperature = 2.0 + math.exp(p[1]), math.exp(p[2])
    return Calibration(np.exp(p[0] + p[4:]), shrinkage, nu, before, math.nan, temperature, float(p[3]))


def match_coverage(people: Mixture, values: np.ndarray, start: Calibration) -> tuple[Calibration, float]:
    """One common factor and degrees of freedom near those of ``start`` that fit the coverage best, and its worst deviation.

    The factor first, then degrees of freedom, then the factor again: each on a grid about what was found before.
    """
    best, lowest = start, _deviation(people, values, start)
    for field in ("factor", "degrees_of_freedom", "factor"):
        about = best
        for step in _FACTORS if field == "factor" else _DEGREES:
            value = getattr(about, field) * step
            tried = dataclasses.replace(about, **{field: value if field == "factor" else max(value, 2.05)})
            deviation = _deviation(people, values, tried)
            if deviation < lowest:
                best, lowest = tried, deviation
    after = float(calibrated_mixture(people, best).negative_log_likelihood(values).mean())
    return dataclasses.replace(best, after=after), lowest


def _deviation(people: Mixture, values: np.ndarray, found: Calibration) -> float:
    """The worst deviation of coverage at the four masses, of all joints together and over joints by themselves."""
    law = calibrated_mixture(people, found)
    held = [[(m[~np.isnan(m)] <= level).mean() for level in MASSES] for m in (law.mass(values), law.joint_masses(values))]
    return float(worst_deviation((np.array(held) - MASSES).reshape(-1)))


def _log_weights(people: Mixture) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(people.weights), _LEAST_LOG_WEIGHT)


def _orders(people: Mixture) -> np.ndarray:
    if people.orders is None:
        raise PosecovError("calibration: this mixture is not one over exchanges of left and right")
    return np.array(people.orders)
