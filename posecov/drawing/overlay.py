"""Overlays: limbs coloured by side, and for every joint the region that holds it with a given probability."""

from collections.abc import Mapping, Sequence

import numpy as np

from posecov.drawing import canvas as shapes
from posecov.drawing import figure as figures
from posecov.drawing import legend as legends
from posecov.drawing.labels import Labels
from posecov.drawing.palette import LEFT, PAPER, RIGHT
from posecov.pose import Pose


def draw_poses(
    image: np.ndarray,
    poses: Sequence[Pose],
    mass: float | Sequence[float] = 0.95,
    *,
    labels: bool = False,
    former: Mapping[int, Pose] | None = None,
    clicks: Mapping[int, str] | None = None,
    numbers: Sequence[int] | None = None,
    legend: bool = True,
    spare: bool = True,
) -> np.ndarray:
    """Draw poses on a copy of a picture.

    A small picture is enlarged first. Joints outside the picture are shown by an arrow at its border with their name.

    Args:
        image: (H, W, 3) uint8, BGR.
        poses: in pixels of ``image``. Joints that are known are diamonds.
        mass: probability with which an ellipse holds its joint, or the true region where left and right may be confused;
            several are drawn inside each other.
        labels: write every joint's name beside it with its expected error in pixels of ``image``.
        former: by person, the pose before some joints were known, whose regions and limbs are drawn thinly.
        clicks: by person, the joint to click, which gets a ring.
        numbers: of the people, written above each one's highest joint.
        legend: say in a corner what is drawn.
        spare: leave ``image`` as it is. If not, it is drawn on itself where it need not be enlarged.

    Returns:
        (H', W', 3) uint8, BGR, H' / W' as H / W to rounding.
    """
    masses = [mass] if isinstance(mass, float | int) else list(mass)
    canvas, scale = shapes.enlarged(image, spare)
    people = [figures.Figure.of(pose, masses, scale, canvas.shape) for pose in poses]
    for index, pose in (former or {}).items():
        figures.draw_former(canvas, figures.Figure.of(pose, masses, scale, canvas.shape), people[index])
    for person in people:
        figures.draw_regions(canvas, person)
    for person in people:
        figures.draw_limbs(canvas, person)
    names = Labels(canvas)
    for index, joint in (clicks or {}).items():
        centre = people[index].points[poses[index].names.index(joint)]
        figures.target(canvas, centre, people[index].line)
        names.reserve(centre[None], 3.4 * people[index].line)
    for person in people:
        figures.draw_outside(canvas, person, names)
    if legend:
        entries = _entries(people, masses, labels, bool(former), bool(clicks)) + [legends.scale_bar(scale, canvas.shape)]
        points = np.concatenate([names.middles, *(person.points for person in people)])
        names.reserve_plate(*legends.draw_legend(canvas, entries, points))
    for person, number in zip(people, numbers or [], strict=False):
        if person.inside.any():
            seen = person.points[person.inside]
            names.beside(str(number), seen[seen[:, 1].argmin()], 2.2 * person.line, np.array([0.0, -1.0]))
    if labels:
        write_labels(names, people)
    return canvas


def _entries(
    people: Sequence[figures.Figure], masses: Sequence[float], labels: bool, former: bool, clicks: bool
) -> list[legends.Entry]:
    if not people:
        return [legends.Entry("nobody found")]
    regions = any(person.pose.components is not None for person in people)
    entries = [legends.Entry(legends.masses_text(masses, regions)), legends.dot("right", RIGHT), legends.dot("left", LEFT)]
    entries += [legends.sign("fixed", figures.diamond)] if any(person.pose.known for person in people) else []
    entries += [legends.line("before", PAPER, 0.7)] if former else []
    entries += [legends.sign("click first", _target)] if clicks else []
    return entries + ([legends.Entry("names: expected error")] if labels else [])


def write_labels(names: Labels, people: Sequence[figures.Figure]) -> None:
    """Every joint's name beside it, away from the body's middle, with its expected error."""
    for person in people:
        names.reserve(person.points[person.inside], 1.3 * person.line)
    for person in people:
        middle = person.points[person.inside].mean(axis=0) if person.inside.any() else np.zeros(2)
        errors = person.pose.expected_error
        for joint in np.flatnonzero(person.inside).tolist():
            name = person.pose.names[joint]
            text = name if name in person.pose.known else f"{name} {shapes.pixels_text(errors[joint])}"
            point = person.points[joint]
            names.beside(text, point, 2.2 * person.line, point - middle, person.side(joint))


def _target(canvas: np.ndarray, centre: np.ndarray, radius: float) -> None:
    figures.target(canvas, centre, radius / 2.9)
