"""Finding people in a picture without a detector: the pose network itself says where it is sure and holds still.

A network that sees a person is sure of the joints and puts them on the person, wherever the crop lies; one that sees none
gives a usual pose in the middle of the crop, with wide ellipses, and the pose moves with the crop. So windows all over the
picture are tried, each is re-cropped around what was found in it, and the places are kept whose joints are the surest and stay
where they are when the crop is moved. A model may also tell by itself whether somebody is there (`model.PRESENCE`): then
both count.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Seen(NamedTuple):
    """What the pose network says about N boxes, in picture pixels.

    Attributes:
        keypoints: (N, J, 2).
        covariance: (N, 2J, 2J).
        presence: (N,) probability that a person fills the box, where the model says so.
    """

    keypoints: np.ndarray
    covariance: np.ndarray
    presence: np.ndarray | None = None


Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray] | Seen]
"""Boxes (N, 4), picture pixels, to what is seen there."""

WINDOWS = 24
"""Windows of the first look, at most."""

MOST = 6
"""Candidates followed after the first look, and so people found, at most."""

LEAST, LEAST_CONSISTENT = 0.3, 0.12
"""Probability from which a person is believed, low since pictures are rarely shown where nobody is: of a model that tells the
presence, and of one that does not."""

_ROUNDS = 4
_SETTLED = 0.05  # A box has settled when no edge moves by more than this share of its longer side.
_SAME = 0.5  # Boxes with this intersection over union are one candidate.
_SMALLEST = 0.15  # Longer side of a box over the picture's shorter side: smaller ones are mostly clutter that resembles a pose.
_MARGIN = 0.05  # Around joints and their uncertainty, as a share of the longer side.
_WIDEST = 0.1  # Uncertainty of the surer joints, over the person's size, at which nothing is known.
BOTH = (0.39, 0.58, 8.1)  # Weights of the `evidence`, fitted on 250 held-out people; tools/presence.py fits them for any model.
_SUREST = (0.01, 0.99)  # Of probabilities: a few hundred pictures, on which they were fitted, cannot tell more.
EVEN, SLOPE = 0.54, 30.0  # Consistency at which somebody is as likely as nobody, and how fast that changes.
_LARGER = 0.25  # Power of the size, by which the larger of two people about as consistent is taken.
_SHIFT = 0.1  # Of the crop in the last test, as a share of its side.
_APART = 0.3  # Intersection over the smaller box above which two places are one person: half of somebody is no second one.


@dataclass(frozen=True)
class Found:
    """Where a person was found.

    Attributes:
        box: (4,) x, y, width, height, picture pixels, around the joints and their uncertainty (`person_boxes`).
        probability: that a person is there, where every other picture has one (`tools/search.py`).
    """

    box: np.ndarray
    probability: float


def find_people(
    predict: Predict, width: int, height: int, padding: float = 1.0, most: int = MOST, least: float | None = None
) -> list[Found]:
    """Find the people whose poses the model believes in, of two about as likely the larger one first.

    At most 24 crops for the first look, then 6 a round for 4 rounds, then 30 for the test: 78 crops, usually about 50. So at
    most 6 people are found, those that fill a fair part of some window.

    Args:
        predict: the pose network.
        width: of the picture in pixels.
        height: of the picture in pixels.
        padding: of the crops that ``predict`` makes (`geometry.crop_map`), so that a window's crop is the window.
        most: how many people at most.
        least: probability from which a person is believed; None takes `LEAST` or `LEAST_CONSISTENT`.

    Returns:
        The `Found`, the best first; an empty list when nobody is believed.
    """
    boxes = settle(predict, width, height, padding)
    if not len(boxes):
        return []
    seen = Seen(*predict(boxes))
    belief = consistency = _consistency(predict, boxes, seen)
    if seen.presence is None:
        probability, usual = 1 / (1 + np.exp(-SLOPE * (belief - EVEN))), LEAST_CONSISTENT
    else:
        belief = probability = together(seen.presence, consistency)
        usual = LEAST
    least = usual if least is None else least
    kept: list[Found] = []
    for index in np.argsort(-belief * np.minimum(boxes[:, 2:].max(axis=1) / min(width, height), 1) ** _LARGER, kind="stable"):
        box = boxes[index]
        if probability[index] >= least and all(_covered(box, other.box) < _APART for other in kept):
            kept.append(Found(box, float(probability[index])))
    return kept[:most]


def together(presence: np.ndarray, consistency: np.ndarray) -> np.ndarray:
    """Probability (N,) that somebody is there, logistic in the model's own (N,) and in `consistency_of` (N,).

    They err on different pictures: most of what looks like a person moves with the crop. `tools/presence.py` fits the weights.
    """
    return np.clip(1 / (1 + np.exp(-evidence(presence, consistency) @ np.array(BOTH))), *_SUREST)


def evidence(presence: np.ndarray, consistency: np.ndarray) -> np.ndarray:
    """(N, 3) what `BOTH` weighs: 1, the presence's logit, and the consistency beyond `EVEN`."""
    presence = np.clip(presence, *_SUREST)
    return np.stack([np.ones(len(presence)), np.log(presence / (1 - presence)), consistency - EVEN], axis=1)


def settle(predict: Predict, width: int, height: int, padding: float = 1.0) -> np.ndarray:
    """Boxes (N, 4), N <= 6, where poses are found and found again when they are cropped, most certain first.

    Arguments as for `find_people`.
    """
    boxes = _distinct(Seen(*predict(windows(width, height, padding))), width, height)
    for _ in range(_ROUNDS):
        if not len(boxes):
            break
        moved = _distinct(Seen(*predict(boxes)), width, height)
        settled = moved.shape == boxes.shape and (_edge_moves(boxes, moved) <= _SETTLED).all()
        boxes = moved
        if settled:
            break
    return boxes


def windows(width: int, height: int, padding: float = 1.0) -> np.ndarray:
    """Boxes (N, 4) whose crops are the whole picture and overlapping square windows of several sizes in it, N <= 24.

    Sizes go from the shorter side down to less than half of it. When a size would take too many windows, it and all smaller
    ones are left out; a picture so long that even the shorter side would take too many has 23 windows along it.
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
    """How certain poses are, and how well they hold still when their crops are moved, (N,) in 0..1.

    Every crop is shifted by a tenth of its side in four directions. With d the median distance that a joint moves, over the
    shift (1 when it follows the crop; a median, so that left and right exchanged in one arm do not count as lost), and u the
    median standard deviation of the surer half of the joints over the person's size, it is max(0, 1 - d)^1/4 times
    max(0, 1 - u / 0.1).
    Of a person who is half hidden the surer half is as certain as ever, of no person no joint is: that tells people from
    none better than all joints together do, and better than the stillness, hence the root.

    Args:
        predict: the pose network.
        boxes: (N, 4) of the people in question, picture pixels.
    """
    return _consistency(predict, boxes, Seen(*predict(boxes)))


def _consistency(predict: Predict, boxes: np.ndarray, seen: Seen) -> np.ndarray:
    keypoints, covariance, _ = seen
    shift = _SHIFT * boxes[:, 2:].max(axis=1)
    directions = np.array([[1, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, -1, 0, 0]])
    trials = boxes + shift[:, None] * directions[:, None]
    moved = Seen(*predict(trials.reshape(-1, 4))).keypoints.reshape(len(directions), *keypoints.shape)
    stays = 1 - np.median(np.linalg.norm(moved - keypoints, axis=-1), axis=(0, 2)) / shift
    certain = 1 - _uncertainty(keypoints, covariance) / _WIDEST
    return np.clip(stays, 0, 1) ** 0.25 * np.clip(certain, 0, 1)


def person_boxes(keypoints: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) around joints (N, J, 2) and one standard deviation of each, enlarged by 5 % of the longer side.

    An uncertain joint's mean lies towards the middle of the body, so that boxes around means alone shrink round by round.
    On people with labels this is as long as the labels' own box (`geometry.box_around`), on average to 2 %.
    """
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)).reshape(keypoints.shape)
    low, high = (keypoints - sigma).min(axis=1), (keypoints + sigma).max(axis=1)
    grow = _MARGIN * np.maximum((high - low).max(axis=1, keepdims=True), 1.0)
    return np.concatenate([low - grow, high - low + 2 * grow], axis=1)


def _uncertainty(keypoints: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Median standard deviation per axis, of the surer half of the joints, over the longer side of the joints' box, (N,)."""
    size = 1.2 * np.maximum(np.ptp(keypoints, axis=1).max(axis=1), 1.0)
    variance = np.diagonal(covariance, axis1=1, axis2=2).reshape(keypoints.shape).mean(axis=-1)
    surer = np.sort(variance, axis=1)[:, : max(keypoints.shape[1] // 2, 1)]
    return np.sqrt(np.median(surer, axis=1)) / size


def _inside(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which boxes can be people in this picture (N,): half of it inside, and not too small."""
    low = np.maximum(boxes[:, :2], -0.5)
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], np.array([width, height]) - 0.5)
    seen = np.clip(high - low, 0, None).prod(axis=1)
    return (seen >= 0.5 * boxes[:, 2:].prod(axis=1)) & (boxes[:, 2:].max(axis=1) >= max(8, _SMALLEST * min(width, height)))


def _distinct(seen: Seen, width: int, height: int) -> np.ndarray:
    """Boxes of the poses that can be people, most certain first, at most 6, none like a more certain one."""
    keypoints, covariance, _ = seen
    boxes = person_boxes(keypoints, covariance)
    allowed = _inside(boxes, width, height)
    kept: list[np.ndarray] = []
    for index in np.argsort(_uncertainty(keypoints, covariance), kind="stable"):
        if allowed[index] and all(overlap(boxes[index], other) < _SAME for other in kept):
            kept.append(boxes[index])
    return np.array(kept[:MOST]).reshape(-1, 4)


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (...) of boxes (..., 4) and (..., 4), pair by pair."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    return common / (first[..., 2:].prod(axis=-1) + second[..., 2:].prod(axis=-1) - common)


def _covered(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection of two boxes over the smaller one."""
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    return float(np.clip(high - low, 0, None).prod()) / min(float(first[2:].prod()), float(second[2:].prod()))


def _edge_moves(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Largest move of an edge over the longer side, (N,)."""
    ends = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (before, after)]
    return np.abs(ends[1] - ends[0]).max(axis=1) / after[:, 2:].max(axis=1)


def _spread_out(length: float, side: float, count: int) -> np.ndarray:
    """Centres of ``count`` windows spread evenly over a length; one window stands in the middle."""
    return np.array([length / 2]) if count == 1 else np.linspace(side / 2, length - side / 2, count)
