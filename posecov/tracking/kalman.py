"""The live filter: one person's poses through time, each with the covariance that the network predicted for it.

The measurement noise is the whole 2J x 2J covariance of every frame, so that an occluded joint is carried by its neighbours.
Tails and exchanges of left and right are the law's own (`measurement`), motion and the persistence of errors those of `motion`.
"""

import math
from dataclasses import dataclass

import numpy as np

from posecov import coordinates, law
from posecov.errors import PosecovError
from posecov.pose import Pose
from posecov.tracking.measurement import (
    Measurement,
    component_of,
    gross_error_covariance,
    likeliest,
    relabelling_evidence,
)
from posecov.tracking.motion import MotionModel, error_root, limb_depths, person_size

RELABEL = 5.0
"""Nats of evidence, frames that share their errors counted once, at which a track's left and right are exchanged."""


@dataclass(frozen=True, eq=False)
class State:
    """What is believed about one person at one time, a Gaussian.

    Attributes:
        time_s: seconds.
        mean: (3D,) position in pixels, velocity in pixels/s, whitened error (`motion`).
        covariance: (3D, 3D).
    """

    time_s: float
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """(D,) pixels."""
        return self.mean[: len(self.mean) // 3]

    @property
    def position_covariance(self) -> np.ndarray:
        """(D, D) pixels^2."""
        dimension = len(self.mean) // 3
        return self.covariance[:dimension, :dimension]

    def reordered(self, order: np.ndarray) -> "State":
        """The state with its coordinates in another order (D,)."""
        rows = (np.arange(3)[:, None] * len(order) + order).reshape(-1)
        return State(self.time_s, self.mean[rows], self.covariance[np.ix_(rows, rows)])


@dataclass(frozen=True, eq=False)
class Innovation:
    """A measurement minus what was predicted for it, before any weighing by tails.

    Attributes:
        residual: (D,) pixels.
        covariance: (D, D) predicted.
        degrees_of_freedom: of its law, the measurement's or those of the model's tails.
    """

    residual: np.ndarray
    covariance: np.ndarray
    degrees_of_freedom: float

    @property
    def squared(self) -> float:
        """Normalised innovation squared (NIS); its expectation is D where model and motion agree."""
        return float(law.squared_mahalanobis(self.residual, self.covariance))

    @property
    def negative_log_likelihood(self) -> float:
        """Nats under its law."""
        scatter = law.scatter_from_covariance(self.covariance, self.degrees_of_freedom)
        return float(law.negative_log_likelihood(self.residual, scatter, self.degrees_of_freedom))


@dataclass(frozen=True, eq=False)
class Step:
    """One frame of a filtered film.

    Attributes:
        filtered: belief after the frame.
        predicted: belief before it; None where the filter started.
        innovation: None where it started or nothing was measured.
        component: of the law that was taken.
    """

    filtered: State
    predicted: State | None = None
    innovation: Innovation | None = None
    component: int = 0


def start(measurement: Measurement, time_s: float, model: MotionModel) -> State:
    """The belief after a first measurement: nothing was known about the position, so it is as sure as the measurement."""
    root, dimension = error_root(measurement.covariance), len(measurement.values)
    speed = model.speed * person_size(measurement.values)
    mean, covariance = np.zeros((3, dimension)), np.zeros((3, dimension, 3, dimension))
    mean[0] = measurement.values
    covariance[0, :, 0, :] = measurement.covariance
    covariance[0, :, 2, :], covariance[2, :, 0, :] = -root, -root.T
    covariance[1, :, 1, :] = speed**2 * np.eye(dimension)
    covariance[2, :, 2, :] = np.eye(dimension)
    return State(time_s, mean.reshape(-1), covariance.reshape(3 * dimension, 3 * dimension))


def predict(state: State, time_s: float, model: MotionModel, depths: np.ndarray) -> State:
    """The belief at a later time when nothing is seen until then; ``depths`` are the skeleton's `limb_depths` (J,)."""
    dt = time_s - state.time_s
    transition, noise = model.transition(dt), model.noise(dt, person_size(state.position), depths)
    mean = (transition @ state.mean.reshape(3, -1)).reshape(-1)
    # The same for every coordinate: kron(F, 1) P kron(F, 1)^T.
    rows = (transition @ state.covariance.reshape(3, -1)).reshape(len(mean), 3, -1)
    return State(time_s, mean, (transition @ rows).reshape(noise.shape) + noise)


def update(predicted: State, measurement: Measurement, tails: float = math.inf) -> tuple[State, Innovation]:
    """The belief once a measurement is known, gross errors of single joints weighed down (`gross_error_covariance`).

    ``tails`` are those of the `MotionModel`, which only the innovation's law knows.
    """
    dimension = len(measurement.values)
    observe = np.concatenate([np.eye(dimension), np.zeros((dimension, dimension)), error_root(measurement.covariance)], axis=1)
    residual = measurement.values - observe @ predicted.mean
    carried = predicted.covariance @ observe.T
    spread = observe @ carried
    spread = (spread + spread.T) / 2
    innovation = Innovation(residual, spread, min(measurement.degrees_of_freedom, tails))
    gross = gross_error_covariance(residual, spread, measurement)
    gain = np.linalg.solve(spread + gross, carried.T).T
    # Joseph's form, a sum of covariances: what is subtracted from a large one would not stay one.
    kept = np.eye(len(predicted.mean)) - gain @ observe
    covariance = kept @ predicted.covariance @ kept.T + gain @ gross @ gain.T
    state = State(predicted.time_s, predicted.mean + gain @ residual, (covariance + covariance.T) / 2)
    return state, innovation


def pose_of(state: State, pose: Pose | None, before: Pose) -> Pose:
    """The position as a pose, with the box of the frame's estimated pose; where there is none it is like the one ``before``."""
    like, box = (before, None) if pose is None else (pose, pose.box)
    return Pose(
        coordinates.unflatten(state.position), state.position_covariance, like.skeleton, like.degrees_of_freedom, box=box
    )


class KalmanFilter:
    """Filters one person's poses as they come.

    >>> kalman = KalmanFilter()  # doctest: +SKIP
    >>> for time_s, pose in film:  # doctest: +SKIP
    ...     smoothed = kalman.update(pose, time_s)

    Attributes:
        model: of motion and errors.
        gap_s: after so many seconds without a pose the motion is forgotten, and the next pose starts anew.
        step: the last frame, None before the first pose and after a gap.
    """

    def __init__(self, model: MotionModel | None = None, *, gap_s: float = 1.0, relabel: float = RELABEL):
        """A filter that has seen nothing.

        Args:
            model: of motion and errors.
            gap_s: seconds.
            relabel: evidence in nats at which left and right of the track are exchanged; `math.inf` for never.
        """
        self.model = MotionModel() if model is None else model
        self.gap_s = gap_s
        self.step: Step | None = None
        self._relabel = relabel
        self._evidence = np.zeros(1)
        self._depths = np.zeros(0, dtype=int)
        self._time_s = -math.inf
        self._seen: tuple[float, Pose] | None = None
        self._ahead: tuple[State, State] | None = None

    def update(self, pose: Pose | None, time_s: float) -> Pose | None:
        """The filtered pose at a time, with its covariance; None while nothing is known.

        Args:
            pose: as estimated, or None when the person was not seen: motion goes on and the covariance grows.
            time_s: seconds, later than the last one; frames need not be evenly spaced.

        Raises:
            PosecovError: a time that does not follow, or a pose of another skeleton.
        """
        self._time_s = following(time_s, self._time_s)
        if self._seen is not None and time_s - self._seen[0] > self.gap_s:
            self.step = self._seen = None
        if pose is not None:
            same_skeleton(pose, None if self._seen is None else self._seen[1])
            if self._seen is None:
                self._depths = limb_depths(pose.skeleton)
        self.step = self._advance(pose, time_s)
        if pose is not None:
            self._seen = time_s, pose
        return None if self.step is None or self._seen is None else pose_of(self.step.filtered, pose, self._seen[1])

    def predicted(self, time_s: float) -> State | None:
        """The belief at a later time, without going there; None while nothing is known."""
        if self.step is None:
            return None
        # A tracker asks several times about the same frame: where to look, who fits, and to go there.
        if self._ahead is None or self._ahead[0] is not self.step.filtered or self._ahead[1].time_s != time_s:
            self._ahead = self.step.filtered, predict(self.step.filtered, time_s, self.model, self._depths)
        return self._ahead[1]

    def _advance(self, pose: Pose | None, time_s: float) -> Step | None:
        predicted = self.predicted(time_s)
        if predicted is None:
            self._evidence = np.zeros(1)
            return None if pose is None else Step(start(component_of(pose), time_s, self.model))
        if pose is None:
            return Step(predicted, predicted)
        measurement = likeliest(pose, predicted.position, predicted.position_covariance)
        state, innovation = update(predicted, measurement, self.model.tails)
        return Step(self._relabelled(state, pose, measurement.component), predicted, innovation, measurement.component)

    def _relabelled(self, state: State, pose: Pose, component: int) -> State:
        """The state with left and right exchanged once the network has contradicted it for long enough.

        A cumulative sum test (Page 1954). Frames whose errors last tell the same again: each counts for what is new in it.
        """
        if self._seen is None or pose.components is None or pose.components.orders is None:
            return state
        fresh = 1 - self.model.transition(state.time_s - self._seen[0])[2, 2]
        self._evidence = np.maximum(self._evidence + fresh * relabelling_evidence(pose, component), 0.0)
        best = int(self._evidence.argmax())
        if self._evidence[best] < self._relabel:
            return state
        self._evidence = np.zeros(1)
        return state.reordered(pose.components.orders[best])


def following(time_s: float, last_s: float) -> float:
    """The time itself. Raises PosecovError unless it is finite and later than the last one."""
    if not math.isfinite(time_s):
        raise PosecovError(f"the time of a frame must be a finite number of seconds, not {time_s}")
    if not time_s > last_s:
        raise PosecovError(f"the time of a frame, {time_s:g} s, must be later than that of the one before, {last_s:g} s")
    return float(time_s)


def same_skeleton(pose: Pose, before: Pose | None) -> None:
    """Raises PosecovError when a film's poses are not of one skeleton."""
    if before is not None and pose.skeleton != before.skeleton:
        raise PosecovError(
            f"a pose of skeleton {pose.skeleton.name} cannot follow one of {before.skeleton.name}; track each film by one model"
        )
