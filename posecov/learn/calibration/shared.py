"""What calibrations of all laws share: what they find, what they aim at, and how they choose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecov.errors import PosecovError

MASSES = np.array([0.5, 0.68, 0.9, 0.95])
# Spread of each joint's log factor about the common one, as a prior: 500 people say little about one joint alone.
JOINT_SPREAD = 0.1
# Bounds of a search: factors e^+-3, degrees of freedom 2.05 to 1000. Beyond, numbers overflow or nothing changes.
LOG_FACTOR = (-3.0, 3.0)
LOG_DEGREES = (math.log(0.05), math.log(998.0))
_PRICE = 0.2  # Nats per person that a better coverage may cost.
ENOUGH = 50  # people; fewer tell one factor on all sigmas, and no more.


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Attributes:
        factor: (J,) on each joint's sigma.
        shrinkage: of the correlations between joints, 0 to 1.
        degrees_of_freedom: of the law; inf stays Gaussian.
        before: NLL per person before, after: and with it; on the same people.
        temperature: factor on the logits of the exchanges' weights, where the law has any.
        shift: what the logits of all exchanges but the first have added.
    """

    factor: np.ndarray
    shrinkage: float
    degrees_of_freedom: float
    before: float
    after: float
    temperature: float = 1.0
    shift: float = 0.0


def shrink(scatter: np.ndarray, shrinkage: float) -> np.ndarray:
    """Matrices (..., 2J, 2J) with correlations between joints multiplied by 1 - shrinkage; each joint's own block stays."""
    joints = scatter.shape[-1] // 2
    return scatter * (1 - shrinkage + shrinkage * np.kron(np.eye(joints), np.ones((2, 2))))


def check_people(count: int) -> None:
    """Raises PosecovError when there is hardly anybody to calibrate on."""
    if count < ENOUGH:
        raise PosecovError(f"calibration needs at least {ENOUGH} people, there are {count}")


def worst_deviation(difference: np.ndarray) -> np.ndarray:
    """Of differences (M, ...) from what was promised, along the first axis: among equals the others break the tie."""
    return np.abs(difference).max(axis=0) + 0.1 * np.sqrt(np.square(difference).mean(axis=0))


def choose(fits: Sequence[tuple[Calibration, float]]) -> Calibration:
    """Of calibrations with their worst deviations the one with the smallest, at most 0.2 nats per person from the likeliest."""
    likeliest = min(found.after for found, _ in fits)
    return min((pair for pair in fits if pair[0].after <= likeliest + _PRICE), key=lambda pair: pair[1])[0]
