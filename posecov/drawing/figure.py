"""One person on a canvas: regions, limbs, joints, and arrows at the border towards joints outside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecov import regions
from posecov.drawing import canvas as shapes
from posecov.drawing.labels import Labels
from posecov.drawing.palette import INK, PAPER, Colour, side_of
from posecov.output import outside
from posecov.pose import Pose

_STRAY = 0.05  # How far, in pixels of the canvas, the chords of an ellipse may lie from it.


@dataclass(frozen=True, eq=False)
class Figure:
    """A pose in the pixels of the canvas.

    Attributes:
        pose: what is drawn.
        points: (J, 2).
        regions: for every mass, the largest first, and every joint the outlines (n, 2) of the parts of its region.
        inside: (J,) whether the joint lies on the canvas.
        line: width of a limb.
    """

    pose: Pose
    points: np.ndarray
    regions: list[list[list[np.ndarray]]]
    inside: np.ndarray
    line: float

    @classmethod
    def of(cls, pose: Pose, masses: Sequence[float], scale: float, shape: Sequence[int]) -> "Figure":
        """A pose in pixels of a picture, on a canvas of this shape with ``scale`` pixels per pixel of it."""
        points = shapes.on_canvas(pose.keypoints, scale)
        nested = [outlines_of(pose, mass, scale) for mass in sorted({*masses}, reverse=True)]
        inside = ~outside(points, shape[1], shape[0])
        # Only what can be seen sets the width: one joint far outside must not make the limbs thick.
        seen = np.clip(points, 0, np.array([shape[1], shape[0]]) - 1)
        size = float(np.ptp(seen, axis=0).max())
        line = float(np.clip(0.014 * size, 0.004 * min(shape[:2]), 0.02 * min(shape[:2])))
        return cls(pose, points, nested, inside, max(line, 1.5))

    def side(self, *joints: int) -> Colour:
        """Colour of a joint, or of the limb between two."""
        return side_of(self.pose.skeleton, [self.pose.names[joint] for joint in joints])


def outlines_of(pose: Pose, mass: float, scale: float) -> list[list[np.ndarray]]:
    """`Pose.region` of every joint in pixels of the canvas, an ellipse with as many vertices as its size asks for."""
    if pose.components is not None:
        parts = [pose.region(name, mass, lines=regions.COARSE_LINES) for name in pose.names]
        return [[shapes.on_canvas(part, scale) for part in outlines] for outlines in parts]
    found: list[list[np.ndarray]] = []
    for name, centre, axes, angle in zip(pose.names, pose.keypoints, *pose.ellipses(mass), strict=True):
        # A chord over an n-th of a turn strays by a (1 - cos(pi / n)), about a pi^2 / (2 n^2).
        vertices = int(np.clip(np.pi * np.sqrt(axes[0] * scale / (2 * _STRAY)), 48, 4096))
        outline = regions.ellipse_outline(centre.astype(np.float64), axes, float(angle), vertices)
        found.append([] if name in pose.known else [shapes.on_canvas(outline, scale)])
    return found


def draw_regions(canvas: np.ndarray, figure: Figure) -> None:
    """The regions of every joint, filled and outlined, the wider ones first."""
    most = 0.24 if len(figure.regions) == 1 else 0.18
    for number, by_joint in enumerate(figure.regions):
        for joint, outlines in enumerate(by_joint):
            if not outlines:
                continue
            shapes.fill(canvas, outlines, figure.side(joint), fill_opacity(canvas, outlines, most))
            for outline in outlines:
                shapes.outline(canvas, outline, INK, 0.35, figure.line * 0.55)
                shapes.outline(canvas, outline, figure.side(joint), 0.9, figure.line * (0.28 if number == 0 else 0.2))


def fill_opacity(canvas: np.ndarray, outlines: Sequence[np.ndarray], most: float) -> float:
    """Fainter the larger a region is, or a dozen joints of which little is known would hide the picture."""
    area = sum(abs(regions.area(outline)) for outline in outlines)
    return float(np.clip(most * 0.18 * min(canvas.shape[:2]) / np.sqrt(max(area, 1.0)), 0.04, most))


def draw_limbs(canvas: np.ndarray, figure: Figure) -> None:
    """Limbs with a dark casing, joints, and a white diamond on those that are known."""
    for casing in (True, False):
        # A dark casing under everything keeps light limbs apart from a light background and from each other.
        for a, b in figure.pose.skeleton.limb_indices:
            ends = np.stack([figure.points[a], figure.points[b]])
            colour = INK if casing else figure.side(a, b)
            width = figure.line * (1.7 if casing else 1.0)
            shapes.outline(canvas, ends, colour, 0.45 if casing else 0.92, width, closed=False)
    for joint, (name, point) in enumerate(zip(figure.pose.names, figure.points, strict=True)):
        if not figure.inside[joint]:
            continue
        if name in figure.pose.known:
            diamond(canvas, point, figure.line * 1.8)
            continue
        shapes.disc(canvas, point, figure.line * 1.45, INK)
        shapes.disc(canvas, point, figure.line, figure.side(joint))


def draw_former(canvas: np.ndarray, figure: Figure, now: Figure) -> None:
    """What a pose was before some joints were known: its regions' outlines, and its limbs where they have moved."""
    for by_joint in figure.regions[:1]:
        for outlines in by_joint:
            for outline in outlines:
                shapes.outline(canvas, outline, INK, 0.3, figure.line * 0.45)
                shapes.outline(canvas, outline, PAPER, 0.5, figure.line * 0.18)
    moved = np.linalg.norm(figure.points - now.points, axis=1) > figure.line
    for a, b in figure.pose.skeleton.limb_indices:
        if moved[a] or moved[b]:
            ends = np.stack([figure.points[a], figure.points[b]])
            shapes.outline(canvas, ends, INK, 0.35, figure.line * 0.8, closed=False)
            shapes.outline(canvas, ends, PAPER, 0.55, figure.line * 0.4, closed=False)


def draw_outside(canvas: np.ndarray, figure: Figure, labels: Labels) -> None:
    """An arrow at the border towards every joint outside, with its name."""
    height, width = canvas.shape[:2]
    size = max(figure.line * 2.8, 0.017 * min(height, width), 6.0)
    for joint in np.flatnonzero(~figure.inside).tolist():
        point = figure.points[joint]
        border = np.clip(point, size, np.maximum(np.array([width, height]) - 1.0 - size, size))
        direction = (point - border) / np.linalg.norm(point - border)
        side = np.array([-direction[1], direction[0]])
        tip = border + 0.6 * size * direction
        foot = tip - 1.7 * size * direction
        head = np.stack([tip, foot + 0.7 * size * side, foot + 0.45 * size * direction, foot - 0.7 * size * side])
        shapes.outline(canvas, head, INK, 0.8, max(size * 0.25, 2.0))
        shapes.fill(canvas, [head], figure.side(joint), 1.0)
        labels.at_border(figure.pose.names[joint], foot - 0.5 * size * direction, -direction)


def diamond(canvas: np.ndarray, centre: np.ndarray, radius: float) -> None:
    """The sign of a joint that is known."""
    corners = np.array([[0.0, -1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    shapes.fill(canvas, [centre + 1.45 * radius * corners], INK, 1.0)
    shapes.fill(canvas, [centre + radius * corners], PAPER, 1.0)


def target(canvas: np.ndarray, centre: np.ndarray, line: float) -> None:
    """The sign of the joint to click."""
    shapes.ring(canvas, centre, line * 2.9, INK, line * 1.3, 0.75)
    shapes.ring(canvas, centre, line * 2.9, PAPER, line * 0.6)
