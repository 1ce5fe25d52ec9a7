"""The correlation view: one joint is picked, and colours and arrows say which others move with it."""

import numpy as np

from posecov.drawing import canvas as shapes
from posecov.drawing import figure as figures
from posecov.drawing import legend
from posecov.drawing.labels import Labels
from posecov.drawing.palette import INK, PAPER, ramp
from posecov.errors import PosecovError
from posecov.following import correlations, gains
from posecov.pose import Pose


def draw_correlations(image: np.ndarray, pose: Pose, joint: str, mass: float = 0.95) -> np.ndarray:
    """Draw which joints move with one.

    If the joint were not at its keypoint but at the end of its own arrow, on the border of its ellipse along the longer axis,
    the others would be expected at the ends of theirs. Colours are multiple correlations (`following.correlations`), which
    count both directions of both joints. Where left and right may be confused both are those of the pose as drawn, without
    any exchange.

    Args:
        image: (H, W, 3) uint8, BGR.
        pose: in pixels of it.
        joint: name of the one that is picked.
        mass: probability with which an ellipse holds its joint.

    Returns:
        (H', W', 3) uint8, BGR, as from `draw_poses`.

    Raises:
        PosecovError: no such joint, or one that is known and does not move.
    """
    picked = pose.skeleton.index(joint)
    if joint in pose.known:
        raise PosecovError(f"{joint} is known, so that nothing moves with it; pick another joint")
    canvas, scale = shapes.enlarged(image)
    person = figures.Figure.of(pose, [mass], scale, canvas.shape)
    strength = correlations(pose.scatter, picked)
    _, axes, angle = pose.ellipse(joint, mass)
    step = axes[0] * scale * np.array([np.cos(angle), np.sin(angle)])
    moves = gains(pose.scatter, picked) @ step
    names = Labels(canvas)
    for other in np.argsort(strength).tolist():
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
    for other in np.argsort(strength).tolist():
        if person.inside[other]:
            shapes.disc(canvas, person.points[other], person.line * 1.45, INK)
            shapes.disc(canvas, person.points[other], person.line, ramp(strength[other]))
        start = person.points[other]
        shapes.arrow(canvas, start, start + moves[other], ramp(strength[other]), INK, max(1.5, person.line * 0.7))
    figures.target(canvas, person.points[picked], person.line)
    names.reserve(person.points[person.inside], 1.3 * person.line)
    middle = person.points[person.inside].mean(axis=0) if person.inside.any() else np.zeros(2)
    for other in np.flatnonzero(person.inside).tolist():
        text = joint if other == picked else f"{strength[other]:.2f}"
        gap = (4.4 if other == picked else 2.2) * person.line
        names.beside(text, person.points[other], gap, person.points[other] - middle)
    entries = [
        legend.Entry(legend.masses_text([mass], pose.components is not None)),
        *legend.ramp_bar("1", f"correlation with {joint}: 0"),
        legend.line(f"where joints go if {joint} goes {shapes.pixels_text(axes[0])}", ramp(1.0)),
        legend.scale_bar(scale, canvas.shape),
    ]
    legend.draw_legend(canvas, entries, person.points)
    return canvas
