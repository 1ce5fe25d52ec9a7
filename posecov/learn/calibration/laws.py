"""Calibration of whichever law a model predicts."""

import dataclasses

import numpy as np
from scipy import optimize

from posecov.law import Law
from posecov.learn.calibration.mixture import calibrate_mixture, calibrated_mixture
from posecov.learn.calibration.shared import ENOUGH, LOG_FACTOR, Calibration, shrink
from posecov.learn.calibration.single import calibrate
from posecov.mixture import Mixture


def calibrate_law(people: Law | Mixture, values: np.ndarray) -> Calibration:
    """On labels (N, 2J) of N people, NaN where there is none; of fewer than `ENOUGH` they tell `calibrate_scale` alone."""
    if len(values) < ENOUGH:
        return calibrate_scale(people, values)
    if isinstance(people, Mixture):
        return calibrate_mixture(people, values)
    return calibrate(values - people.mean, people.scatter, float(people.degrees_of_freedom))


def calibrate_scale(people: Law | Mixture, values: np.ndarray) -> Calibration:
    """The likeliest common factor on all sigmas; degrees of freedom, correlations and weights stay.

    What a handful of people can tell, for each of them has errors of every joint. A head that has learned from few people
    takes their small errors for everybody's.

    Args:
        people: law of N people.
        values: (N, 2J) labels, NaN where there is none.
    """
    before = float(people.negative_log_likelihood(values).mean())
    start = Calibration(np.ones(values.shape[1] // 2), 0.0, float(people.degrees_of_freedom), before, before)

    def scaled(logarithm: float) -> Calibration:
        return dataclasses.replace(start, factor=start.factor * np.exp(logarithm))

    def nll(logarithm: float) -> float:
        return float(calibrated_law(people, scaled(logarithm)).negative_log_likelihood(values).mean())

    found = optimize.minimize_scalar(nll, bounds=LOG_FACTOR, method="bounded", options={"xatol": 1e-3})
    return dataclasses.replace(scaled(float(found.x)), after=float(found.fun))


def calibrated_law(people: Law | Mixture, found: Calibration) -> Law | Mixture:
    """The people's law with a calibration's numbers."""
    if isinstance(people, Mixture):
        return calibrated_mixture(people, found)
    rows = np.repeat(found.factor, 2)
    return Law(people.mean, shrink(people.scatter, found.shrinkage) * rows[:, None] * rows, found.degrees_of_freedom)
