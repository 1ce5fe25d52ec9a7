"""Pictures in the order in which labelling them is worth most, judged by how sure their poses are.

The statistic is the **mean expected error of the joints inside the picture, over the length of the torso** (over the longer
side of the person's box, for a skeleton that names no torso). Expected errors and not standard deviations, which follow what is
rare and far: a joint with a 5 % chance to lie on the other side would count as much as one that is nowhere to be found. A mean
and not a maximum, since one odd joint is one click, while a pose of which nothing is known is a whole person to label. In
torsos, or those nearest to the camera would come first; a box is long or short as arms and legs are held. Without joints
outside the picture, which nobody can label, and which make every portrait uncertain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecov.clicks import best_click, expected_gain
from posecov.geometry import box_around
from posecov.output import outside
from posecov.pose import Pose
from posecov.skeleton import Skeleton

COLUMNS = (
    "rank", "image", "people", "person", "uncertainty", "expected_error", "size", "joint_1", "error_1", "joint_2", "error_2",
    "joint_3", "error_3", "click", "gain", "note",
)  # fmt: skip
"""Of `csv_row`. Pixels but for ``uncertainty``, which is in units of ``size``; ``gain`` is the sum over the other joints."""

_WORST = 3
_SHORTEST = 0.2


@dataclass(frozen=True, eq=False)
class Ranked:
    """A picture and what makes it uncertain.

    Attributes:
        picture: its file.
        people: how many were found.
        person: index of the most uncertain of them, whose numbers follow; None when nobody can be judged.
        pose: that person's.
        uncertainty: mean expected error over the joints inside the picture, in torsos (`unit_of`); NaN without a person.
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
        float(pose.expected_error[seen].mean()) / unit_of(pose) if len(seen) else float("nan")
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
    size = unit_of(row.pose)
    cells: list[str | int] = [rank, str(row.picture), row.people, row.person]
    cells += [f"{row.uncertainty:.5g}", f"{row.uncertainty * size:.5g}", f"{size:.5g}"]
    for joint in row.joints[:_WORST]:
        cells += [row.pose.names[joint], f"{row.pose.expected_error[joint]:.5g}"]
    cells += [""] * (2 * (_WORST - len(row.joints[:_WORST])))
    return (*cells, row.click, f"{row.gain:.5g}", row.note)


def unit_of(pose: Pose) -> float:
    """Pixels: the torso's length (`units`)."""
    points = pose.keypoints.astype(np.float64)
    box = box_around(points) if pose.box is None else pose.box
    return float(units(points, np.array(max(box[2], box[3]), dtype=np.float64), pose.skeleton))


def units(points: np.ndarray, sizes: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Length of the torso, from one shoulder to the opposite hip, say, mean of both ways; the size where no torso is named.

    Args:
        points: (..., J, 2) keypoints, pixels.
        sizes: (...) longer side of the person's box, pixels.
        skeleton: that names the two joints.
    """
    if skeleton.torso is None:
        return sizes
    ends = np.array(skeleton.torso_indices)
    ways = [
        np.linalg.norm(np.diff(points[..., pair, :], axis=-2)[..., 0, :], axis=-1)
        for pair in (ends, skeleton.flip_permutation[ends])
    ]
    # Seen from the front or the back a torso is 0.2 to 0.4 of a box; from above it has no length that errors could be told in.
    return np.maximum((ways[0] + ways[1]) / 2, _SHORTEST * sizes)
