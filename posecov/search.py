"""Finding one person in a picture without a detector: the pose network itself says where its answer holds still.

A network that sees a person puts the joints on the person, wherever the crop lies; one that sees none gives a usual pose
in the middle of the crop, and the pose moves with the crop. So windows all over the picture are tried, each is re-cropped
around what was found in it, and the place is kept whose joints stay where they are when the crop is moved.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from posecov.geometry import box_around

Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Boxes (N, 4) to keypoints (N, J, 2) and covariances (N, 2J, 2J), all in picture pixels."""

WINDOWS = 16
"""Windows of the first look, at most: one batch."""

_KEPT = 4  # Candidates followed after the first look.
_ROUNDS = 5
_SETTLED = 0.05  # A box has settled when no edge moves by more than this share of its longer side.
_SAME = 0.5  # Boxes with this intersection over union are one candidate.
_WIDEST = 0.5  # Root mean square uncertainty of a joint, over the person's size, at which nothing is known.
_LEAST = 0.3  # Consistency from which a person is believed.
# Moves of the crop for the last test: shift as a share of the side, then a factor on the side.
_MOVES = ((0.1, 0.0, 1.0), (-0.1, 0.0, 1.0), (0.0, 0.1, 1.0), (0.0, -0.1, 1.0), (0.0, 0.0, 1.2))


@dataclass(frozen=True)
class Found:
    """Where a person was found.

    Attributes:
        box: (4,) x, y, width, height, picture pixels, as `geometry.box_around` makes it.
        consistency: 0 (the joints follow the crop, or nothing is known about them) to 1 (they stay, and are certain).
    """

    box: np.ndarray
    consistency: float


def find_person(predict: Predict, width: int, height: int, padding: float = 1.0) -> list[Found]:
    """Find the one person whose pose is most consistent under re-cropping.

    About 16 crops for the first look, then 4 a round for at most 5 rounds, then 24 for the test: some 50 crops.

    Args:
        predict: the pose network.
        width: of the picture in pixels.
        height: of the picture in pixels.
        padding: of the crops that ``predict`` makes (`geometry.crop_map`), so that a window's crop is the window.

    Returns:
        One `Found`, or an empty list when nothing is consistent.
    """
    boxes, certainty = _around(*predict(windows(width, height, padding)))
    boxes = _distinct(boxes, certainty, _inside(boxes, width, height))[:_KEPT]
    for _ in range(_ROUNDS):
        if not len(boxes):
            return []
        moved, certainty = _around(*predict(boxes))
        settled = _edge_moves(boxes, moved) <= _SETTLED
        boxes = _distinct(moved, certainty, _inside(moved, width, height))
        if settled.all():
            break
    if not len(boxes):
        return []
    consistency = consistency_of(predict, boxes)
    best = int(consistency.argmax())
    return [Found(boxes[best], float(consistency[best]))] if consistency[best] >= _LEAST else []


def windows(width: int, height: int, padding: float = 1.0) -> np.ndarray:
    """Boxes (N, 4) whose crops are the whole picture and overlapping square windows of several sizes in it, N <= 16.

    Sizes go from the shorter side down to less than half of it. When a size would take too many windows, it and all smaller
    ones are left out; a picture so long that even the shorter side would take too many has 15 windows along it.
    """
    squares = [(np.array([width / 2, height / 2]), float(max(width, height)))]
    for share in (1.0, 0.67, 0.45):
        side = share * min(width, height)
        counts = [1 + int(np.ceil(max(length - side, 0.0) / (0.6 * side) - 0.25)) for length in (width, height)]
        if share == 1.0:
            counts = [min(count, WINDOWS - 1) for count in counts]
        if len(squares) + counts[0] * counts[1] > WINDOWS:
            break
        if share == 1.0 and counts == [1, 1]:
            continue  # A square picture, or nearly: the whole is this window already.
        xs, ys = (_spread_out(length, side, count) for length, count in zip((width, height), counts, strict=True))
        squares += [(np.array([x, y]), side) for y in ys for x in xs]
    centres = np.stack([centre for centre, _ in squares]) - 0.5  # Pixel centres lie at integers.
    sides = np.array([side for _, side in squares])[:, None] / padding
    return np.concatenate([centres - sides / 2, sides, sides], axis=1)


def consistency_of(predict: Predict, boxes: np.ndarray) -> np.ndarray:
    """How well poses hold still when their crops are moved, and how certain they are, (N,) in 0..1.

    Every crop is shifted by a tenth of its side in four directions and enlarged by a fifth. With d the distance that the
    joints move (root mean square) and f the distance that they would move if they followed the crop, and u the root mean
    square uncertainty of a joint over the box's longer side, it is max(0, 1 - d / f) max(0, 1 - u / 0.5).

    Args:
        predict: the pose network.
        boxes: (N, 4) of the people in question, picture pixels.
    """
    sides = boxes[:, 2:].max(axis=1)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    trials, followed = [boxes], []
    keypoints, covariance = predict(boxes)
    for x, y, factor in _MOVES:
        target = centres + sides[:, None] * np.array([x, y])
        trials.append(np.concatenate([target - boxes[:, 2:] * factor / 2, boxes[:, 2:] * factor], axis=1))
        followed.append(target[:, None] + (keypoints - centres[:, None]) * factor)
    moved = predict(np.concatenate(trials[1:]))[0].reshape(len(_MOVES), *keypoints.shape)
    d2 = np.square(moved - keypoints).sum(axis=-1).mean(axis=(0, 2))
    f2 = np.square(np.stack(followed) - keypoints).sum(axis=-1).mean(axis=(0, 2))
    stays = 1 - np.sqrt(d2 / np.maximum(f2, 1e-12))
    certain = 1 - _uncertainty(covariance) / sides / _WIDEST
    return np.clip(stays, 0, 1) * np.clip(certain, 0, 1)


def _around(keypoints: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) around poses, and minus their relative uncertainty (N,)."""
    boxes = np.stack([box_around(points) for points in keypoints])
    return boxes, -_uncertainty(covariance) / boxes[:, 2:].max(axis=1)


def _uncertainty(covariance: np.ndarray) -> np.ndarray:
    """Root mean square distance of a joint from its mean, (N,) pixels."""
    return np.sqrt(np.trace(covariance, axis1=1, axis2=2) / (covariance.shape[-1] // 2))


def _inside(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which boxes can be people in this picture (N,): half of it inside, and at least 8 pixels long."""
    low = np.maximum(boxes[:, :2], -0.5)
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], np.array([width, height]) - 0.5)
    seen = np.clip(high - low, 0, None).prod(axis=1)
    return (seen >= 0.5 * boxes[:, 2:].prod(axis=1)) & (boxes[:, 2:].max(axis=1) >= 8)


def _distinct(boxes: np.ndarray, certainty: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The allowed boxes, most certain first, without those that overlap a more certain one."""
    kept: list[np.ndarray] = []
    for index in np.argsort(-certainty, kind="stable"):
        if allowed[index] and all(_overlap(boxes[index], other) < _SAME for other in kept):
            kept.append(boxes[index])
    return np.array(kept).reshape(-1, 4)


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    common = float(np.clip(high - low, 0, None).prod())
    return common / (float(first[2:].prod() + second[2:].prod()) - common)


def _edge_moves(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Largest move of an edge over the longer side, (N,)."""
    ends = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (before, after)]
    return np.abs(ends[1] - ends[0]).max(axis=1) / after[:, 2:].max(axis=1)


def _spread_out(length: float, side: float, count: int) -> np.ndarray:
    """Centres of ``count`` windows spread evenly over a length; one window stands in the middle."""
    return np.array([length / 2]) if count == 1 else np.linspace(side / 2, length - side / 2, count)
