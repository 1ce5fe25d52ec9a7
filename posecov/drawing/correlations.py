"""The correlation view: one joint is picked, and colours and arrows say which others move with it."""

from collections.abc import Sequence

import numpy as np

from posecov.drawing import canvas as shapes
from posecov.drawing import figure as figures
from posecov.drawing import legend
from posecov.drawing.labels import Labels
from posecov.drawing.palette import INK, PAPER, ramp
from posecov.errors import PosecovError
from posecov.following import correlations, gains
from posecov.pose import Pose


def draw_correlations(image: np.ndarray, poses: Sequence[Pose], joint: str, mass: float = 0.95) -> np.ndarray:
    """Draw which joints move with one.

    If the joint were not at its keypoint but at the end of its own arrow, on the border of its ellipse along the longer axis,
    the others would be expected at the ends of theirs. Colours are multiple correlations (`following.correlations`), which
    count both directions of both joints. Where left and right may be confused both are those of the pose as drawn, without
    any exchange.

    Args:
        image: (H, W, 3) uint8, BGR.
        poses: in pixels of it.
        joint: name of the one that is picked.
        mass: probability with which an ellipse holds its joint.

    Returns:
        (H', W', 3) uint8, BGR, as from `draw_poses`.

    Raises:
        PosecovError: no such joint, or one that is known and does not move.
    """
    if any(joint in pose.known for pose in poses):
        raise PosecovError(f"{joint} is known, so that nothing moves with it; pick another joint")
    canvas, scale = shapes.enlarged(image)
    names = Labels(canvas)
    people = [figures.Figure.of(pose, [mass], scale, canvas.shape) for pose in poses]
    for person in people:
        moves = _moves(person, joint, scale, mass)
        _draw_person(canvas, person, joint, moves)
        names.reserve(person.points[person.inside], 1.3 * person.line)
        for share in (0.3, 0.6, 0.9):
            names.reserve((person.points + share * moves)[person.inside], person.line)
    entries = [legend.Entry("nobody found")]
    if people:
        far = "to its ellipse"
        if len(people) == 1:
            far = shapes.pixels_text(float(poses[0].ellipse(joint, mass)[1][0]))
        entries = [
            legend.Entry(legend.masses_text([mass], poses[0].components is not None)),
            legend.Entry(f"correlation with {joint}: 0"),
            legend.ramp_bar("1"),
            legend.line(f"where joints go if {joint} goes {far}", ramp(1.0)),
            legend.scale_bar(scale, canvas.shape),
        ]
    points = np.concatenate([np.zeros((0, 2)), *(person.points for person in people)])
    names.reserve_plate(*legend.draw_legend(canvas, entries, points))
    for person in people:
        _write_names(names, person, joint)
    return canvas


def _moves(person: figures.Figure, joint: str, scale: float, mass: float) -> np.ndarray:
    """(J, 2) how far every joint goes, pixels of the canvas, when one goes to its ellipse's border along the longer axis."""
    _, axes, angle = person.pose.ellipse(joint, mass)
    step = axes[0] * scale * np.array([np.cos(angle), np.sin(angle)])
    return gains(person.pose.scatter, person.pose.names.index(joint)) @ step


def _draw_person(canvas: np.ndarray, person: figures.Figure, joint: str, moves: np.ndarray) -> None:
    pose = person.pose
    picked = pose.skeleton.index(joint)
    strength = correlations(pose.scatter, picked)
    order = np.argsort(strength).tolist()
    for other in order:
        colour = ramp(strength[other])
        for part in person.regions[0][other]:
            # What hardly moves with it steps back.
            shapes.fill(canvas, [part], colour, figures.fill_opacity(canvas, [part], 0.5 * strength[other]))
            shapes.outline(canvas, part, INK, 0.15 + 0.2 * strength[other], person.line * 0.55)
            shapes.outline(canvas, part, colour, 0.35 + 0.6 * strength[other], person.line * 0.28)
    for a, b in pose.skeleton.limb_indices:
        ends = np.stack([person.points[a], person.points[b]])
        shapes.outline(canvas, ends, INK, 0.4, person.line * 1.1, closed=False)
        shapes.outline(canvas, ends, PAPER, 0.75, person.line * 0.45, closed=False)
    for other in order:
        start = person.points[other]
        if person.inside[other] and pose.names[other] in pose.known:
            figures.diamond(canvas, start, person.line * 1.8)
        elif person.inside[other]:
            shapes.disc(canvas, start, person.line * 1.45, INK)
            shapes.disc(canvas, start, person.line, ramp(strength[other]))
        shapes.arrow(canvas, start, start + moves[other], ramp(strength[other]), INK, max(1.5, person.line * 0.7))
    figures.target(canvas, person.points[picked], person.line)


def _write_names(names: Labels, person: figures.Figure, joint: str) -> None:
    """The name of the joint that is picked, and the others' correlations."""
    picked = person.pose.names.index(joint)
    strength = correlations(person.pose.scatter, picked)
    middle = person.points[person.inside].mean(axis=0) if person.inside.any() else np.zeros(2)
    for other in np.flatnonzero(person.inside).tolist():
        text = joint if other == picked else f"{strength[other]:.2f}"
        gap = (4.4 if other == picked else 2.2) * person.line
        names.beside(text, person.points[other], gap, person.points[other] - middle)
