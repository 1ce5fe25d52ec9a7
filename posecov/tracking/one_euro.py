"""The One-Euro filter, a low-pass filter whose cutoff rises with speed: the usual baseline, which knows of no covariance.

Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012.
"""

import dataclasses
import math

import numpy as np

from posecov.pose import Pose
from posecov.tracking.kalman import following, same_skeleton


class OneEuroFilter:
    """Filters one person's keypoints as they come, every coordinate by itself. The defaults are those of its authors.

    Attributes:
        min_cutoff_hz: cutoff of a joint at rest.
        beta: cutoff added per speed, Hz / (pixels/s).
        speed_cutoff_hz: cutoff of the speed itself.
        gap_s: after so many seconds without a pose the next one starts anew.
    """

    def __init__(
        self, min_cutoff_hz: float = 1.0, beta: float = 0.007, speed_cutoff_hz: float = 1.0, *, gap_s: float = 1.0
    ) -> None:
        self.min_cutoff_hz, self.beta, self.speed_cutoff_hz, self.gap_s = min_cutoff_hz, beta, speed_cutoff_hz, gap_s
        self._time_s = -math.inf
        self._seen: tuple[float, Pose] | None = None
        self._points = self._speeds = np.empty(0)

    def update(self, pose: Pose | None, time_s: float) -> Pose | None:
        """The pose with filtered keypoints and everything else as estimated; None when the person is not seen.

        Args:
            pose: as estimated, or None.
            time_s: seconds, later than the last one.

        Raises:
            PosecovError: a time that does not follow, or a pose of another skeleton.
        """
        self._time_s = following(time_s, self._time_s)
        if pose is None:
            return None
        same_skeleton(pose, None if self._seen is None else self._seen[1])
        points = pose.keypoints.astype(np.float64)
        if self._seen is None or time_s - self._seen[0] > self.gap_s:
            self._points, self._speeds = points, np.zeros_like(points)
        else:
            dt = time_s - self._seen[0]
            speeds = (points - self._points) / dt
            self._speeds += _share(self.speed_cutoff_hz, dt) * (speeds - self._speeds)
            cutoff = self.min_cutoff_hz + self.beta * np.abs(self._speeds)
            self._points = self._points + _share(cutoff, dt) * (points - self._points)
        self._seen = time_s, pose
        # The law stays as estimated, though its components are not those of the moved keypoints.
        return dataclasses.replace(pose, keypoints=self._points, components=None)


def _share(cutoff_hz: float | np.ndarray, dt: float) -> float | np.ndarray:
    """Weight of the new value in exponential smoothing with this cutoff (equation 5 of the paper: 1 / (1 + tau / dt))."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * dt))
