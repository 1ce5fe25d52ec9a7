"""What a detector is fed: a picture brought to the size and the numbers that the network learned with."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

STEP = 32
"""Where a network takes any size, the sides are multiples of this, the largest stride of the known ones."""

Fit = Literal["centre", "corner", "stretch", "whole"]


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes a network's input.

    Attributes:
        fit: ``centre`` and ``corner`` keep the picture's shape and fill up the rest, on both sides or at the right and the
            bottom; ``stretch`` does not keep it; ``whole`` takes the picture in its own size if the network takes any size,
            made smaller only when a side is longer than ``size``, and else is ``corner``.
        mean: of the channels, on the scale 0..255, in the order in which they are fed: the input is (pixel - mean) / std.
        std: likewise; 255 feeds 0..1, 1 feeds 0..255.
        rgb: feed R, G, B; else B, G, R.
        fill: grey level, 0..255, of what the picture does not cover.
        size: longer side, pixels, where the network takes any size.
    """

    fit: Fit
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rgb: bool = False
    fill: float = 114.0
    size: int = 640


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a network's input: input = scale x picture + offset, edges of pixels at whole numbers.

    Attributes:
        shape: (height, width) of the input, pixels.
        content: (height, width) of the picture in it, pixels.
        scale: (2,) input pixels per picture pixel, x and y.
        offset: (2,) x and y, input pixels.
    """

    shape: tuple[int, int]
    content: tuple[int, int]
    scale: np.ndarray
    offset: np.ndarray

    def to_picture(self, corners: np.ndarray) -> np.ndarray:
        """Corners (N, 4) x1, y1, x2, y2 in input pixels, in picture pixels."""
        return (corners - np.tile(self.offset, 2)) / np.tile(self.scale, 2)


def place(height: int, width: int, preparation: Preparation, fixed: tuple[int | None, int | None]) -> Placement:
    """Where a picture goes.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
        preparation: of the network's layout.
        fixed: height and width of the network's input, None where it takes any.
    """
    fit, free = preparation.fit, fixed == (None, None)
    frame = (fixed[0] or preparation.size, fixed[1] or preparation.size)
    if fit == "stretch":
        content = frame
    else:
        ratio = min(frame[0] / height, frame[1] / width)
        if fit == "whole" and free:
            ratio = min(ratio, 1.0)
        content = (max(round(height * ratio), 1), max(round(width * ratio), 1))
        if free:
            frame = content if fit == "whole" else (_rounded_up(content[0]), _rounded_up(content[1]))
    spare = (frame[0] - content[0], frame[1] - content[1])
    offset = np.array([spare[1] // 2, spare[0] // 2] if fit == "centre" else [0, 0], dtype=np.float64)
    return Placement(frame, content, np.array([content[1] / width, content[0] / height]), offset)


def prepare(image: np.ndarray, placement: Placement, preparation: Preparation, kind: np.dtype) -> np.ndarray:
    """The input (3, height, width) of a picture (H, W, 3) uint8 BGR, as numbers of the kind that the network takes."""
    height, width = placement.content
    # The networks were trained and judged with bilinear resizing; from half the size on it would skip pixels.
    method = cv2.INTER_AREA if placement.scale.min() < 0.5 else cv2.INTER_LINEAR
    small = cv2.resize(image, (width, height), interpolation=method)
    canvas = np.full((*placement.shape, 3), preparation.fill, dtype=np.float32)
    left, top = placement.offset.astype(int)
    canvas[top : top + height, left : left + width] = small[..., ::-1] if preparation.rgb else small
    numbers = (canvas - np.array(preparation.mean, np.float32)) / np.array(preparation.std, np.float32)
    if kind.kind == "u":
        numbers = np.clip(np.round(numbers), 0, 255)
    return np.ascontiguousarray(numbers.transpose(2, 0, 1), dtype=kind)


def _rounded_up(side: int) -> int:
    return -(-side // STEP) * STEP
