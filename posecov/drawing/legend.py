"""The plate in a corner that says what is drawn: masses, sides, a length in pixels of the picture, the meaning of colours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from posecov.drawing import canvas as shapes
from posecov.drawing.palette import INK, PAPER, Colour, ramp

_EDGE = 0.015  # Between plate and border, as a share of the canvas's shorter side.


_cached = lru_cache(maxsize=64)  # Equal entries make equal plates, which are painted once.


@dataclass(frozen=True)
class Entry:
    """A sign and a text.

    Attributes:
        text: after the sign.
        width: of the sign, in heights of the letters.
        draw: paints the sign between two points (2,) left and right on the middle of the line; None for a text alone.
    """

    text: str
    width: float = 0.0
    draw: Callable[[np.ndarray, np.ndarray, np.ndarray], None] | None = None


@_cached
def dot(text: str, colour: Colour) -> Entry:
    """A disc, as joints have it."""

    def draw(canvas: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        shapes.disc(canvas, (left + right) / 2, 0.45 * float(right[0] - left[0]), colour)

    return Entry(text, 0.72, draw)


@_cached
def line(text: str, colour: Colour, opacity: float = 1.0) -> Entry:
    """A stretch of a thin line."""

    def draw(canvas: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        shapes.outline(canvas, np.stack([left, right]), colour, opacity, 0.09 * float(right[0] - left[0]), closed=False)

    return Entry(text, 1.2, draw)


@_cached
def sign(text: str, paint: Callable[[np.ndarray, np.ndarray, float], None]) -> Entry:
    """A sign that is painted around a centre with a radius."""
    return Entry(text, 0.9, lambda canvas, left, right: paint(canvas, (left + right) / 2, 0.42 * float(right[0] - left[0])))


@_cached
def ramp_bar(text: str) -> Entry:
    """A bar of the ramp's colours from 0 to 1."""

    def draw(canvas: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        steps = np.linspace(left[0], right[0], 33)
        half = 0.11 * (right[0] - left[0])
        for number, (a, b) in enumerate(pairwise(steps)):
            piece = np.array([[a, left[1] - half], [b, left[1] - half], [b, left[1] + half], [a, left[1] + half]])
            shapes.fill(canvas, [piece], ramp(number / 31), 1.0)

    return Entry(text, 3.2, draw)


def scale_bar(scale: float, shape: Sequence[int]) -> Entry:
    """A bar as long as a round number of the picture's pixels, about a tenth of its shorter side."""
    ideal = 0.12 * min(shape[:2]) / scale
    rounds = np.array([digit * 10.0**power for power in range(-1, 5) for digit in (1, 2, 5)])
    pixels = max(1.0, float(rounds[rounds <= max(ideal, 0.1)].max()))
    size = shapes.letter_size(shape)
    return _bar(f"{pixels:g} px", pixels * scale / size, size)


@_cached
def _bar(text: str, width: float, size: int) -> Entry:
    def draw(canvas: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
        tick = np.array([0.0, 0.22 * size])
        bar = np.stack([left - tick, left + tick, left, right, right - tick, right + tick])
        shapes.outline(canvas, bar, PAPER, 1.0, max(1.0, 0.08 * size), closed=False)

    return Entry(text, width, draw)


def masses_text(masses: Sequence[float], regions: bool) -> str:
    """Such as "50 and 95 % ellipses"."""
    numbers = [f"{100 * mass:.4g}" for mass in sorted({*masses})]
    listed = " and ".join([", ".join(numbers[:-1]), numbers[-1]] if len(numbers) > 1 else numbers)
    return f"{listed} % {'regions' if regions else 'ellipses'}"


def draw_legend(canvas: np.ndarray, entries: Sequence[Entry], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A plate with these entries, in as many lines as it needs, in the corner that covers the fewest points (n, 2).

    Returns:
        Its upper left corner (2,) and its extent (2,).
    """
    height, width = canvas.shape[:2]
    size = shapes.letter_size(canvas.shape)
    edge = round(max(4.0, _EDGE * min(height, width)))
    light, veil = _plate(tuple(entries), size, width - 2 * edge)
    extent = np.array([light.shape[1], light.shape[0]])
    far = np.maximum(np.array([width, height]) - extent - edge, 0)
    corners = [np.array(c) for c in ((edge, far[1]), (far[0], far[1]), (edge, edge), (far[0], edge))]
    points = np.clip(points, 0, np.array([width, height]))  # Joints outside have their arrows at the border.
    room = 1.5 * size

    def covered(corner: np.ndarray) -> int:
        return int(((points > corner - room) & (points < corner + extent + room)).all(axis=1).sum())

    x, y = corner = min(corners, key=covered)
    region = canvas[y : y + extent[1], x : x + extent[0]]
    light, veil = (part[: region.shape[0], : region.shape[1]] for part in (light, veil))
    cv2.add(light, cv2.multiply(region, veil, scale=1 / 255), region)
    return corner.astype(np.float64), extent.astype(np.float64)


@lru_cache(maxsize=8)
def _plate(entries: tuple[Entry, ...], size: int, widest: float) -> tuple[np.ndarray, np.ndarray]:
    """The plate (h, w, 3) over black, and what it lets through, of 255: over a picture it is black's + picture x that / 255."""
    rows, extent = _rows(entries, size, widest)
    width, height = (int(side) for side in np.ceil(extent))
    over = [np.full((height, width, 3), level, dtype=np.uint8) for level in (0, 255)]
    for canvas in over:
        # Its own edges would be soft, and neighbouring pixels are not the plate's.
        shapes.fill(canvas, [np.array([[-9, -9], [width + 9, -9], [width + 9, height + 9], [-9, height + 9]])], INK, 0.68)
        for number, row in enumerate(rows):
            x, y = 0.5 * size, (0.4 + 1.45 * number) * size
            for entry in row:
                middle = y + 0.62 * size
                if entry.draw is not None:
                    entry.draw(canvas, np.array([x, middle]), np.array([x + entry.width * size, middle]))
                    x += entry.width * size + 0.35 * size
                shapes.write(canvas, entry.text, (x, y + 0.95 * size), size, PAPER)
                x += shapes.text_width(entry.text, size) + 0.8 * size
    return over[0], over[1] - over[0]


def _rows(entries: Sequence[Entry], size: int, widest: float) -> tuple[list[list[Entry]], np.ndarray]:
    """Entries line by line, and the plate's width and height."""

    def length(entry: Entry) -> float:
        return shapes.text_width(entry.text, size) + (entry.width + 0.35) * size * (entry.draw is not None)

    rows: list[list[Entry]] = [[]]
    for entry in entries:
        if rows[-1] and sum(length(e) + 0.8 * size for e in [*rows[-1], entry]) > widest:
            rows.append([])
        rows[-1].append(entry)
    lengths = [sum(length(entry) for entry in row) + 0.8 * size * (len(row) - 1) for row in rows]
    return rows, np.array([max(lengths) + size, (1.45 * len(rows) + 0.5) * size])
