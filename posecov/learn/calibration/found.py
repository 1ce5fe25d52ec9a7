"""What calibration finds, and what all of it shares."""

from dataclasses import dataclass

import numpy as np

MASSES = np.array([0.5, 0.68, 0.9, 0.95])
# Spread of each joint's log factor about the common one, as a prior: 500 people say little about one joint alone.
JOINT_SPREAD = 0.1
# Nats per person that a better coverage may cost.
PRICE = 0.2


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
