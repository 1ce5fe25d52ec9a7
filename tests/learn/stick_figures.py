"""A data root like LSP's and LSPET's, drawn: bright joints on a dark ground, so that tests need no real data."""

from pathlib import Path

import cv2
import numpy as np
import scipy.io

STANDING = np.array(
    [[-20, 90], [-18, 50], [-14, 10], [14, 10], [18, 50], [20, 90], [-45, 10], [-38, -25], [-20, -50], [20, -50]]
    + [[38, -25], [45, 10], [0, -58], [0, -88]],
    dtype=float,
)  # fmt: skip


def pose(rng: np.random.Generator) -> np.ndarray:
    """(14, 2) 0-based pixels in a picture of 160 x 240."""
    angle, scale = rng.normal(0, 0.15), rng.uniform(0.6, 0.9)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (STANDING + rng.normal(0, 3, STANDING.shape)) @ turn.T * scale + [80, 115] + rng.normal(0, 4, 2)


def picture(points: np.ndarray) -> np.ndarray:
    """(240, 160, 3) uint8 with one coloured dot for each joint."""
    image = np.full((240, 160, 3), 40, np.uint8)
    for index, (x, y) in enumerate(points):
        colour = tuple(int(c) for c in cv2.cvtColor(np.uint8([[[index * 12, 255, 255]]]), cv2.COLOR_HSV2BGR)[0, 0])
        cv2.circle(image, (round(x), round(y)), 5, colour, -1, cv2.LINE_AA)
    return image


def write_data_root(root: Path, pictures: int = 40) -> Path:
    """LSP (2,000 people in ``pictures`` drawings, linked) and LSPET (30 people, some joints without a label)."""
    rng = np.random.default_rng(0)
    (root / "lsp" / "images").mkdir(parents=True)
    (root / "lspet" / "images").mkdir(parents=True)
    drawn = [pose(rng) for _ in range(pictures)]
    for index, points in enumerate(drawn):
        cv2.imwrite(str(root / f"drawing{index}.jpg"), picture(points), [cv2.IMWRITE_JPEG_QUALITY, 95])
    joints = np.zeros((3, 14, 2000))
    for number in range(2000):
        which = number % pictures
        (root / "lsp" / "images" / f"im{number + 1:04d}.jpg").hardlink_to(root / f"drawing{which}.jpg")
        joints[:2, :, number] = drawn[which].T + 1.0
    joints[2, 0, :] = 1
    scipy.io.savemat(root / "lsp" / "joints.mat", {"joints": joints})
    extended = np.ones((14, 3, 30))
    for number in range(30):
        which = number % pictures
        (root / "lspet" / "images" / f"im{number + 1:05d}.jpg").hardlink_to(root / f"drawing{which}.jpg")
        extended[:, :2, number] = drawn[which] + 1.0
    extended[3:5, :, ::2] = np.array([-12.0, -7.0, 0.0])[:, None]
    scipy.io.savemat(root / "lspet" / "joints.mat", {"joints": extended})
    return root
