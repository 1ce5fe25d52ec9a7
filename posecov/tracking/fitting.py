"""How a film's people move and how long an estimator's errors last, from the film's own measurements."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from posecov.errors import PosecovError
from posecov.pose import Pose
from posecov.tracking.kalman import KalmanFilter
from posecov.tracking.motion import MotionModel

_ACCELERATION = (0.1, 50.0)  # Person sizes / s^2: between a person at rest and a jump.
_ERROR_TIME = (0.003, 3.0)  # Seconds.


def innovation_nll(poses: Sequence[Pose | None], times_s: Sequence[float], model: MotionModel, gap_s: float = 1.0) -> float:
    """Mean negative log likelihood of a film's innovations under a model, nats a frame; lower is better.

    It is the likelihood of the whole sequence given its first frame (Schweppe 1965), so models may be compared by it.

    Raises:
        PosecovError: no frame follows another, or times do not increase.
    """
    kalman = KalmanFilter(model, gap_s=gap_s)
    found = []
    for pose, time_s in zip(poses, times_s, strict=True):
        kalman.update(pose, time_s)
        if kalman.step is not None and kalman.step.innovation is not None:
            found.append(kalman.step.innovation.negative_log_likelihood)
    if not found:
        raise PosecovError("a motion model needs a film in which a person is seen in frames that follow each other")
    return float(np.mean(found))


def fit_motion(
    poses: Sequence[Pose | None],
    times_s: Sequence[float],
    model: MotionModel | None = None,
    *,
    gap_s: float = 1.0,
    evaluations: int = 40,
) -> MotionModel:
    """The acceleration and the error time under which a film's measurements are the likeliest.

    Both make a sequence rough or smooth, but a network that says its covariance fixes the size of its errors: what is smoother
    than independent errors of that size is error that lasts, what is larger is motion. Some 100 frames are enough.

    Args:
        poses: one person's, as estimated; None where the person was not seen.
        times_s: seconds, increasing, as many.
        model: where to start, and everything else.
        gap_s: as for the filter.
        evaluations: how often the film is filtered, at most.

    Raises:
        PosecovError: no two frames to compare, or times that do not increase.
    """
    from scipy.optimize import minimize

    base = MotionModel() if model is None else model

    def at(logs: np.ndarray) -> MotionModel:
        acceleration, error_time = np.exp(logs)
        return dataclasses.replace(base, acceleration=float(acceleration), error_time_s=float(error_time))

    bounds = [(math.log(low), math.log(high)) for low, high in (_ACCELERATION, _ERROR_TIME)]
    first = np.clip(np.log([base.acceleration, max(base.error_time_s, _ERROR_TIME[0])]), *np.transpose(bounds))
    found = minimize(
        lambda logs: innovation_nll(poses, times_s, at(logs), gap_s),
        first,
        method="Nelder-Mead",
        bounds=bounds,
        options={
            "initial_simplex": first + np.array([[0.0, 0.0], [-0.7, 0.0], [0.0, 0.7]]),
            "maxfev": evaluations,
            "xatol": 0.05,
            "fatol": 0.01,
        },
    )
    return at(found.x)
