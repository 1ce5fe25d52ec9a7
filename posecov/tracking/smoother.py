"""The offline smoother: every frame's pose given the whole film (Rauch, Tung and Striebel 1965)."""

import math
from collections.abc import Sequence

import numpy as np

from posecov.errors import PosecovError
from posecov.pose import Pose
from posecov.tracking.kalman import KalmanFilter, State, Step, pose_of, start
from posecov.tracking.measurement import component_of, relabelling_evidence
from posecov.tracking.motion import MotionModel, limb_depths, person_size


def smooth(
    poses: Sequence[Pose | None], times_s: Sequence[float], model: MotionModel | None = None, *, gap_s: float = 1.0
) -> list[Pose | None]:
    """One person's poses, each given all frames before and after it.

    Args:
        poses: as estimated, in order; None where the person was not seen.
        times_s: seconds, increasing, as many.
        model: of motion and errors.
        gap_s: longer gaps are not filled; what is before and after them is smoothed by itself.

    Returns:
        As many poses with their covariance. Frames in a short gap are filled in, with a covariance that says how well; None
        stays before the first pose, after the last one and in longer gaps.

    Raises:
        PosecovError: as many times as poses are needed, times that increase, poses of one skeleton.
    """
    if len(poses) != len(times_s):
        raise PosecovError(f"{len(poses)} poses need as many times, not {len(times_s)}")
    model = MotionModel() if model is None else model
    steps = filter_film(poses, times_s, model, gap_s=gap_s)
    found: list[Pose | None] = [None] * len(poses)
    for first, last in _pieces(poses, steps):
        before = poses[first]
        depths = np.zeros(0, dtype=int) if before is None else limb_depths(before.skeleton)
        states = backward([step for step in steps[first : last + 1] if step is not None], model, depths)
        for index, state in enumerate(states, start=first):
            before = before if poses[index] is None else poses[index]
            if before is not None:
                found[index] = pose_of(state, poses[index], before)
    return found


def filter_film(
    poses: Sequence[Pose | None], times_s: Sequence[float], model: MotionModel, *, gap_s: float = 1.0
) -> list[Step | None]:
    """The filter's steps through a film whose left and right are settled at once, None while nothing is known.

    The live filter can only change its mind about them; here the labelling of a piece is the one that all its frames together
    speak for, and the piece is filtered again where that is not its first frame's.
    """
    steps = _forward(poses, times_s, model, gap_s, {})
    turned: dict[int, int] = {}
    for first, last in _pieces(poses, steps):
        evidence = np.zeros(1)
        for pose, step in zip(poses[first : last + 1], steps[first : last + 1], strict=True):
            if pose is not None and step is not None:
                evidence = evidence + relabelling_evidence(pose, step.component)
        if evidence.max() > 0:
            turned[first] = int(evidence.argmax())
    return _forward(poses, times_s, model, gap_s, turned) if turned else steps


def backward(steps: Sequence[Step], model: MotionModel, depths: np.ndarray) -> list[State]:
    """The smoothed states of a piece of film from the filter's steps through it, of which the first one started it.

    The covariance is written as a sum of covariances, with G the gain, F the transition and Q the noise of motion:
    (1 - G F) P (1 - G F)^T + G (Q + P_later) G^T. It is P + G (P_later - P_predicted) G^T, whose difference rounding spoils.
    """
    states = [steps[-1].filtered]
    for index in range(len(steps) - 2, -1, -1):
        filtered, predicted, later = steps[index].filtered, steps[index + 1].predicted, states[-1]
        if predicted is None:
            raise PosecovError("a piece of film must not start twice")
        dt = predicted.time_s - filtered.time_s
        transition = np.kron(model.transition(dt), np.eye(len(filtered.position)))
        # Positions, velocities and whitened errors differ by orders of magnitude: solved in units of their deviations.
        sigma = np.sqrt(np.diagonal(predicted.covariance))
        carried = (transition @ filtered.covariance) / sigma[:, None]
        gain = (np.linalg.solve(predicted.covariance / sigma[:, None] / sigma, carried) / sigma[:, None]).T
        mean = filtered.mean + gain @ (later.mean - predicted.mean)
        kept = np.eye(len(filtered.mean)) - gain @ transition
        added = later.covariance + model.noise(dt, person_size(filtered.position), depths)
        covariance = kept @ filtered.covariance @ kept.T + gain @ added @ gain.T
        states.append(State(filtered.time_s, mean, (covariance + covariance.T) / 2))
    return states[::-1]


def _forward(
    poses: Sequence[Pose | None], times_s: Sequence[float], model: MotionModel, gap_s: float, turned: dict[int, int]
) -> list[Step | None]:
    """The filter's steps, started with the components ``turned`` in these frames."""
    kalman = KalmanFilter(model, gap_s=gap_s, relabel=math.inf)
    steps: list[Step | None] = []
    for index, (pose, time_s) in enumerate(zip(poses, times_s, strict=True)):
        kalman.update(pose, time_s)
        if pose is not None and index in turned:
            component = turned[index]
            kalman.step = Step(start(component_of(pose, component), time_s, model), component=component)
        steps.append(kalman.step)
    return steps


def _pieces(poses: Sequence[Pose | None], steps: Sequence[Step | None]) -> list[tuple[int, int]]:
    """First and last measured frame of every piece without a long gap."""
    found: list[tuple[int, int]] = []
    for index, (pose, step) in enumerate(zip(poses, steps, strict=True)):
        if pose is None or step is None:
            continue
        if step.predicted is None:
            found.append((index, index))
        else:
            found[-1] = (found[-1][0], index)
    return found
