"""Which pictures of an evaluation are worth a look, and their overlays: ellipses, and crosses where the labels are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posecov import metrics
from posecov.drawing import INK, draw_poses
from posecov.drawing.canvas import LEGIBLE
from posecov.geometry import Similarity
from posecov.images import read_image
from posecov.pose import Pose

LABEL = (220, 40, 230)
"""BGR of labels: neither warm nor cool, as limbs are."""

LONGEST = 640
"""Longer side of an overlay in a report, in pixels, at most."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One person of an evaluation, drawn.

    Attributes:
        name: of the record.
        error: mean over labelled joints, in person sizes.
        sigma: mean over joints, in person sizes.
        joint: name of the joint that is farthest off, or of the least sure one.
        image: (H, W, 3) uint8, BGR.
    """

    name: str
    error: float
    sigma: float
    joint: str
    image: np.ndarray


def galleries(
    names: Sequence[str],
    files: Sequence[Path],
    poses: Sequence[Pose],
    truth: np.ndarray,
    labelled: np.ndarray,
    sizes: np.ndarray,
    count: int,
) -> tuple[list[Shown], list[Shown]]:
    """The people with the largest mean error over their labelled joints, and those with the largest mean sigma over all joints.

    Both in person sizes, or the people nearest to the camera would come first.

    Args:
        names: of N records.
        files: their pictures.
        poses: in picture pixels.
        truth: (N, J, 2) pixels.
        labelled: (N, J).
        sizes: (N,) of the people, pixels.
        count: people in each.

    Raises:
        PosecovError: a picture cannot be read.
    """
    errors = metrics.keypoint_errors(np.stack([pose.keypoints for pose in poses]), truth, labelled)
    sigmas = np.stack([pose.sigma for pose in poses])
    with np.errstate(invalid="ignore"):
        error = np.nansum(errors, axis=1) / labelled.sum(axis=1) / sizes
    sigma = sigmas.mean(axis=1) / sizes

    def shown(index: int, by_joint: np.ndarray) -> Shown:
        image = overlay(read_image(files[index]), poses[index], truth[index], labelled[index])
        joint = poses[index].names[int(np.nanargmax(by_joint))]
        return Shown(names[index], float(error[index]), float(sigma[index]), joint, image)

    worst = [shown(index, errors[index]) for index in _largest(error, count)]
    return worst, [shown(index, sigmas[index]) for index in _largest(sigma, count)]


def _largest(values: np.ndarray, count: int) -> list[int]:
    """Indices of the largest values, the largest first; NaN are left out."""
    order = np.argsort(-values, kind="stable")
    return [int(index) for index in order[:count] if not np.isnan(values[index])]


def overlay(image: np.ndarray, pose: Pose, truth: np.ndarray, labelled: np.ndarray, mass: float = 0.95) -> np.ndarray:
    """A person with ellipses, cut out of the picture, and the labels as crosses tied to their keypoints.

    Args:
        image: (H, W, 3) uint8, BGR.
        pose: in pixels of the picture, with or without its box.
        truth: (J, 2) pixels.
        labelled: (J,) bool.
        mass: probability with which an ellipse holds its joint.

    Returns:
        (H', W', 3) uint8, BGR, its longer side at most `LONGEST`.
    """
    x, y, right, bottom = _region(image.shape, pose, truth[labelled])
    part = image[y:bottom, x:right]
    scale = max(1.0, LEGIBLE / min(part.shape[:2]))
    # Pixel centres lie at integers, so that a part enlarged by s has its point p at (p + 1/2) s - 1/2.
    frame = Similarity(scale * np.eye(2), (0.5 - np.array([x, y])) * scale - 0.5)
    size = (round(part.shape[1] * scale), round(part.shape[0] * scale))
    part = cv2.resize(part, size, interpolation=cv2.INTER_CUBIC) if scale > 1 else part
    mapped = pose.mapped(frame)
    canvas = draw_poses(part, [mapped], mass)
    _draw_labels(canvas, mapped, frame.points(truth), labelled)
    shrink = min(1.0, LONGEST / max(canvas.shape[:2]))
    size = (max(1, round(canvas.shape[1] * shrink)), max(1, round(canvas.shape[0] * shrink)))
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def _region(shape: tuple[int, ...], pose: Pose, points: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, right, bottom in whole pixels: the joints found and labelled, the box, and a margin; a piece of the picture."""
    limits = np.array([shape[1], shape[0]])
    corners = [pose.keypoints.astype(np.float64), points]
    if pose.box is not None:
        box = pose.box.astype(np.float64)
        corners.append(np.stack([box[:2], box[:2] + box[2:]]))
    inside = np.clip(np.concatenate(corners), 0, limits)
    low, high = inside.min(axis=0), inside.max(axis=0)
    margin = max(0.12 * float((high - low).max()), 8.0)
    low = np.clip(np.floor(low - margin), 0, np.maximum(limits - 2, 0)).astype(int)
    high = np.clip(np.ceil(high + margin), low + 2, limits).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _draw_labels(canvas: np.ndarray, pose: Pose, truth: np.ndarray, labelled: np.ndarray) -> None:
    arm = max(4, round(0.013 * min(canvas.shape[:2])))
    for keypoint, point in zip(pose.keypoints[labelled], truth[labelled], strict=True):
        ends = [tuple(int(v) for v in np.round(np.clip(p, -1e4, 1e4))) for p in (keypoint, point)]
        cv2.line(canvas, ends[0], ends[1], LABEL, 1, cv2.LINE_AA)
        for colour, width in ((INK, 5), (LABEL, 2)):
            for dx, dy in ((arm, arm), (arm, -arm)):
                a, b = (ends[1][0] - dx, ends[1][1] - dy), (ends[1][0] + dx, ends[1][1] + dy)
                cv2.line(canvas, a, b, colour, width, cv2.LINE_AA)
