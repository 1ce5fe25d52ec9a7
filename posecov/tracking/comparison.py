"""Filters side by side on films whose truth is known: how much calmer, how late, how close, and how honest about it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from posecov import coordinates
from posecov.law import Law
from posecov.pose import Pose
from posecov.tracking import metrics
from posecov.tracking.kalman import Innovation, KalmanFilter
from posecov.tracking.motion import MotionModel
from posecov.tracking.one_euro import OneEuroFilter
from posecov.tracking.smoother import smooth
from posecov.tracking.synthetic import Film

Points = np.ndarray
"""(T, J, 2) pixels."""


@dataclass(frozen=True)
class Figures:
    """What a filter makes of some films. Jitter, lag and error are those of joints that nothing covers.

    Attributes:
        jitter: root mean square acceleration of the error, pixels / s^2.
        lag_frames: how late it is.
        error: mean distance from the truth, pixels.
        hidden_error: the same of covered joints; NaN where there are none.
        nis_in_band: share of frames whose innovation lies in its 95 % band; NaN for filters that predict none.
        coverage: share of joints inside of their 95 % ellipses; NaN for filters without a covariance.
    """

    jitter: float
    lag_frames: float
    error: float
    hidden_error: float
    nis_in_band: float = math.nan
    coverage: float = math.nan


@dataclass(frozen=True, eq=False)
class Run:
    """What a filter says about a film.

    Attributes:
        poses: one a frame.
        innovations: of the frames that have one.
        honest: whether the covariance of the poses is that of the filter.
    """

    poses: Sequence[Pose]
    innovations: Sequence[Innovation] = ()
    honest: bool = False


Filter = Callable[[Film], Run]


def raw(film: Film) -> Run:
    """The estimator's own poses."""
    return Run(film.poses, honest=True)


def one_euro(min_cutoff_hz: float = 1.0, beta: float = 0.007) -> Filter:
    """`OneEuroFilter` with these settings."""

    def run(film: Film) -> Run:
        live = OneEuroFilter(min_cutoff_hz, beta)
        return Run(_all(live.update(pose, time_s) for pose, time_s in zip(film.poses, film.times_s, strict=True)))

    return run


def kalman(model: MotionModel | None = None) -> Filter:
    """`KalmanFilter` with this model."""

    def run(film: Film) -> Run:
        live, poses, innovations = KalmanFilter(model), [], []
        for pose, time_s in zip(film.poses, film.times_s, strict=True):
            poses.append(live.update(pose, time_s))
            if live.step is not None and live.step.innovation is not None:
                innovations.append(live.step.innovation)
        return Run(_all(poses), innovations, honest=True)

    return run


def smoother(model: MotionModel | None = None) -> Filter:
    """`smooth` with this model."""
    return lambda film: Run(_all(smooth(film.poses, list(film.times_s), model)), honest=True)


def compare(films: Sequence[Film], filters: Mapping[str, Filter]) -> dict[str, Figures]:
    """Every filter's figures over all films together, synthetic ones or real ones with labels."""
    return {name: _figures(films, [run(film) for film in films]) for name, run in filters.items()}


def tune_one_euro(films: Sequence[Film]) -> tuple[float, float]:
    """The cutoff (Hz) and beta, of a grid, with which the One-Euro filter errs least on films: a stronger baseline."""
    grid = [(cutoff, beta) for cutoff in (0.5, 1.0, 2.0, 4.0) for beta in (0.0, 0.007, 0.02, 0.05)]
    errors = [_figures(films, [one_euro(*settings)(film) for film in films]).error for settings in grid]
    return grid[int(np.argmin(errors))]


def _all(poses: Iterable[Pose | None]) -> list[Pose]:
    """Poses of a film that shows the person in every frame."""
    return [pose for pose in poses if pose is not None]


def _figures(films: Sequence[Film], runs: Sequence[Run]) -> Figures:
    squares, lags, weights, seen, covered, inside, nis = [], [], [], [], [], [], []
    for film, run in zip(films, runs, strict=True):
        points = np.stack([pose.keypoints for pose in run.poses]).astype(np.float64)
        visible = np.where(film.hidden[..., None], np.nan, points)
        squares.append(metrics.jitter(visible - film.truth, film.times_s) ** 2)
        rate = (len(film.times_s) - 1) / (film.times_s[-1] - film.times_s[0])
        lags.append(metrics.lag_s(visible, film.truth, film.times_s) * rate)
        weights.append(np.square(np.gradient(film.truth, film.times_s, axis=0)).sum())
        distance = np.linalg.norm(points - film.truth, axis=-1)
        seen.append(distance[~film.hidden])
        covered.append(distance[film.hidden])
        if run.honest:
            nu = np.array([pose.degrees_of_freedom for pose in run.poses])
            said = Law.from_covariance(coordinates.flatten(points), np.stack([pose.covariance for pose in run.poses]), nu)
            inside.append(said.joint_masses(coordinates.flatten(film.truth)) <= 0.95)
        for innovation in run.innovations:
            low, high = metrics.nis_band(len(innovation.residual), innovation.degrees_of_freedom)
            nis.append(low <= innovation.squared <= high)
    return Figures(
        jitter=float(np.sqrt(np.mean(squares))),
        lag_frames=float(np.average(lags, weights=weights)),
        error=float(np.concatenate(seen).mean()),
        hidden_error=float(np.concatenate(covered).mean()) if any(len(part) for part in covered) else math.nan,
        nis_in_band=float(np.mean(nis)) if nis else math.nan,
        coverage=float(np.concatenate(inside).mean()) if inside else math.nan,
    )
