"""Pictures in the order in which labelling them is worth most, judged by how sure their poses are.

The statistic is the **mean expected error of the joints inside the picture, over the longer side of the person's box**.
Expected errors and not standard deviations, which follow what is rare and far: a joint with a 5 % chance to lie on the other
side would count as much as one that is nowhere to be found. A mean and not a maximum, since one odd joint is one click, while a
pose of which nothing is known is a whole person to label. In person sizes, or those nearest to the camera would come first.
Without joints outside the picture, which nobody can label, and which make every portrait uncertain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecov.clicks import best_click, expected_gain
from posecov.geometry import box_around
from posecov.output import outside
from posecov.pose import Pose

COLUMNS = (
    "rank", "image", "people", "person", "uncertainty", "expected_error", "size", "joint_1", "error_1", "joint_2", "error_2",
    "joint_3", "error_3", "click", "gain", "note",
)  # fmt: skip
"""Of `csv_row`. Pixels but for ``uncertainty``, which is in person sizes; ``gain`` is the sum over the other joints."""

_WORST = 3


@dataclass(frozen=True, eq=False)
class Ranked:
    """A picture and what makes it uncertain.

    Attributes:
        picture: its file.
        people: how many were found.
        person: index of the most uncertain of them, whose numbers follow; None when nobody can be judged.
        pose: that person's.
        uncertainty: mean expected error over the joints inside the picture, in person sizes; NaN without a person.
        joints: (n,) indices of the joints inside, the one with the largest expected error first.
        click: the joint inside the picture whose true place helps most.
        gain: by how much the others' expected errors, pixels, are expected to fall in all.
        note: why there is no uncertainty, or empty.
    """

    picture: Path
    people: int
    person: int | None = None
    pose: Pose | None = None
    uncertainty: float = float("nan")
    joints: tuple[int, ...] = ()
    click: str = ""
    gain: float = float("nan")
    note: str = ""


def judge(picture: Path, poses: Sequence[Pose], width: int, height: int) -> Ranked:
    """How much labelling a picture is worth, by its most uncertain person.

    Args:
        picture: its file.
        poses: everybody in it, without known joints.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    if not poses:
        return Ranked(picture, 0, note="nobody found; look whether somebody is there")
    inside = [np.flatnonzero(~outside(pose.keypoints, width, height)) for pose in poses]
    means = [
        float(pose.expected_error[seen].mean()) / size_of(pose) if len(seen) else float("nan")
        for pose, seen in zip(poses, inside, strict=True)
    ]
    if np.isnan(means).all():
        return Ranked(picture, len(poses), note="all joints lie outside the picture")
    person = int(np.nanargmax(means))
    pose, seen = poses[person], inside[person]
    order = seen[np.argsort(-pose.expected_error[seen], kind="stable")]
    click = best_click(pose, [pose.names[joint] for joint in seen])
    gain = float(expected_gain(pose)[pose.names.index(click)])
    return Ranked(picture, len(poses), person, pose, means[person], tuple(order.tolist()), click, gain)


def ordered(rows: Sequence[Ranked]) -> list[Ranked]:
    """The most uncertain first. Pictures without a person come last, since nothing is known that could place them."""
    judged = sorted((row for row in rows if row.person is not None), key=lambda row: -row.uncertainty)
    return judged + [row for row in rows if row.person is None]


def csv_row(row: Ranked, rank: int) -> tuple[str | int, ...]:
    """In the order of `COLUMNS`; empty where there is nobody."""
    if row.pose is None or row.person is None:
        return ("", str(row.picture), row.people, *[""] * 12, row.note)
    size = size_of(row.pose)
    cells: list[str | int] = [rank, str(row.picture), row.people, row.person]
    cells += [f"{row.uncertainty:.5g}", f"{row.uncertainty * size:.5g}", f"{size:.5g}"]
    for joint in row.joints[:_WORST]:
        cells += [row.pose.names[joint], f"{row.pose.expected_error[joint]:.5g}"]
    cells += [""] * (2 * (_WORST - len(row.joints[:_WORST])))
    return (*cells, row.click, f"{row.gain:.5g}", row.note)


def size_of(pose: Pose) -> float:
    """Longer side, pixels, of the person's box, or of one around the keypoints."""
    box = box_around(pose.keypoints.astype(np.float64)) if pose.box is None else pose.box
    return float(max(box[2], box[3]))
