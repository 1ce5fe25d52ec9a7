"""Calibration of whichever law a model predicts."""

import numpy as np

from posecov.law import Law
from posecov.learn.calibration.mixture import calibrate_mixture, calibrated_mixture
from posecov.learn.calibration.shared import Calibration, shrink
from posecov.learn.calibration.single import calibrate
from posecov.mixture import Mixture


def calibrate_law(people: Law | Mixture, values: np.ndarray) -> Calibration:
    """On labels (N, 2J) of N people, NaN where there is none. Raises PosecovError when there is hardly anybody."""
    if isinstance(people, Mixture):
        return calibrate_mixture(people, values)
    return calibrate(values - people.mean, people.scatter, float(people.degrees_of_freedom))


def calibrated_law(people: Law | Mixture, found: Calibration) -> Law | Mixture:
    """The people's law with a calibration's numbers."""
    if isinstance(people, Mixture):
        return calibrated_mixture(people, found)
    rows = np.repeat(found.factor, 2)
    return Law(people.mean, shrink(people.scatter, found.shrinkage) * rows[:, None] * rows, found.degrees_of_freedom)
