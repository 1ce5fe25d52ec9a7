"""Who is in a frame: the pose network where people are expected, a look over the whole frame when nobody is."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from posecov.estimator import PoseEstimator
from posecov.pose import Pose
from posecov.search import consistency_of, person_boxes
from posecov.video.frames import Followed

LOOK_EVERY = 0.5
"""Seconds between looks over the whole frame while nobody is known: each costs as much as some 50 frames with one person."""

CHECK_EVERY = 1.0
"""Seconds between tests whether the people followed are still people."""

_LOST = 0.4
"""Consistency below which a person is given up: less than it takes to be found, so that a hard moment is survived."""


class Follow(Protocol):
    """Whoever knows people from frame to frame.

    What comes next may depend only on the calls of `update`: a run that is resumed repeats them with the poses of its results.
    """

    def boxes(self, time_s: float) -> np.ndarray:
        """Where people are expected at this time: (N, 4) x, y, width, height in pixels; (0, 4) when nobody is known."""

    def update(self, poses: list[Pose], time_s: float) -> Sequence[Any]:
        """The poses estimated at this time, to people: things with ``id`` and ``pose``."""


class LastSeen:
    """Expects people where they were in the last frame, and counts them: the same place in the list is the same person."""

    def __init__(self) -> None:
        self._poses: list[Pose] = []

    def boxes(self, time_s: float) -> np.ndarray:
        """As `Follow.boxes`: around the joints of the last frame."""
        if not self._poses:
            return np.zeros((0, 4))
        keypoints = np.stack([pose.keypoints for pose in self._poses]).astype(np.float64)
        return person_boxes(keypoints, np.stack([pose.covariance for pose in self._poses]).astype(np.float64))

    def update(self, poses: list[Pose], time_s: float) -> list[Followed]:
        """As `Follow.update`: numbers from 1."""
        self._poses = poses
        return [Followed(number, pose) for number, pose in enumerate(poses, start=1)]


class Watcher:
    """Finds and follows people through frames in order.

    The times alone decide when to look over the whole frame and when to test people, so that the same film gives the same
    results, also when a run is resumed (`replay`).
    """

    def __init__(self, estimator: PoseEstimator, follow: Follow | None = None, look_every: float = LOOK_EVERY):
        """Start with nobody known.

        Args:
            estimator: the pose network.
            follow: who is who; `LastSeen` when None.
            look_every: seconds between looks over the whole frame while nobody is known.
        """
        self._estimator = estimator
        self._follow: Follow = LastSeen() if follow is None else follow
        self._look_every = look_every
        self._before: float | None = None

    def __call__(self, image: np.ndarray, time_s: float) -> list[Followed]:
        """The people in the next frame.

        Args:
            image: (H, W, 3) uint8, BGR.
            time_s: seconds, later than the frame before.
        """
        boxes = np.asarray(self._follow.boxes(time_s), dtype=np.float64).reshape(-1, 4)
        if len(boxes) and self._due(CHECK_EVERY, time_s):
            boxes = boxes[consistency_of(lambda b: self._estimator.predict(image, b), boxes) >= _LOST]
        poses: list[Pose] = []
        if len(boxes):
            poses = self._estimator(image, boxes)
        elif self._due(self._look_every, time_s):
            poses = self._estimator(image)
        return self.replay(poses, time_s)

    def replay(self, poses: list[Pose], time_s: float) -> list[Followed]:
        """Take note of a frame whose poses are known already."""
        self._before = time_s
        return [Followed(int(person.id), person.pose) for person in self._follow.update(poses, time_s)]

    def _due(self, period: float, time_s: float) -> bool:
        """Whether a multiple of the period has passed since the frame before."""
        return self._before is None or period <= 0 or time_s // period > self._before // period
