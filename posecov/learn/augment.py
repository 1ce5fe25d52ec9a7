"""Crops for training: one similarity map for picture and points, and colour changes that move nothing.

Every random number comes from (seed, epoch, index), so a resumed run, or one on several processes, sees the same samples.
"""

import dataclasses
import os
from dataclasses import dataclass

import cv2
import numpy as np

from posecov.geometry import Similarity, box_around, crop_map, warp
from posecov.learn.datasets import Record

# albumentations looks for updates when imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@dataclass(frozen=True)
class AugmentConfig:
    """How much a training crop may differ from the person's box.

    Attributes:
        rotation: standard deviation of the rotation in degrees (clipped at twice that).
        zoom: largest factor, up or down, of the person's size.
        shift: standard deviation of the person's place, as a fraction of the crop.
        flip: probability of a mirrored crop.
        misplaced: probability of a crop in which the person is small and far from the middle, as a first guess at a box gives.
        colour: probability of each colour change.
        occlude: probability of a grey rectangle somewhere on the crop.
        cut: probability of a person of whom a side is missing: the picture ends there, or the box does. Labels of the joints
            beyond stay: the covariance learns how far away they may be.
    """

    rotation: float = 25.0
    zoom: float = 1.3
    shift: float = 0.04
    flip: float = 0.5
    misplaced: float = 0.1
    colour: float = 0.3
    occlude: float = 0.15
    cut: float = 0.0


# Sides at which pictures end inside people (left, top, right, bottom), and how often: legs are missing more often than heads.
_CUT_SIDES = (0.12, 0.08, 0.12, 0.68)
_CUT_KEEPS = (0.35, 0.85)
_CUT_JOINTS = 6


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The source of randomness of one sample."""
    return np.random.default_rng((seed, epoch, index))


def random_map(
    box: np.ndarray, size: int, padding: float, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Similarity, bool]:
    """A random crop map around a box, and whether it mirrors (then left and right joints change places)."""
    mirror = bool(rng.random() < config.flip)
    rotation = np.deg2rad(np.clip(rng.normal(0, config.rotation), -2 * config.rotation, 2 * config.rotation))
    if rng.random() < config.misplaced:
        zoom = float(rng.uniform(0.45, 0.8))
        reach = 0.5 * (1.0 - zoom)
        shift = rng.uniform(-reach, reach, size=2)
    else:
        zoom = float(config.zoom ** rng.uniform(-1.0, 1.0))
        shift = rng.normal(0, config.shift, size=2)
    similarity = crop_map(box, size, padding, rotation=float(rotation), zoom=zoom, shift=(shift[0], shift[1]), mirror=mirror)
    return similarity, mirror


def cut_off(image: np.ndarray, record: Record, config: AugmentConfig, rng: np.random.Generator) -> tuple[np.ndarray, Record]:
    """With probability ``config.cut``, what is left of picture and person when one side is cut off.

    Args:
        image: (H, W, 3) uint8 BGR.

    Returns:
        a part of the picture, or all of it when the box alone ends there; the person in its coordinates, with the box of the
        rest. Both as they were when nothing is cut, or when fewer than six labelled joints would be left.
    """
    if not config.cut or rng.random() >= config.cut:
        return image, record
    side = int(rng.choice(4, p=_CUT_SIDES))
    keep, picture_ends = rng.uniform(*_CUT_KEEPS), bool(rng.random() < 0.7)
    axis, low, high = side % 2, record.box[:2].copy(), record.box[:2] + record.box[2:]
    extent = record.box[2 + axis]
    edge = round(float(low[axis] + (keep if side >= 2 else 1 - keep) * extent))
    (high if side >= 2 else low)[axis] = edge
    inside = record.labelled & ((record.keypoints >= low) & (record.keypoints <= high)).all(1)
    if inside.sum() < _CUT_JOINTS:
        return image, record
    offset = np.zeros(2)
    if picture_ends and 0 < edge < image.shape[1 - axis]:
        kept = slice(0, edge) if side >= 2 else slice(edge, None)
        image = image[kept] if axis else image[:, kept]
        if side < 2:
            offset[axis] = edge
    rest = box_around(record.keypoints[inside])
    low, high = np.maximum(rest[:2], low), np.minimum(rest[:2] + rest[2:], high)
    box = np.concatenate([low - offset, high - low])
    return image, dataclasses.replace(record, keypoints=record.keypoints - offset, box=box)


def crop_record(
    image: np.ndarray, record: Record, similarity: Similarity, size: int, permutation: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a record's crop.

    Args:
        image: (H, W, 3) uint8 BGR.
        permutation: the skeleton's flip permutation when the map mirrors, else None.

    Returns:
        crop (size, size, 3) uint8 BGR; points (J, 2) float32 crop pixels, 0 without a label; labelled (J,) bool.
    """
    crop = warp(image, similarity, size)
    points, labelled = similarity.points(record.keypoints), record.labelled
    if permutation is not None:
        points, labelled = points[permutation], labelled[permutation]
    points = np.where(labelled[:, None], points, 0.0).astype(np.float32)
    return crop, points, labelled.copy()


class ColourChange:
    """Pixel-level changes by albumentations, seeded per sample."""

    def __init__(self, config: AugmentConfig):
        import albumentations

        p = config.colour
        self._occlude = config.occlude
        self._transform = albumentations.Compose(
            [
                albumentations.RandomBrightnessContrast(0.3, 0.3, p=p),
                albumentations.HueSaturationValue(12, 40, 20, p=p),
                albumentations.RandomGamma((70, 140), p=p / 2),
                albumentations.ToGray(p=p / 4),
                albumentations.OneOf(
                    [albumentations.GaussianBlur((3, 5)), albumentations.ImageCompression(quality_range=(30, 90))], p=p
                ),
            ]
        )

    def __call__(self, crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change a crop (S, S, 3) uint8 BGR; returns a new array."""
        self._transform.set_random_seed(int(rng.integers(2**31)))
        changed = self._transform(image=cv2.cvtColor(crop, cv2.COLOR_BGR2RGB))["image"]
        changed = np.ascontiguousarray(cv2.cvtColor(changed, cv2.COLOR_RGB2BGR))
        if rng.random() < self._occlude:
            size = crop.shape[0]
            width, height = (rng.uniform(0.1, 0.3, size=2) * size).astype(int)
            left, top = (rng.random(2) * (size - np.array([width, height]))).astype(int)
            changed[top : top + height, left : left + width] = rng.integers(0, 256, size=3)
        return changed
