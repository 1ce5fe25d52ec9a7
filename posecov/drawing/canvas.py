"""Antialiased shapes and letters mixed into a picture, (H, W, 3) uint8 BGR, in place. Coordinates are pixels of it."""

import math
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from posecov.drawing.palette import Colour

_SHIFT = 4  # OpenCV's fixed-point bits: coordinates to a sixteenth of a pixel.
_TURN = np.arange(64) * (2 * np.pi / 64)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_FAR = 1e5  # Coordinates beyond it would overflow the fixed point.

LEGIBLE = 480
"""Shorter side in pixels below which a picture is enlarged before it is drawn on."""

_LARGEST = 2400  # Enlarging ends where the longer side would pass this.


def enlarged(image: np.ndarray, spare: bool = True) -> tuple[np.ndarray, float]:
    """A copy to draw on, large enough for lines and letters to be seen, and its pixels per pixel of the picture.

    If ``image`` need not be spared, it is returned itself where it is large enough.
    """
    height, width = image.shape[:2]
    scale = min(max(1.0, LEGIBLE / min(height, width)), max(1.0, _LARGEST / max(height, width)))
    if scale == 1:
        return (image.copy() if spare else image), scale
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC), scale


def on_canvas(points: np.ndarray, scale: float) -> np.ndarray:
    """Points of a picture on its enlarged copy: pixel centres lie at integers, so that p goes to (p + 1/2) s - 1/2."""
    return (np.asarray(points, dtype=np.float64) + 0.5) * scale - 0.5


def pixels_text(pixels: float) -> str:
    """A length as people read it: "0.4 px", "37 px"."""
    return f"{pixels:.0f} px" if pixels >= 10 else f"{pixels:.1f} px"


def letter_size(shape: Sequence[int]) -> int:
    """Height of an em in pixels for a canvas of this shape."""
    return round(max(13.0, 0.024 * min(shape[:2])))


def circle(centre: np.ndarray, radius: float) -> np.ndarray:
    """Vertices (64, 2): OpenCV's own small circles are diamonds."""
    return centre + radius * _CIRCLE


def disc(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour, opacity: float = 1.0) -> None:
    """A filled circle."""
    fill(canvas, [circle(centre, radius)], colour, opacity)


def ring(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour, width: float, opacity: float = 1.0) -> None:
    """A circle's line."""
    outline(canvas, circle(centre, radius), colour, opacity, width)


def fill(canvas: np.ndarray, polygons: Sequence[np.ndarray], colour: Colour, opacity: float) -> None:
    """Polygons (n, 2) filled by the even-odd rule: one inside another is a hole."""

    def paint(region: np.ndarray, origin: np.ndarray) -> None:
        cv2.fillPoly(region, [_fixed(points - origin) for points in polygons], colour, cv2.LINE_AA, _SHIFT)

    _blend(canvas, np.concatenate(polygons), 2.0, opacity, paint)


def outline(canvas: np.ndarray, points: np.ndarray, colour: Colour, opacity: float, width: float, closed: bool = True) -> None:
    """A line of any width, thinner than a pixel by being fainter: OpenCV's own widths are whole pixels."""
    whole = max(1, round(width))

    def paint(region: np.ndarray, origin: np.ndarray) -> None:
        cv2.polylines(region, [_fixed(points - origin)], closed, colour, whole, cv2.LINE_AA, _SHIFT)

    _blend(canvas, points, whole + 2.0, opacity * min(1.0, max(width, 0.6)), paint)


def arrow(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Colour, casing: Colour, width: float) -> None:
    """A shaft with a head, cased. Nothing where it would be shorter than its head."""
    length = float(np.linalg.norm(end - start))
    head = 3.2 * width
    if length < head:
        return
    along = (end - start) / length
    side = np.array([-along[1], along[0]])
    foot = end - head * along
    triangle = np.stack([end, foot + 0.55 * head * side, foot - 0.55 * head * side])
    shaft = np.stack([start, foot + 0.2 * head * along])
    outline(canvas, shaft, casing, 0.7, width * 1.9, closed=False)
    outline(canvas, triangle, casing, 0.7, max(width * 0.9, 1.0))
    outline(canvas, shaft, colour, 1.0, width, closed=False)
    fill(canvas, [triangle], colour, 1.0)


def text_width(text: str, size: int) -> int:
    """Pixels that a text takes."""
    return int(np.ceil(_font(size).getlength(_printable(text))))


def write(
    canvas: np.ndarray, text: str, pen: tuple[float, float], size: int, colour: Colour, casing: Colour | None = None
) -> None:
    """A text whose base line starts at ``pen``, with a dark or light edge where it stands on the bare picture."""
    text, font = _printable(text), _font(size)
    for ink, edge in ((casing, max(1, round(size / 9))), (colour, 0)):
        if ink is None:
            continue
        left, top, right, bottom = (int(v) for v in font.getbbox(text, anchor="ls", stroke_width=edge))
        if right <= left or bottom <= top:
            continue
        plate = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(plate).text((-left, -top), text, fill=255, font=font, anchor="ls", stroke_width=edge)
        _paste(canvas, np.asarray(plate), round(pen[0]) + left, round(pen[1]) + top, ink, 0.85 if edge else 1.0)


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # The one that comes inside Pillow: the same letters wherever, and OpenCV's differ between its versions.
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _printable(text: str) -> str:
    """The font knows ASCII: letters lose their accents, others become question marks."""
    plain = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)


def _paste(canvas: np.ndarray, plate: np.ndarray, x: int, y: int, colour: Colour, opacity: float) -> None:
    """Mix a colour in where a plate (h, w) uint8, whose corner lies at x, y, covers the canvas."""
    left, top = max(x, 0), max(y, 0)
    region = canvas[top : max(y + plate.shape[0], 0), left : max(x + plate.shape[1], 0)]
    share = plate[top - y :, left - x :][: region.shape[0], : region.shape[1], None] * np.float32(opacity / 255)
    region[...] = np.round(region + share * (np.array(colour, dtype=np.float32) - region)).astype(np.uint8)


def _blend(
    canvas: np.ndarray, points: np.ndarray, margin: float, opacity: float, paint: Callable[[np.ndarray, np.ndarray], None]
) -> None:
    """Mix into the canvas what ``paint(region, origin)`` paints on the region around the points."""
    region, origin = _region(canvas, points, margin)
    if not region.size:
        return
    # OpenCV mixes a whole region faster than NumPy the few pixels of it that a line touches.
    under = region.copy() if opacity < 1 else region
    paint(region, origin)
    if opacity < 1:
        cv2.addWeighted(region, opacity, under, 1 - opacity, 0.0, region)


def _region(canvas: np.ndarray, points: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of the canvas around points, with a margin, and its corner (2,)."""
    left, top = (max(math.floor(low - margin), 0) for low in points.min(axis=0).tolist())
    right, bottom = (max(math.ceil(high + margin) + 1, 0) for high in points.max(axis=0).tolist())
    return canvas[top:bottom, left:right], np.array([left, top])


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(np.clip(points, -_FAR, _FAR) * 2**_SHIFT).astype(np.int32)
