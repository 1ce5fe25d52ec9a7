"""Contact sheets: people cut out of their pictures, with overlays and captions, in a grid."""

from collections.abc import Sequence

import cv2
import numpy as np

from posecov.drawing import canvas as shapes
from posecov.drawing.overlay import draw_poses
from posecov.drawing.palette import INK, LEFT, RIGHT
from posecov.geometry import Similarity
from posecov.pose import Pose

_PAPER, _DIM = (250, 250, 250), (110, 110, 110)
_CELL, _GAP, _TEXT = 420, 18, 17


def cut_out(image: np.ndarray, pose: Pose, margin: float = 0.15) -> tuple[np.ndarray, Pose]:
    """The part of a picture around a person, and the pose in it.

    Args:
        image: (H, W, 3) uint8, BGR.
        pose: in its pixels.
        margin: around box and joints, as a share of the longer side.

    Returns:
        (H', W', 3), enlarged where it is small so that overlays are of one kind, and the pose in its pixels.
    """
    limits = np.array([image.shape[1], image.shape[0]])
    corners = pose.keypoints.astype(np.float64)
    if pose.box is not None:
        box = pose.box.astype(np.float64)
        corners = np.concatenate([corners, [box[:2], box[:2] + box[2:]]])
    seen = np.clip(corners, 0, limits)
    low, high = seen.min(axis=0), seen.max(axis=0)
    grow = max(margin * float((high - low).max()), 8.0)
    low = np.clip(np.floor(low - grow), 0, np.maximum(limits - 2, 0)).astype(int)
    high = np.clip(np.ceil(high + grow), low + 2, limits).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    scale = shapes.LEGIBLE / max(part.shape[:2])
    size = (max(8, round(part.shape[1] * scale)), max(8, round(part.shape[0] * scale)))
    part = cv2.resize(part, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    # Pixel centres lie at integers, so that a part scaled by s has its point p at (p + 1/2) s - 1/2.
    return part, pose.mapped(Similarity(scale * np.eye(2), (0.5 - low) * scale - 0.5))


def cell(image: np.ndarray, pose: Pose, captions: Sequence[str], mass: float = 0.95, click: str | None = None) -> np.ndarray:
    """A person with an overlay, the joint to click ringed, and lines of text below; the first is a title."""
    part, mapped = cut_out(image, pose)
    drawn = draw_poses(part, [mapped], mass, clicks=None if click is None else {0: click}, legend=False)
    scale = _CELL / max(drawn.shape[:2])
    size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
    drawn = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
    plate = np.full((_CELL + round(1.5 * _TEXT * len(captions)) + 6, _CELL, 3), _PAPER, np.uint8)
    top, left = (_CELL - drawn.shape[0]) // 2, (_CELL - drawn.shape[1]) // 2
    plate[:_CELL] = 225
    plate[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    for number, text in enumerate(captions):
        line = _CELL + 1.5 * _TEXT * (number + 1) - 4
        shapes.write(plate, _fitting(text, number == 0), (2, line), _TEXT, INK if number == 0 else _DIM)
    return plate


def sheet(cells: Sequence[np.ndarray], title: str, across: int = 4) -> np.ndarray:
    """Cells of one size in a grid, (H, W, 3) uint8 BGR."""
    height, width = cells[0].shape[:2]
    columns = min(across, len(cells))
    rows = -(-len(cells) // columns)
    header = 3 * _GAP
    extent = (header + rows * (height + _GAP), _GAP + columns * (width + _GAP), 3)
    page = np.full(extent, _PAPER, np.uint8)
    x = _GAP
    for text, colour in ((title, None), ("right", RIGHT), ("left", LEFT)):
        if colour is not None:
            shapes.disc(page, np.array([x + 0.5 * _TEXT, 1.62 * _GAP]), 0.4 * _TEXT, colour)
            x += round(1.3 * _TEXT)
        size = _TEXT + 3 if colour is None else _TEXT
        shapes.write(page, text, (x, 2 * _GAP), size, INK)
        x += shapes.text_width(text, size) + _TEXT
    for number, plate in enumerate(cells):
        top, left = header + number // columns * (height + _GAP), _GAP + number % columns * (width + _GAP)
        page[top : top + height, left : left + width] = plate
    return page


def _fitting(text: str, keep_end: bool) -> str:
    """A text that fits under a cell: of a name the end tells most, of a sentence the beginning."""
    short = text
    while len(short) > 4 and shapes.text_width(short, _TEXT) > _CELL - 4:
        text = text[1:] if keep_end else text[:-1]
        short = "..." + text if keep_end else text + "..."
    return short
