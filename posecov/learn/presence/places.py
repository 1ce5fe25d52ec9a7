"""Pictures of which it is known who is in them, and what crops of them show: somebody, nobody, or what nobody can say."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecov.evaluation.searching import padded
from posecov.images import read_image
from posecov.learn.augment import AugmentConfig, ColourChange, cut_off
from posecov.learn.datasets import Record
from posecov.search import overlap

THERE, ELSEWHERE = 0.5, 0.3
"""Intersection over union of a crop with a person's from which it shows the person, and below which it does not."""

_TOUCHES = 0.05  # Share of a crop that may be of a picture in which people without a label may be.
_CHANGES = AugmentConfig(cut=0.35, occlude=0.0)
_FACTORS = (1.2, 4.0)  # Of a scene's side over that of the picture on it.
_ALONE = 0.25  # Share of people's pictures that are on no scene.
_PARTS = (0.4, 1.0)  # Of a scene's sides that are shown, in half of the cases.


@dataclass(frozen=True)
class Place:
    """A picture and who is in it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        people: (N, 4) boxes.
        unsure: (M, 4) parts of the picture in which others may be, without a label.
    """

    image: np.ndarray
    people: np.ndarray
    unsure: np.ndarray

    @property
    def alone(self) -> bool:
        """Whether a picture of people is all of it, without a scene."""
        return len(self.unsure) == 1 and bool((self.unsure[0, 2:] >= self.image.shape[1::-1]).all())


def squared(boxes: np.ndarray) -> np.ndarray:
    """The squares (N, 4) around the boxes' centres with their longer sides: what a crop shows, without its padding."""
    side = boxes[:, 2:].max(axis=1, keepdims=True)
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2 - side / 2, side, side], axis=1)


def shown(place: Place, boxes: np.ndarray) -> np.ndarray:
    """Whether crops show somebody: (N,) 1 or 0, NaN where that cannot be said.

    A crop that is a person's, but for a little, shows it. One that has little in common with all people shows nobody, if it is
    either about somebody who is labelled, and misses them, or nowhere near where people without a label may be.
    """
    crops = squared(boxes)
    best = np.zeros(len(boxes))
    for person in squared(place.people):
        best = np.maximum(best, overlap(crops, person))
    doubtful = np.zeros(len(boxes))
    for part in place.unsure:
        low = np.maximum(crops[:, :2], part[:2])
        high = np.minimum(crops[:, :2] + crops[:, 2:], part[:2] + part[2:])
        doubtful += np.clip(high - low, 0, None).prod(axis=1) / crops[:, 2:].prod(axis=1)
    nobody = (best < ELSEWHERE) & ((best > _TOUCHES) | (doubtful < _TOUCHES))
    return np.where(best >= THERE, 1.0, np.where(nobody, 0.0, np.nan))


def near(people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two boxes near each person's, and two that miss it, since they are far off or of another size: (4 N, 4)."""
    boxes = []
    for x, y, width, height in people:
        side = max(width, height)
        for missed in (False, False, True, True):
            if not missed:
                factor, reach = np.exp(rng.uniform(np.log(0.8), np.log(1.3))), 0.1
            elif rng.random() < 0.5:
                factor, reach = np.exp(rng.uniform(np.log(0.25), np.log(0.55))), 0.5
            else:
                factor, reach = np.exp(rng.uniform(np.log(0.7), np.log(3.0))), 0.9
            own, (dx, dy) = factor * side, rng.uniform(-reach, reach, 2) * side
            boxes.append([x + width / 2 + dx - own / 2, y + height / 2 + dy - own / 2, own, own])
    return np.array(boxes).reshape(-1, 4)


def scene_alone(file: Path, rng: np.random.Generator, *, changed: bool = True) -> Place:
    """A picture without people, or a part of it, maybe mirrored."""
    image = read_image(file)
    if rng.random() < 0.5:
        image, _ = _part(image, rng)
    image = image[:, ::-1] if rng.random() < 0.5 else image
    none = np.zeros((0, 4))
    return Place(_coloured(image, rng) if changed else np.ascontiguousarray(image), none, none)


def with_people(records: Sequence[Record], scene: Path | None, rng: np.random.Generator) -> Place:
    """The picture of some records, maybe cut off or mirrored, by itself or somewhere on a scene without people.

    Args:
        records: all of one picture.
        scene: a picture without people; None leaves the picture alone.
        rng: of everything.
    """
    image = read_image(records[0].image)
    if len(records) == 1:
        image, person = cut_off(image, records[0], _CHANGES, rng)
        records = [person]
    people = np.stack([record.box for record in records])
    if rng.random() < 0.5:
        image = image[:, ::-1]
        people[:, 0] = image.shape[1] - 1 - people[:, 0] - people[:, 2]
    image = np.ascontiguousarray(image)
    corner = np.zeros(2)
    height, width = image.shape[:2]
    if scene is not None and rng.random() >= _ALONE:
        image, corner = padded(image, read_image(scene), float(rng.uniform(*_FACTORS)), rng)
    people[:, :2] += corner
    return Place(_coloured(image, rng), people, np.array([[*corner, width, height]], dtype=float))


def everyday(file: Path, boxes: np.ndarray, crowds: np.ndarray, rng: np.random.Generator) -> Place:
    """A picture in which everybody has a box, or a part of it, maybe mirrored: what lies beside the boxes shows nobody.

    Args:
        file: the picture.
        boxes: (N, 4) of single people.
        crowds: (M, 4) of groups.
        rng: of everything.
    """
    image = read_image(file)
    corner = np.zeros(2)
    if rng.random() < 0.5:
        image, corner = _part(image, rng)
    ends = np.array(image.shape[1::-1])
    own = []
    for kind in (boxes, crowds):
        low = np.clip(kind[:, :2] - corner, 0, ends)
        high = np.clip(kind[:, :2] + kind[:, 2:] - corner, 0, ends)
        own.append(np.concatenate([low, high - low], axis=1))
    seen = own[0][:, 2:].prod(axis=1) / np.maximum(boxes[:, 2:].prod(axis=1), 1.0)
    people, unsure = own[0][seen > 0.5], np.concatenate([own[0][(seen > 0) & (seen <= 0.5)], own[1]])
    if rng.random() < 0.5:
        image = image[:, ::-1]
        for part in (people, unsure):
            part[:, 0] = ends[0] - 1 - part[:, 0] - part[:, 2]
    return Place(_coloured(image, rng), people, unsure)


def _part(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random part of a picture, and where it is: x, y."""
    height, width = image.shape[:2]
    tall, wide = (max(round(length * rng.uniform(*_PARTS)), 32) for length in (height, width))
    top, left = (int(rng.integers(max(full - part, 0) + 1)) for full, part in ((height, tall), (width, wide)))
    return image[top : top + tall, left : left + wide], np.array([left, top])


def on_scene(record: Record, scene: Path, factor: float, rng: np.random.Generator) -> Place:
    """A person's picture as it is, somewhere on a scene ``factor`` times its size, to judge by."""
    image = read_image(record.image)
    canvas, corner = padded(image, read_image(scene), factor, rng)
    person = record.box + [*corner, 0, 0]
    return Place(canvas, person[None], np.array([[*corner, *image.shape[1::-1]]], dtype=float))


_colours: list[ColourChange] = []


def _coloured(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not _colours:
        _colours.append(ColourChange(dataclasses.replace(_CHANGES)))
    return _colours[0](np.ascontiguousarray(image), rng)
