"""Who is in a frame: the pose network where people are expected, a look over the whole frame for those who are not."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from posecov.estimator import PoseEstimator
from posecov.pose import Pose
from posecov.search import consistency_of, overlap, person_boxes
from posecov.skeleton import Skeleton
from posecov.tracking.tracker import Tracked, Tracker, uncertainty
from posecov.video.frames import Followed

LOOK_EVERY = 0.5
"""Seconds between looks over the whole frame while nobody is seen: each costs as much as some 50 frames with one person."""

LOOK_AGAIN = 2.0
"""The same for further people while somebody is seen."""

CHECK_EVERY = 1.0
"""Seconds between tests whether the people followed are still people."""

RETRY_EVERY = 0.1
"""Seconds between looks for people who were lost where they should be by now, each as costly as a frame of them, or as 5 where
the model does not tell the presence."""

KEEP = 2.0
"""Seconds for which a lost person is waited for, and is the same one when it comes back near where it should be."""

BRIDGE = 0.5
"""Seconds for which a person who is not seen is shown where its motion leads, or offline, between where it was seen."""

MOST = 8
"""People that the search finds, at most."""

_LOST = (0.3, 0.03)
"""Consistency, and presence where the model tells it, below which a person is given up: less than it takes to be found, so that
a hard moment is survived."""

_FURTHER = (0.45, 0.1)
"""The same for a further person, found by the search while others were grey, once they are not."""

_SAME = 0.5  # Intersection over union from which two boxes are of one person.
_GREY = 127


Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""A frame (H, W, 3) uint8 BGR to the boxes (N, 4) of people and their scores (N,), such as `detectors.PersonDetector`."""


class Follow(Protocol):
    """Whoever knows people from frame to frame.

    What comes next may depend only on the calls of `update`: a run that is resumed repeats them with the poses of its results.
    """

    def boxes(self, time_s: float) -> np.ndarray:
        """Where the people of the last frame are expected at this time: (N, 4) x, y, width, height in pixels."""

    def lost(self, time_s: float) -> np.ndarray:
        """Where people who were not seen in the last frame may be at this time, (N, 4)."""

    def update(self, poses: list[Pose], time_s: float) -> Sequence[Any]:
        """The poses estimated at this time, to people: things with ``id``, ``pose`` and ``measured`` (`Followed`)."""


class Tracks:
    """Follows people by a `Tracker`, which tells them apart and waits for those who are lost."""

    def __init__(self, skeleton: Skeleton, live: bool = False, keep_s: float = KEEP):
        """Start with nobody known.

        Args:
            skeleton: of the poses.
            live: whether people have the live filter's poses instead of those estimated, for `BRIDGE` seconds also unseen, as
                long as these poses are not so uncertain that they would say nothing if they had been seen (`Tracker.widest`).
            keep_s: seconds for which a lost person is waited for.
        """
        self._tracker, self._live = Tracker(skeleton, keep_s=keep_s), live

    def boxes(self, time_s: float) -> np.ndarray:
        """As `Follow.boxes`."""
        return self._tracker.boxes(time_s, lost=False)

    def lost(self, time_s: float) -> np.ndarray:
        """As `Follow.lost`."""
        return self._tracker.boxes(time_s, lost=True)

    def update(self, poses: list[Pose], time_s: float) -> list[Followed]:
        """As `Follow.update`: numbers from 1."""
        people = self._tracker.update(poses, time_s)
        if self._live:
            return [Followed(person.id, person.pose, person.measured) for person in people if self._shown(person)]
        return [Followed(person.id, person.measured, person.measured) for person in people if person.measured is not None]

    def _shown(self, person: Tracked) -> bool:
        unseen = person.measured is None
        return not unseen or (person.missing_s <= BRIDGE and uncertainty(person.pose) <= self._tracker.widest)


class LastSeen:
    """Expects people where they were in the last frame, and counts them: the same place in the list is the same person."""

    def __init__(self) -> None:
        self._poses: list[Pose] = []

    def boxes(self, time_s: float) -> np.ndarray:
        """As `Follow.boxes`: around the joints of the last frame."""
        return boxes_around(self._poses)

    def lost(self, time_s: float) -> np.ndarray:
        """As `Follow.lost`: nobody."""
        return np.zeros((0, 4))

    def update(self, poses: list[Pose], time_s: float) -> list[Followed]:
        """As `Follow.update`: numbers from 1."""
        self._poses = poses
        return [Followed(number, pose, pose) for number, pose in enumerate(poses, start=1)]


class Watcher:
    """Finds and follows people through frames in order.

    A look over the whole frame that finds somebody is followed by one in the next frame, until nobody else is found, so that
    the first frame does not wait for all of them. Otherwise the times alone decide when to look and when to test people: the
    same film gives the same results, also when a run is resumed (`replay`).
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        follow: Follow | None = None,
        look_every: float = LOOK_EVERY,
        look_again: float = LOOK_AGAIN,
        detector: Detector | None = None,
    ):
        """Start with nobody known.

        Args:
            estimator: the pose network.
            follow: who is who; `Tracks` when None.
            look_every: seconds between looks over the whole frame while nobody is seen.
            look_again: seconds between looks for further people while somebody is seen.
            detector: tells where people are in a frame; without one the pose network searches for them.
        """
        self._estimator = estimator
        self._follow: Follow = Tracks(estimator.metadata.skeleton) if follow is None else follow
        self._look_every, self._look_again = look_every, look_again
        self._detector = detector
        self._before: float | None = None
        self._count, self._more = 0, False

    def __call__(self, image: np.ndarray, time_s: float) -> list[Followed]:
        """The people in the next frame.

        Args:
            image: (H, W, 3) uint8, BGR.
            time_s: seconds, later than the frame before.
        """
        boxes = self._follow.boxes(time_s)
        if self._due(CHECK_EVERY, time_s):
            boxes = self._consistent(image, boxes, _LOST)
        if self._due(RETRY_EVERY, time_s):
            boxes = np.concatenate([boxes, self._consistent(image, self._follow.lost(time_s), _LOST)])
        poses = self._estimator(image, boxes) if len(boxes) else []
        if self._more or self._due(self._look_again if poses else self._look_every, time_s):
            poses += self._look(image, poses)
        return self.replay(poses, time_s)

    def replay(self, poses: list[Pose], time_s: float) -> list[Followed]:
        """Take note of a frame whose poses are known already."""
        self._before = time_s
        self._count, self._more = len(poses), self._detector is None and len(poses) > self._count
        people = self._follow.update(poses, time_s)
        return [Followed(int(person.id), person.pose, person.measured) for person in people]

    def _consistent(self, image: np.ndarray, boxes: np.ndarray, least: tuple[float, float]) -> np.ndarray:
        """Of boxes (N, 4) those with people in them: at least so consistent, or so probable where the model tells that."""
        if not len(boxes):
            return boxes
        presence = self._estimator.presence(image, boxes)
        if presence is not None:
            return boxes[presence >= least[1]]
        return boxes[consistency_of(lambda b: self._estimator.predict(image, b), boxes) >= least[0]]

    def _look(self, image: np.ndarray, known: list[Pose]) -> list[Pose]:
        """Others in the frame. The search finds one at a time, so it is shown those who are known grey."""
        if self._detector is not None:
            boxes, seen = self._detector(image)[0], boxes_around(known)
            new = [box for box in boxes if not len(seen) or overlap(box, seen).max() <= _SAME]
            return self._estimator(image, np.array(new)) if new else []
        if not known:
            return self._estimator(image, most=1)
        if len(known) >= MOST:
            return []
        masked = image.copy()
        for x, y, width, height in boxes_around(known):
            ends = np.round([x, y, x + width, y + height]).astype(int).clip(0)
            masked[ends[1] : ends[3], ends[0] : ends[2]] = _GREY
        found = self._consistent(image, boxes_around(self._estimator(masked, most=1)), _FURTHER)
        further = self._estimator(image, found) if len(found) else []
        return [] if further and overlap(boxes_around(further)[0], boxes_around(known)).max() > _SAME else further

    def _due(self, period: float, time_s: float) -> bool:
        """Whether a multiple of the period has passed since the frame before."""
        return self._before is None or period <= 0 or time_s // period > self._before // period


def boxes_around(poses: Sequence[Pose]) -> np.ndarray:
    """(N, 4) boxes to look into for people who have hardly moved (`person_boxes`)."""
    if not poses:
        return np.zeros((0, 4))
    covariances = np.stack([pose.covariance for pose in poses]).astype(np.float64)
    return person_boxes(np.stack([pose.keypoints for pose in poses]).astype(np.float64), covariances)
