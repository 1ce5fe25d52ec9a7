"""The crop map: one similarity for picture, points, covariances and roots, in training and inference alike.

Pixels are 0-based and a pixel's centre lies at its integer coordinates.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Similarity:
    """p -> L p + t with L = scale x orthogonal (a rotation, or a reflection when mirrored).

    Attributes:
        linear: (2, 2) float64.
        offset: (2,) float64, pixels of the target.
    """

    linear: np.ndarray
    offset: np.ndarray

    @property
    def scale(self) -> float:
        """Target pixels per source pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.linear))))

    @property
    def matrix(self) -> np.ndarray:
        """(2, 3) as cv2.warpAffine with WARP_INVERSE_MAP unset takes it."""
        return np.concatenate([self.linear, self.offset[:, None]], axis=1)

    def points(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2)."""
        return points @ self.linear.T + self.offset

    def covariance(self, covariance: np.ndarray) -> np.ndarray:
        """Map covariances (..., 2J, 2J): R S R^T with R = L on every joint."""
        return self._on_both_sides(covariance)

    def root(self, root: np.ndarray) -> np.ndarray:
        """Map symmetric roots (..., 2J, 2J) of covariances: (R S R^T)^1/2 = R S^1/2 R^T / scale."""
        return self._on_both_sides(root) / self.scale

    def _on_both_sides(self, matrix: np.ndarray) -> np.ndarray:
        joints, side = matrix.shape[-1] // 2, matrix.shape[-1]
        rows = self.linear @ matrix.reshape(*matrix.shape[:-2], joints, 2, side)
        return (rows.reshape(*matrix.shape[:-2], side, joints, 2) @ self.linear.T).reshape(matrix.shape)

    def inverse(self) -> "Similarity":
        """The map back."""
        linear = np.linalg.inv(self.linear)
        return Similarity(linear, -linear @ self.offset)

    def after(self, first: "Similarity") -> "Similarity":
        """This map applied to the result of ``first``."""
        return Similarity(self.linear @ first.linear, self.linear @ first.offset + self.offset)


def box_around(points: np.ndarray, margin: float = 0.1) -> np.ndarray:
    """A person's box from labelled joints (N, 2): their extent, enlarged by ``margin`` of its longer side on every side.

    Returns:
        (4,) x, y, width, height in pixels.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    grow = margin * max(float((high - low).max()), 1.0)
    return np.concatenate([low - grow, high - low + 2 * grow])


def crop_map(
    box: np.ndarray,
    size: int,
    padding: float = 1.0,
    *,
    rotation: float = 0.0,
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    mirror: bool = False,
) -> Similarity:
    """The map from picture pixels to the pixels of a square crop around a box.

    Args:
        box: (4,) x, y, width, height. It is squared about its centre: the crop covers ``padding`` times its longer side.
        size: side of the crop in pixels.
        padding: how much more than the box the crop shows.
        rotation: radians, clockwise on the screen (y points down); for augmentation.
        zoom: > 1 shows the person larger; for augmentation.
        shift: of the person inside the crop, as a fraction of the crop's side; for augmentation.
        mirror: left and right exchanged in the picture. Joint names must be exchanged separately (`Skeleton.flip_permutation`).
    """
    box = np.asarray(box, dtype=np.float64)
    side = max(float(box[2]), float(box[3]), 1e-6) * padding / zoom
    scale = size / side
    cosine, sine = np.cos(rotation), np.sin(rotation)
    linear = scale * np.array([[cosine, -sine], [sine, cosine]])
    if mirror:
        linear = linear @ np.diag([-1.0, 1.0])
    centre = box[:2] + box[2:] / 2
    target = (size - 1) / 2 + np.asarray(shift, dtype=np.float64) * size
    return Similarity(linear, target - linear @ centre)


def warp(image: np.ndarray, similarity: Similarity, size: int, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """The crop (size, size, C) of a uint8 picture (H, W, C), antialiased where it shrinks.

    What lies outside the picture is grey 127, which the networks' normalisation maps to 0.
    """
    source, reduce = _patch(image, similarity, size)
    return cv2.warpAffine(
        source, reduce.matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=(127, 127, 127, 127)
    )


def _patch(image: np.ndarray, similarity: Similarity, size: int) -> tuple[np.ndarray, Similarity]:
    """The part of the picture under the crop, area-averaged to the crop's resolution if that is less, and the map from it.

    Bilinear sampling reads 2 x 2 pixels, so a picture that shrinks is averaged first, so that none is skipped; and OpenCV 4
    warps no picture with a side of 32,767 pixels or more, so the patch is cut out in any case.
    """
    factor = max(1.0 / similarity.scale, 1.0)
    corners = similarity.inverse().points((size - 1.0) * np.array([[0, 0], [1, 0], [0, 1], [1, 1]]))
    limits = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(corners.min(axis=0) - 2 * factor), 0, limits - 1).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + 2 * factor) + 1, low + 1, limits).astype(int)
    patch = image[low[1] : high[1], low[0] : high[0]]
    extent = high - low
    target = np.maximum(np.round(extent / factor), 1).astype(int)
    if (target >= extent).all():
        return patch, Similarity(similarity.linear, similarity.linear @ low + similarity.offset)
    small = cv2.resize(patch, (int(target[0]), int(target[1])), interpolation=cv2.INTER_AREA)
    # Pixel centres: source = (small + 1/2) * extent / target - 1/2 + low, one ratio per axis as cv2.resize applies it.
    ratio = extent / target
    linear = similarity.linear @ np.diag(ratio)
    offset = similarity.linear @ (low + ratio / 2 - 0.5) + similarity.offset
    return small, Similarity(linear, offset)
