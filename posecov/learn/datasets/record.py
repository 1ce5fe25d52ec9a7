"""One labelled person, and the way from a data set's joints to those of a skeleton."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from posecov.geometry import box_around
from posecov.learn.datasets.problems import Problems
from posecov.metrics import head_box_size
from posecov.skeleton import Skeleton, canonical_joint, load_skeleton
from posecov.suggest import nearest

MIN_LABELLED = 3
"""Below this a person gives neither a box nor a pose."""


_LEAST_SIDE = 2.0
"""Pixels; a smaller box is that of joints in one place."""


@dataclass(frozen=True)
class Record:
    """One labelled person.

    Attributes:
        name: unique within a training run, such as ``lsp/im0001``; what stands before the last slash is the data set.
        image: path of the picture.
        keypoints: (J, 2) float64, 0-based pixels; rows without a label are NaN.
        labelled: (J,) bool.
        occluded: (J,) bool, as annotated; False where the data set does not say.
        box: (4,) float64 x, y, width, height: the extent of the labelled joints, enlarged (`geometry.box_around`), and what
            the annotated box shows beyond it.
        annotated_box: (4,) float64 as the file has it, or None.
        head_box: (4,) float64 as the file has it, or None.
        head_size: pixels, the unit of PCKh: 0.6 of the head box's diagonal (MPII's evaluation); NaN where nothing tells it.
        area: of the person's outline in square pixels, for OKS; NaN where the file has none.
    """

    name: str
    image: Path
    keypoints: np.ndarray
    labelled: np.ndarray
    occluded: np.ndarray
    box: np.ndarray
    annotated_box: np.ndarray | None = None
    head_box: np.ndarray | None = None
    head_size: float = float("nan")
    area: float = float("nan")


class Reading(NamedTuple):
    """What a reader finds.

    Attributes:
        records: people, with joints as the file has them.
        joints: their J names.
        file: of the annotations, for messages.
    """

    records: list[Record]
    joints: tuple[str, ...]
    file: Path


def make_record(
    name: str,
    image: Path,
    points: np.ndarray,
    labelled: np.ndarray,
    occluded: np.ndarray,
    annotated_box: np.ndarray | None = None,
    head_box: np.ndarray | None = None,
    head_size: float = float("nan"),
    area: float = float("nan"),
) -> Record:
    """A record with its box. At least one joint must be labelled."""
    points = np.where(labelled[:, None], points, np.nan)
    box = box_around(points[labelled])
    if annotated_box is not None:
        low = np.minimum(box[:2], annotated_box[:2])
        high = np.maximum(box[:2] + box[2:], annotated_box[:2] + annotated_box[2:])
        box = np.concatenate([low, high - low])
    if head_box is not None:
        head_size = float(head_box_size(head_box))
    return Record(name, image, points, labelled, occluded & labelled, box, annotated_box, head_box, head_size, area)


def onto_skeleton(reading: Reading, skeleton: Skeleton, problems: Problems) -> list[Record]:
    """The people of a data set with the joints of a skeleton, matched by name (`skeleton.canonical_joint`).

    A joint that the data set does not have is unlabelled: losses leave it out, and the covariance is marginalised. A joint that
    the skeleton does not have is left out. People with fewer than `MIN_LABELLED` joints left (or all of a smaller skeleton's)
    are left out; boxes stay those of all the joints that the file has. A box without size, that of a single joint, is refused.
    """
    places: dict[str, int] = {}
    for place, joint in enumerate(reading.joints):
        name = canonical_joint(joint)
        if name in places:
            problems.add(str(reading.file), f"joint {joint!r} stands there twice, also as {reading.joints[places[name]]!r}")
            continue
        places[name] = place
    wanted = {canonical_joint(joint): joint for joint in skeleton.keypoints}
    for name, place in places.items():
        # COCO's ears have no place in LSP's skeleton; a name that no skeleton has is more likely a slip.
        if name not in wanted and name not in _usual_joints():
            joint = reading.joints[place]
            problems.add(str(reading.file), f"unknown joint {joint!r}, not in skeleton {skeleton.name}{nearest(name, wanted)}")
    index = np.array([places.get(name, -1) for name in wanted])
    enough = min(MIN_LABELLED, len(skeleton))
    same, records = tuple(wanted.values()) == reading.joints, []
    for record in reading.records:
        labelled = record.labelled if same else record.labelled[index] & (index >= 0)
        if labelled.sum() < enough:
            continue
        if record.box[2:].max() < _LEAST_SIDE:
            problems.add(
                f"{reading.file}, {record.name}", "its joints lie in one place and say nothing of its size; give it a bbox"
            )
            continue
        if same:
            records.append(record)
        else:
            points = np.where(labelled[:, None], record.keypoints[index], np.nan)
            occluded = record.occluded[index] & labelled
            records.append(dataclasses.replace(record, keypoints=points, labelled=labelled, occluded=occluded))
    return records


def joints_of(records: Sequence[Record]) -> np.ndarray:
    """(J,) how many of the people have each joint labelled."""
    return np.sum([record.labelled for record in records], axis=0)


def _usual_joints() -> set[str]:
    return {joint for name in ("lsp14", "mpii16", "coco17") for joint in load_skeleton(name).keypoints}
