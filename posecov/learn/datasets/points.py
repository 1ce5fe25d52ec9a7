"""Joints that cannot be where the file says."""

import numpy as np


def bad_joints(points: np.ndarray, labelled: np.ndarray, size: tuple[int, int] | None, slack: float) -> list[tuple[int, str]]:
    """Labelled joints that are not numbers, or lie outside the picture.

    Args:
        points: (J, 2) 0-based pixels.
        labelled: (J,) bool.
        size: width and height of the picture, or None: then only what is negative is outside.
        slack: pixels that a joint may lie outside.

    Returns:
        Index of each, and what is wrong with it.
    """
    found = []
    high = np.array(size if size else (np.inf, np.inf))
    for index in np.flatnonzero(labelled):
        point = points[index]
        if not np.isfinite(point).all():
            found.append((int(index), "is not two finite numbers"))
        elif (point < -slack).any() or (point > high - 1 + slack).any():
            extent = f" of {size[0]} x {size[1]}" if size else ""
            found.append((int(index), f"lies at ({point[0]:g}, {point[1]:g}), outside its picture{extent}"))
    return found


def person_extent(points: np.ndarray, labelled: np.ndarray) -> float:
    """Longer side of the extent of the labelled joints that are finite, in pixels; 0 without any."""
    seen = points[labelled & np.isfinite(points).all(axis=1)]
    return float(np.ptp(seen, axis=0).max()) if len(seen) else 0.0
