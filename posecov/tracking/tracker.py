"""Identities over frames: which pose belongs to whom, and where each person will be in the next frame.

A pose may continue a track when it lies within the law's central region around where the track was predicted, with the
covariances of prediction and measurement added; among what is allowed the whole assignment is the likeliest one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecov import coordinates, law
from posecov.errors import PosecovError
from posecov.pose import Pose
from posecov.search import person_boxes
from posecov.skeleton import Skeleton
from posecov.tracking.kalman import KalmanFilter, State, following
from posecov.tracking.measurement import component_of, likeliest
from posecov.tracking.motion import MotionModel, person_size

_TRIMMED = 3  # One joint in so many may lie anywhere: an arm on another object must not end a track.
_SAME_PERSON = 0.5  # Mass of the central region in which a pose is another one once more.
_FORBIDDEN = 1e9


@dataclass(frozen=True, eq=False)
class Tracked:
    """A person in a frame.

    Attributes:
        id: number of the track, from 1, never used twice.
        pose: filtered, with its covariance; predicted while the person is not seen.
        measured: the estimated pose that was taken for this person, None while it is not seen.
        missing_s: seconds since the person was seen, 0 when it is.
    """

    id: int
    pose: Pose
    measured: Pose | None
    missing_s: float


@dataclass(eq=False)
class _Track:
    kalman: KalmanFilter
    last_seen_s: float
    frames: int = 1
    id: int | None = None


class Tracker:
    """Follows people through a film.

    >>> tracker = Tracker(estimator.metadata.skeleton)  # doctest: +SKIP
    >>> for time_s, frame in film:  # doctest: +SKIP
    ...     boxes = tracker.boxes(time_s)
    ...     people = tracker.update(estimator(frame, boxes if len(boxes) else None), time_s)

    Attributes:
        skeleton: of the poses.
        model: of motion and errors.
        gate: probability with which a person's pose lies within its gate.
        keep_s: seconds for which a lost person is waited for.
        births: frames in a row in which someone new must be seen to become a track; 1 for at once.
        widest: uncertainty above which a pose says that nobody is there: root mean square distance of a joint from its place,
            in person sizes.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        model: MotionModel | None = None,
        *,
        gate: float = 0.999,
        keep_s: float = 1.0,
        births: int = 1,
        widest: float = 0.3,
    ):
        """A tracker that has seen nothing.

        Raises:
            PosecovError: a setting outside its range.
        """
        if not 0 < gate < 1:
            raise PosecovError(f"the gate of a tracker is a probability between 0 and 1, not {gate:g}")
        if not keep_s >= 0 or births < 1 or not widest > 0:
            raise PosecovError("a tracker needs keep_s of at least 0, at least 1 frame for a birth, and a positive widest")
        self.skeleton, self.model = skeleton, MotionModel() if model is None else model
        self.gate, self.keep_s, self.births, self.widest = gate, keep_s, births, widest
        self._tracks: list[_Track] = []
        self._time_s = -math.inf
        self._given = 0

    def update(self, poses: Sequence[Pose], time_s: float) -> list[Tracked]:
        """The people after a frame.

        Args:
            poses: all people's in the frame, in any order, as estimated. The same person twice, as from the boxes of two
                tracks where one person covers the other, counts once.
            time_s: seconds, later than the last one.

        Returns:
            Everybody who is tracked, by age, also those who are waited for (``missing_s`` above 0).

        Raises:
            PosecovError: a time that does not follow, or a pose of another skeleton.
        """
        for pose in poses:
            if pose.skeleton != self.skeleton:
                raise PosecovError(f"this tracker follows skeleton {self.skeleton.name}, not {pose.skeleton.name}")
        self._time_s = following(time_s, self._time_s)
        self._tracks = [track for track in self._tracks if time_s - track.last_seen_s <= self.keep_s]
        poses = _distinct([pose for pose in poses if uncertainty(pose) <= self.widest])
        taken = self._associate(poses, time_s)
        people = []
        for index, track in enumerate(self._tracks):
            people.append(self._advance(track, poses[taken[index]] if index in taken else None, time_s))
        for pose in (pose for index, pose in enumerate(poses) if index not in taken.values()):
            self._tracks.append(_Track(KalmanFilter(self.model, gap_s=math.inf), time_s, frames=0))
            people.append(self._advance(self._tracks[-1], pose, time_s))
        # Who was seen too briefly to be someone, and is no longer seen, was nobody.
        self._tracks = [track for track in self._tracks if track.id is not None or track.last_seen_s == time_s]
        return [person for person in people if person is not None]

    def boxes(self, time_s: float, lost: bool | None = None) -> np.ndarray:
        """Where to look for the tracked people at a later time.

        Args:
            time_s: seconds.
            lost: True for the people alone who were not seen in the last frame, False for those alone who were.

        Returns:
            (N, 4) x, y, width, height in pixels, by age; as wide as the people were when they were last seen.
        """
        found = []
        for track in self._tracks:
            state = track.kalman.predicted(time_s)
            missed = track.last_seen_s < self._time_s
            if state is None or track.kalman.step is None or missed is not (missed if lost is None else lost):
                continue
            spread = track.kalman.step.filtered.position_covariance
            found.append(person_boxes(coordinates.unflatten(state.position)[None], spread[None])[0])
        return np.array(found).reshape(-1, 4)

    def _associate(self, poses: Sequence[Pose], time_s: float) -> dict[int, int]:
        """Index of the pose by index of the track."""
        from scipy.optimize import linear_sum_assignment

        costs = np.full((len(self._tracks), len(poses)), _FORBIDDEN)
        for row, track in enumerate(self._tracks):
            state = track.kalman.predicted(time_s)
            for column, pose in enumerate(poses):
                if state is not None:
                    mass, nll = _fit(state, pose)
                    costs[row, column] = nll if mass <= self.gate else _FORBIDDEN
        pairs = zip(*linear_sum_assignment(costs), strict=True)
        return {int(row): int(column) for row, column in pairs if costs[row, column] < _FORBIDDEN}

    def _advance(self, track: _Track, pose: Pose | None, time_s: float) -> Tracked | None:
        filtered = track.kalman.update(pose, time_s)
        if pose is not None:
            track.last_seen_s, track.frames = time_s, track.frames + 1
        if track.id is None and track.frames >= self.births:
            self._given += 1
            track.id = self._given
        if track.id is None or filtered is None:
            return None
        return Tracked(track.id, filtered, pose, time_s - track.last_seen_s)


def _fit(state: State, pose: Pose) -> tuple[float, float]:
    """How a pose fits a predicted person: mass of the central region that reaches it, and negative log likelihood in nats.

    Both leave out the third of the joints that fits worst. The likelihood holds the determinant too: by distance alone someone
    who was lost, and may be anywhere, would take everybody's poses.
    """
    measurement = likeliest(pose, state.position, state.position_covariance)
    total = state.position_covariance + measurement.covariance
    return _trimmed_fit(measurement.values - state.position, total, measurement.degrees_of_freedom)


def _trimmed_fit(residual: np.ndarray, covariance: np.ndarray, degrees_of_freedom: float) -> tuple[float, float]:
    points = coordinates.unflatten(residual).copy()
    apart = law.squared_mahalanobis(points, coordinates.joint_blocks(covariance))
    points[np.argsort(apart)[len(points) - len(points) // _TRIMMED :]] = np.nan
    scatter = law.scatter_from_covariance(covariance, degrees_of_freedom)
    squared, log_det, dimension = law.distances(coordinates.flatten(points), scatter)
    mass = law.central_mass(squared, dimension, degrees_of_freedom)
    return float(mass), float(law.negative_log_likelihood_at(squared, log_det, dimension, degrees_of_freedom))


def _distinct(poses: Sequence[Pose]) -> list[Pose]:
    """Poses of different people: of several of one person the surest."""
    kept: list[Pose] = []
    for pose in sorted(poses, key=uncertainty):
        mine = component_of(pose)
        for other in kept:
            theirs = likeliest(other, mine.values, mine.covariance)
            total = mine.covariance + theirs.covariance
            nu = min(mine.degrees_of_freedom, theirs.degrees_of_freedom)
            if _trimmed_fit(mine.values - theirs.values, total, nu)[0] < _SAME_PERSON:
                break
        else:
            kept.append(pose)
    return kept


def uncertainty(pose: Pose) -> float:
    """Of a pose, as `Tracker.widest` bounds it: root mean square distance of a joint from its place in person sizes."""
    law_of_pose = component_of(pose)
    return math.sqrt(float(np.trace(law_of_pose.covariance)) / len(pose.skeleton)) / person_size(law_of_pose.values)
