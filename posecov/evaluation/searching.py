"""How well people are found without boxes, on pictures of which it is known who is in them."""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy
from scipy.stats import rankdata

from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.images import read_image
from posecov.search import overlap

SAME = 0.5
"""Intersection over union from which a box is a person's."""

_BINS = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)  # Of `reliability`.
_JOINTS = 6  # Labelled joints from which somebody counts as a person to be found.
_THRESHOLD = 0.2  # Of PCK.


@dataclass(frozen=True)
class Scene:
    """A picture and who is in it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        keypoints: (N, J, 2) pixels, NaN without a label.
        boxes: (N, 4) x, y, width, height.
        scale: (N,) pixels, the unit of PCK: the torso's length.
    """

    image: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Search:
    """What the search made of pictures that have one person each.

    Attributes:
        found: (N,) bool, somebody was found, anywhere.
        right: (N,) correct joints (PCK@0.2) of the person found, 0 where nobody was.
        boxed: (N,) correct joints with the label's box.
        probability: (N,) that the best place holds a person, 0 where there was no candidate.
        placed: (N,) bool, the best place is the person's.
    """

    found: np.ndarray
    right: np.ndarray
    boxed: np.ndarray
    probability: np.ndarray
    placed: np.ndarray

    @property
    def share(self) -> float:
        """Correct joints of the search over those with boxes."""
        return float(self.right.sum() / self.boxed.sum())


def search_one(estimator: PoseEstimator, scenes: Iterable[Scene]) -> Search:
    """Search for the one person of every scene, and look into the label's box beside it. PosecovError without scenes."""
    rows = []
    for scene in scenes:
        found = estimator.find(scene.image, 1)
        best = found or estimator.find(scene.image, 1, least=0.0)
        boxes = np.concatenate([scene.boxes[:1], *(one.box[None] for one in found)])
        poses = estimator(scene.image, boxes)
        counts = [_correct(pose.keypoints, scene.keypoints[0], scene.scale[0]) for pose in poses]
        placed = bool(best) and bool(overlap(best[0].box, scene.boxes[0]) >= SAME)
        rows.append((len(found), counts[1] if found else 0, counts[0], best[0].probability if best else 0.0, placed))
    if not rows:
        raise PosecovError("no picture with one labelled person to search in")
    found_, right, boxed, probability, placed_ = map(np.array, zip(*rows, strict=True))
    return Search(found_ > 0, right, boxed, probability, placed_)


def search_several(estimator: PoseEstimator, scenes: Iterable[Scene], most: int) -> list[tuple[np.ndarray, int]]:
    """For every scene, which of its people were found (N,) bool, and how many places were named where no labelled one is."""
    rows = []
    for scene in scenes:
        places = np.array([one.box for one in estimator.find(scene.image, most)]).reshape(-1, 4)
        hits = np.array([[overlap(place, box) >= SAME for box in scene.boxes] for place in places], dtype=bool)
        hits = hits.reshape(len(places), len(scene.boxes))
        rows.append((np.atleast_1d(hits.any(axis=0)), int((~hits.any(axis=1)).sum())))
    return rows


def padded(image: np.ndarray, background: np.ndarray, factor: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture somewhere on a background ``factor`` times its sides, and where: (2,) its left upper corner, x, y.

    Args:
        image: (H, W, 3) uint8. background: (h, w, 3) uint8, enlarged until it covers all and cut to size.
        factor: above 1.
        rng: of the place.
    """
    height, width = image.shape[:2]
    full = (round(factor * height), round(factor * width))
    grow = max(full[0] / background.shape[0], full[1] / background.shape[1])
    canvas = cv2.resize(background, None, fx=grow, fy=grow, interpolation=cv2.INTER_AREA if grow < 1 else cv2.INTER_LINEAR)
    canvas = np.ascontiguousarray(canvas[: full[0], : full[1]])
    top, left = int(rng.integers(canvas.shape[0] - height + 1)), int(rng.integers(canvas.shape[1] - width + 1))
    canvas[top : top + height, left : left + width] = image
    return canvas, np.array([left, top])


def coco_scenes(root: Path, part: str) -> tuple[list[Path], dict[Path, list[Any]]]:
    """COCO's pictures without people, and those with labelled ones: path to the annotations of all its people.

    Args:
        root: COCO's folder, with ``annotations`` and the folder of the part.
        part: ``train2017`` or ``val2017``.

    Raises:
        PosecovError: the annotations are not there.
    """
    path = root / "annotations" / f"person_keypoints_{part}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PosecovError(f"{path}: cannot be read ({error}); give COCO's folder") from None
    people: dict[int, list[Any]] = {}
    for annotation in content["annotations"]:
        people.setdefault(annotation["image_id"], []).append(annotation)
    files = {entry["id"]: root / part / entry["file_name"] for entry in content["images"]}
    empty = [file for key, file in files.items() if key not in people]
    return empty, {files[key]: found for key, found in people.items() if key in files}


def labelled_enough(annotations: Sequence[Any]) -> bool:
    """Whether all of a picture's people have enough labelled joints to be looked for."""
    return all(annotation["num_keypoints"] >= _JOINTS and not annotation.get("iscrowd") for annotation in annotations)


def search_nobody(estimator: PoseEstimator, files: Iterable[Path]) -> np.ndarray:
    """(N,) probability of the best place in every picture without people; 0 where there was no candidate."""
    best = [estimator.find(read_image(file), 1) or estimator.find(read_image(file), 1, least=0.0) for file in files]
    return np.array([found[0].probability if found else 0.0 for found in best])


def fit_probability(somebody: np.ndarray, nobody: np.ndarray, even: float, slope: float) -> tuple[float, float]:
    """Where the probability is one half, and its slope, at their likeliest when both kinds of pictures are as frequent.

    Args:
        somebody: (N,) probabilities of pictures with a person, under ``even`` and ``slope``.
        nobody: (M,) of pictures without.
        even: consistency at which the probability was one half. slope: how fast it changed.
    """
    with np.errstate(divide="ignore"):
        x = [np.clip(even + scipy.special.logit(p) / slope, 0, 1) for p in (somebody, nobody)]

    def loss(w: np.ndarray) -> float:
        rising = [np.exp(w[1]) * (values - w[0]) for values in x]
        return float(np.logaddexp(0, -rising[0]).mean() + np.logaddexp(0, rising[1]).mean())

    fitted = scipy.optimize.minimize(loss, [even, np.log(slope)], method="Nelder-Mead").x
    return float(fitted[0]), float(np.exp(fitted[1]))


def area_under_roc(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of pairs of a positive and a negative in which the positive's score is the higher one."""
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return float("nan")
    return float((rankdata(score)[positive].sum() - count * (count + 1) / 2) / (count * others))


def reliability(probability: np.ndarray, there: np.ndarray, weight: np.ndarray) -> list[dict[str, float]]:
    """By ranges of the probability: how many pictures, mean probability and share of those with a person, both weighted.

    Args:
        probability: (N,) stated. there: (N,) bool. weight: (N,) of the pictures.
    """
    table = []
    for low, high in itertools.pairwise(_BINS):
        chosen = (probability >= low) & ((probability < high) | (high == 1))
        if chosen.any():
            mean, share = (float(np.average(values[chosen], weights=weight[chosen])) for values in (probability, there))
            table.append({"from": low, "to": high, "pictures": int(chosen.sum()), "probability": mean, "share": share})
    return table


def log_loss(probability: np.ndarray, there: np.ndarray, weight: np.ndarray) -> float:
    """Nats a picture, arguments as for `reliability`."""
    chosen = np.clip(np.where(there, probability, 1 - probability), 1e-9, 1)
    return float(np.average(-np.log(chosen), weights=weight))


def even_weights(somebody: np.ndarray) -> np.ndarray:
    """Weights (N,) under which every other picture has a person, of (N,) bool; all of one kind count the same."""
    return np.where(somebody, 0.5 / max(somebody.sum(), 1), 0.5 / max((~somebody).sum(), 1))


def _correct(keypoints: np.ndarray, truth: np.ndarray, scale: float) -> int:
    """Joints within PCK's threshold; those without a label count for nothing."""
    with np.errstate(invalid="ignore"):
        return int((np.linalg.norm(keypoints - truth, axis=1) < _THRESHOLD * scale).sum())
