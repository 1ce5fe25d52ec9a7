"""Overlays: limbs coloured by side, and for every joint the region that holds it with a given probability."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from posecov.output import outside
from posecov.pose import Pose
from posecov.skeleton import Skeleton

Colour = tuple[int, int, int]

# BGR. Warm for the person's right, cool for the left, neutral for what lies between; both kinds of dichromats tell them apart.
RIGHT: Colour = (48, 140, 255)
LEFT: Colour = (255, 190, 60)
CENTRE: Colour = (235, 235, 235)
INK: Colour = (28, 24, 22)

LEGIBLE = 480
"""Shorter side in pixels below which a picture is enlarged before it is drawn on."""

_LARGEST = 2400  # Enlarging ends where the longer side would pass this.
_SHIFT = 4  # OpenCV's fixed-point bits: coordinates to a sixteenth of a pixel.
_FAR = 1e5  # Coordinates beyond it would overflow the fixed point.


def draw_poses(image: np.ndarray, poses: Sequence[Pose], mass: float = 0.95) -> np.ndarray:
    """Draw poses on a copy of a picture.

    A small picture is enlarged first. Joints outside the picture are shown by an arrow at its border with their name.

    Args:
        image: (H, W, 3) uint8, BGR.
        poses: in pixels of ``image``.
        mass: probability with which an ellipse holds its joint, or the true region where left and right may be confused.

    Returns:
        (H', W', 3) uint8, BGR, H' / W' as H / W to rounding.
    """
    height, width = image.shape[:2]
    scale = min(max(1.0, LEGIBLE / min(height, width)), max(1.0, _LARGEST / max(height, width)))
    if scale > 1:
        canvas = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC)
    else:
        canvas = image.copy()
    figures = [_Figure.of(pose, mass, scale, canvas.shape[:2]) for pose in poses]
    for figure in figures:
        _draw_regions(canvas, figure)
    for figure in figures:
        _draw_limbs(canvas, figure)
    labels: list[np.ndarray] = []
    for figure in figures:
        _draw_outside(canvas, figure, labels)
    shape = "regions" if any(pose.components is not None for pose in poses) else "ellipses"
    _draw_legend(canvas, f"{100 * mass:.4g} % {shape}" if figures else "nobody found", figures)
    return canvas


def side_of(skeleton: Skeleton, joints: Sequence[str]) -> Colour:
    """Colour of a joint or limb: that of the one side its joints are on, neutral when none or both."""
    pairs = skeleton.flip_pairs
    right = any(name.startswith("r") for name in joints if any(name in pair for pair in pairs))
    left = any(name.startswith("l") for name in joints if any(name in pair for pair in pairs))
    return CENTRE if right == left else RIGHT if right else LEFT


@dataclass(frozen=True)
class _Figure:
    """A pose in the pixels of the canvas.

    Attributes:
        pose: what is drawn.
        points: (J, 2).
        regions: for every joint the outlines (n, 2) of the parts of its region.
        inside: (J,) whether the joint lies on the canvas.
        line: width of a limb.
    """

    pose: Pose
    points: np.ndarray
    regions: list[list[np.ndarray]]
    inside: np.ndarray
    line: float

    @classmethod
    def of(cls, pose: Pose, mass: float, scale: float, shape: tuple[int, ...]) -> "_Figure":
        # Pixel centres lie at integers, so that a picture enlarged by s has its point p at (p + 1/2) s - 1/2.
        points = (pose.keypoints.astype(np.float64) + 0.5) * scale - 0.5
        regions = [[(outline + 0.5) * scale - 0.5 for outline in pose.region(name, mass)] for name in pose.names]
        limits = np.array([shape[1], shape[0]])
        inside = ~outside(points, shape[1], shape[0])
        # Only what can be seen sets the width: one joint far outside must not make the limbs thick.
        seen = np.clip(points, 0, limits - 1)
        size = float(np.ptp(seen, axis=0).max())
        line = float(np.clip(0.014 * size, 0.004 * min(shape), 0.02 * min(shape)))
        return cls(pose, points, regions, inside, max(line, 1.5))


def _draw_regions(canvas: np.ndarray, figure: _Figure) -> None:
    for name, outlines in zip(figure.pose.names, figure.regions, strict=True):
        if not outlines:
            continue
        colour = side_of(figure.pose.skeleton, [name])
        _blend_polygons(canvas, outlines, colour, 0.20)
        for outline in outlines:
            _blend_outline(canvas, outline, INK, 0.35, figure.line * 0.55)
            _blend_outline(canvas, outline, colour, 0.9, figure.line * 0.28)


def _draw_limbs(canvas: np.ndarray, figure: _Figure) -> None:
    skeleton, names = figure.pose.skeleton, figure.pose.names
    for casing in (True, False):
        # A dark casing under everything keeps light limbs apart from a light background and from each other.
        for a, b in skeleton.limb_indices:
            ends = np.stack([figure.points[a], figure.points[b]])
            colour = INK if casing else side_of(skeleton, [names[a], names[b]])
            _blend_outline(canvas, ends, colour, 0.45 if casing else 0.92, figure.line * (1.7 if casing else 1.0), closed=False)
    for name, point, inside in zip(names, figure.points, figure.inside, strict=True):
        if inside:
            _disc(canvas, point, figure.line * 1.25, INK)
            _disc(canvas, point, figure.line * 0.85, side_of(skeleton, [name]))


def _draw_outside(canvas: np.ndarray, figure: _Figure, labels: list[np.ndarray]) -> None:
    """An arrow at the border towards every joint outside, with its name; ``labels`` collects the places taken."""
    height, width = canvas.shape[:2]
    size = max(figure.line * 2.8, 0.017 * min(height, width), 6.0)
    for name, point, inside in zip(figure.pose.names, figure.points, figure.inside, strict=True):
        if inside:
            continue
        border = np.clip(point, size, np.maximum(np.array([width, height]) - 1.0 - size, size))
        direction = (point - border) / np.linalg.norm(point - border)
        side = np.array([-direction[1], direction[0]])
        tip = border + 0.6 * size * direction
        foot = tip - 1.7 * size * direction
        arrow = np.stack([tip, foot + 0.7 * size * side, foot + 0.45 * size * direction, foot - 0.7 * size * side])
        colour = side_of(figure.pose.skeleton, [name])
        _blend_outline(canvas, arrow, INK, 0.8, max(size * 0.25, 2.0))
        _blend_polygon(canvas, arrow, colour, 1.0)
        _place_label(canvas, name, foot - 0.5 * size * direction, -direction, labels)


def _place_label(canvas: np.ndarray, text: str, anchor: np.ndarray, away: np.ndarray, labels: list[np.ndarray]) -> None:
    """A label beside an arrow, moved along the border until it covers no other."""
    height, width = canvas.shape[:2]
    chip = _Chip.of(text, canvas.shape)
    extent = np.array([chip.width, chip.height], dtype=np.float64)
    corner = anchor + away * extent / 2 - extent / 2
    corner = np.clip(corner, 2, np.maximum(np.array([width, height]) - extent - 2, 2))
    step = np.array([0.0, chip.height + 2.0]) if abs(away[0]) > abs(away[1]) else np.array([chip.width + 2.0, 0.0])
    room = np.maximum(np.array([width, height]) - extent - 2, 2)
    for number in range(40):
        moved = corner + step * ((number + 1) // 2) * (1 if number % 2 else -1)
        box = np.concatenate([moved, moved + extent])
        fits = (moved >= 2).all() and (moved <= room).all()
        if fits and not any((box[:2] < o[2:]).all() and (box[2:] > o[:2]).all() for o in labels):
            corner = moved
            break
    labels.append(np.concatenate([corner, corner + extent]))
    chip.draw(canvas, corner)


def _draw_legend(canvas: np.ndarray, text: str, figures: Sequence[_Figure]) -> None:
    """A chip in the corner that covers the fewest joints."""
    height, width = canvas.shape[:2]
    keys = [("right", RIGHT), ("left", LEFT)] if figures else []
    chip = _Chip.of(text, canvas.shape, keys)
    edge = max(4.0, 0.015 * min(height, width))
    right, low = max(width - chip.width - edge, 0), max(height - chip.height - edge, 0)
    corners = [np.array(c) for c in ((edge, low), (right, low), (edge, edge), (right, edge))]
    points = np.concatenate([f.points for f in figures]) if figures else np.zeros((0, 2))
    points = np.clip(points, 0, np.array([width, height]))  # Joints outside have their arrows at the border.
    room = 1.5 * chip.height

    def covered(corner: np.ndarray) -> int:
        far = corner + np.array([chip.width, chip.height])
        return int(((points > corner - room) & (points < far + room)).all(axis=1).sum())

    chip.draw(canvas, min(corners, key=covered))


@dataclass(frozen=True)
class _Chip:
    """A small dark plate with text, and coloured keys after it."""

    text: str
    keys: Sequence[tuple[str, Colour]]
    font: float
    height: int
    width: int

    @classmethod
    def of(cls, text: str, shape: tuple[int, ...], keys: Sequence[tuple[str, Colour]] = ()) -> "_Chip":
        font = float(np.clip(min(shape[:2]) / 1100, 0.40, 2.0))
        (_, cap), base = cv2.getTextSize("Hg", cv2.FONT_HERSHEY_SIMPLEX, font, 1)
        pad = round(0.55 * cap)
        width = 2 * pad + _text_width(text, font) + sum(_text_width(key, font) + round(2.6 * cap) for key, _ in keys)
        return cls(text, keys, font, cap + base + pad, width)

    def draw(self, canvas: np.ndarray, corner: np.ndarray) -> None:
        x, y = (round(float(v)) for v in corner)
        plate = np.array([x, y]) + np.array([[0, 0], [self.width, 0], [self.width, self.height], [0, self.height]])
        _blend_polygon(canvas, plate, INK, 0.68)
        (_, cap), _ = cv2.getTextSize("Hg", cv2.FONT_HERSHEY_SIMPLEX, self.font, 1)
        pen, line = x + round(0.55 * cap), y + (self.height + cap) // 2 - 1
        pen = self._write(canvas, self.text, pen, line)
        for key, colour in self.keys:
            _disc(canvas, np.array([pen + 1.5 * cap, line - 0.42 * cap]), 0.42 * cap, colour)
            pen = self._write(canvas, key, pen + round(2.3 * cap), line) + round(0.3 * cap)

    def _write(self, canvas: np.ndarray, text: str, x: int, y: int) -> int:
        weight = max(1, round(1.3 * self.font))
        cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, self.font, (245, 245, 245), weight, cv2.LINE_AA)
        return x + _text_width(text, self.font)


def _text_width(text: str, font: float) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font, max(1, round(1.3 * font)))[0][0]


def _disc(canvas: np.ndarray, centre: np.ndarray, radius: float, colour: Colour) -> None:
    x, y = _fixed(centre)
    cv2.circle(canvas, (int(x), int(y)), round(radius * 2**_SHIFT), colour, -1, cv2.LINE_AA, _SHIFT)


def _blend_polygon(canvas: np.ndarray, points: np.ndarray, colour: Colour, opacity: float) -> None:
    _blend_polygons(canvas, [points], colour, opacity)


def _blend_polygons(canvas: np.ndarray, polygons: Sequence[np.ndarray], colour: Colour, opacity: float) -> None:
    """Filled by the even-odd rule: a polygon inside another is a hole."""

    def paint(mask: np.ndarray, origin: np.ndarray) -> None:
        cv2.fillPoly(mask, [_fixed(points - origin) for points in polygons], 255, cv2.LINE_AA, _SHIFT)

    _blend(canvas, np.concatenate(polygons), 2.0, colour, opacity, paint)


def _blend_outline(canvas: np.ndarray, points: np.ndarray, colour: Colour, opacity: float, width: float, closed=True) -> None:
    """A line of any width, thinner than a pixel by being fainter: OpenCV's own widths are whole pixels."""
    whole = max(1, round(width))

    def paint(mask: np.ndarray, origin: np.ndarray) -> None:
        cv2.polylines(mask, [_fixed(points - origin)], closed, 255, whole, cv2.LINE_AA, _SHIFT)

    _blend(canvas, points, whole + 2.0, colour, opacity * min(1.0, max(width, 0.6)), paint)


def _blend(canvas: np.ndarray, points: np.ndarray, margin: float, colour: Colour, opacity: float, paint) -> None:
    """Mix a colour into the canvas where ``paint`` covers a mask of the region around the points."""
    points = np.clip(points, -_FAR, _FAR)
    limits = np.array([canvas.shape[1], canvas.shape[0]])
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, limits).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin) + 1, 0, limits).astype(int)
    if (high <= low).any():
        return
    region = canvas[low[1] : high[1], low[0] : high[0]]
    mask = np.zeros(region.shape[:2], dtype=np.uint8)
    paint(mask, low)
    weight = (mask.astype(np.float32) * (opacity / 255))[:, :, None]
    region[:] = np.round(region + weight * (np.array(colour, dtype=np.float32) - region)).astype(np.uint8)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(np.clip(points, -_FAR, _FAR) * 2**_SHIFT).astype(np.int32)
