"""MPII Human Pose in the four forms that it goes around in. All count pixels from 1 (MATLAB).

In all of them a joint may be labelled a little outside its picture, as published; one further outside than half the person's
extent is taken for a slip.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.datasets.mpii_matlab import read_head_boxes, read_release
from posecov.learn.datasets.pictures import Pictures, picture_folder
from posecov.learn.datasets.points import bad_joints, person_extent
from posecov.learn.datasets.problems import Problems
from posecov.learn.datasets.record import Reading, Record, make_record
from posecov.skeleton import canonical_joint, load_skeleton
from posecov.suggest import nearest

# Where the annotations usually are in MPII's folder, best first: the standard split, everything, everything as a table.
TRAIN_FILES = ("annot/train.json", "train.json", "mpii_human_pose_v1_u12_1.mat", "mpii_human_pose.csv")
VALIDATION_FILES = ("annot/valid.json", "valid.json", "annot/valid.h5", "pose_hg_valid.h5", "valid.h5")

# MPII's head size (0.6 of the head box's diagonal) per distance of its two head joints, which lie on that diagonal. Of the
# validation people for whom the HDF5 file has the former and the CSV the latter, 96 % agree to 0.001.
_HEAD_SIZE_PER_LENGTH = 0.75

_MAX_TABLE = 2**27  # Bytes of a table of an HDF5 file; MPII's have less than 10 MB.


@dataclass(frozen=True)
class Entry:
    """One person as a file has it.

    Attributes:
        where: place in the file, for messages.
        picture: name of the picture.
        points: (16, 2) 1-based pixels.
        labelled: (16,) bool.
        occluded: (16,) bool.
        person: tells people apart; two with the same are one problem. None: nothing does.
        head_box: (4,) x1, y1, x2, y2, or None.
        head_size: pixels, or NaN.
    """

    where: str
    picture: Any
    points: np.ndarray
    labelled: np.ndarray
    occluded: np.ndarray
    person: Any = None
    head_box: np.ndarray | None = None
    head_size: float = float("nan")


def read_mpii(path: Path | str, problems: Problems, source: str = "mpii", images: Path | str | None = None) -> Reading:
    """MPII's annotations.

    Args:
        path: one of

            - ``mpii_human_pose_v1_u12_1.mat``, as published: its training people, with head boxes;
            - ``train.json`` or ``valid.json``: a list of ``image``, ``joints``, ``joints_vis`` (0: no label), ``center``,
              ``scale``; head boxes from ``gt_valid.mat`` beside it, where that is;
            - ``*.h5`` with ``imgname``, ``part``, ``visible``, ``normalize`` (the head size), ``index``, ``person``;
            - ``*.csv`` with one person a row: ``ID``, ``NAME``, ``r ankle_X``, ..., -1, -1 without a label.
        problems: where wrong entries are noted.
        source: what names of records start with.
        images: folder of the pictures; `pictures.picture_folder` when not given.

    Raises:
        PosecovError: the file as a whole is not one of these.
    """
    path = Path(path)
    if not path.is_file():
        raise PosecovError(f"{path}: not found")
    readers: dict[str, Callable[[Path, Problems], Iterator[Entry]]] = {
        ".mat": _matlab_entries,
        ".json": _json_entries,
        ".h5": _hdf5_entries,
        ".csv": _csv_entries,
    }
    if path.suffix.lower() not in readers:
        raise PosecovError(f"{path}: MPII's annotations are a file with one of the endings {', '.join(readers)}")
    joints = _joints()
    pictures = Pictures(Path(images) if images else picture_folder(path), problems)
    records, people = [], set()
    for number, entry in enumerate(readers[path.suffix.lower()](path, problems), start=1):
        where = f"{path}, {entry.where}"
        if entry.person is not None and entry.person in people:
            problems.add(where, f"has the same id as another person: {entry.person}")
            continue
        people.add(entry.person)
        image = pictures.find(entry.picture, where)
        if image is None or not entry.labelled.any():
            continue
        record = _record(f"{source}/{PurePosixPath(str(entry.picture)).stem}#{number}", image, entry, where, pictures, problems)
        if record is not None:
            records.append(record)
    return Reading(records, joints, path)


def _record(name: str, image: Path, entry: Entry, where: str, pictures: Pictures, problems: Problems) -> Record | None:
    points, labelled = entry.points - 1.0, entry.labelled.copy()
    size = pictures.size(image, where)
    if size is None:
        return None
    joints = _joints()
    for index, wrong in bad_joints(points, labelled, size, max(0.5 * person_extent(points, labelled), 1.0)):
        problems.add(where, f"joint {joints[index]} {wrong}")
        labelled[index] = False
    if not labelled.any():
        return None
    head_box, head_size = None, entry.head_size
    if entry.head_box is not None:
        corners = entry.head_box - 1.0
        head_box = np.concatenate([corners[:2], corners[2:] - corners[:2]])
        if not np.isfinite(head_box).all() or (head_box[2:] <= 0).any():
            problems.add(where, "its head box has no size")
            return None
    neck, top = joints.index("upper_neck"), joints.index("head_top")
    if head_box is None and np.isnan(head_size) and labelled[neck] and labelled[top]:
        head_size = _HEAD_SIZE_PER_LENGTH * float(np.linalg.norm(points[neck] - points[top]))
    return make_record(name, image, points, labelled, entry.occluded, None, head_box, head_size)


def _joints() -> tuple[str, ...]:
    """MPII's 16 joints in the order of its ids."""
    return load_skeleton("mpii16").keypoints


def _csv_entries(path: Path, _: Problems) -> Iterator[Entry]:
    joints = _joints()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            columns = {canonical_joint(name[:-2]): name[:-2] for name in header if name.endswith(("_X", "_Y"))}
            wanted = ["NAME", *(f"{columns.get(joint, joint)}_{axis}" for joint in joints for axis in "XY")]
            missing = [name for name in wanted if name not in header]
            if missing:
                raise PosecovError(f"{path}: its first line has no column {missing[0]!r}{nearest(missing[0], header)}")
            for row in reader:
                where = f"line {reader.line_num}"
                try:
                    points = np.array([float(row[name]) for name in wanted[1:]]).reshape(-1, 2)
                except (TypeError, ValueError):
                    raise PosecovError(f"{path}, {where}: a coordinate is not a number") from None
                labelled = ~(points == -1).all(axis=1)
                yield Entry(where, row["NAME"], points, labelled, np.zeros(16, dtype=bool), row.get("ID"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PosecovError(f"{path}: not a readable table ({error})") from None


def _json_entries(path: Path, problems: Problems) -> Iterator[Entry]:
    try:
        people = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise PosecovError(f"{path}: not readable JSON ({error})") from None
    if not isinstance(people, list):
        raise PosecovError(f"{path}: not a list of people with image, joints and joints_vis; is it a COCO file?")
    heads = read_head_boxes(path.parent / "gt_valid.mat", len(people)) if path.name == "valid.json" else None
    for number, person in enumerate(people, start=1):
        where = f"person {number}"
        try:
            points = np.array(person["joints"], dtype=np.float64)
            labelled = np.array(person["joints_vis"], dtype=np.float64) > 0
            picture = person["image"]
        except (KeyError, TypeError, ValueError, OverflowError):
            problems.add(f"{path}, {where}", "has no image, joints and joints_vis, in numbers")
            continue
        if points.shape != (16, 2) or labelled.shape != (16,):
            problems.add(
                f"{path}, {where}", f"its joints are {points.shape} and its joints_vis {labelled.shape}, not MPII's 16"
            )
            continue
        head = None if heads is None else heads[number - 1]
        yield Entry(where, picture, points, labelled, np.zeros(16, dtype=bool), None, head)


def _hdf5_entries(path: Path, _: Problems) -> Iterator[Entry]:
    try:
        import h5py
    except ImportError:
        raise PosecovError(f"{path}: reading HDF5 takes h5py; pip install h5py") from None
    try:
        with h5py.File(path) as file:
            tables = {name: _table(file, name) for name in ("imgname", "part", "visible", "index", "person")}
            sizes = _table(file, "normalize") if "normalize" in file else np.full(len(tables["part"]), np.nan)
    except Exception as error:  # h5py raises many kinds on a damaged file.
        why = str(error).partition("\n")[0] or type(error).__name__
        raise PosecovError(f"{path}: not an HDF5 file of MPII's people ({why})") from None
    count = len(tables["part"])
    shapes = {"part": (16, 2), "visible": (16,), "index": (), "person": ()}
    numbers = [*(tables[name] for name in shapes), sizes]
    fits = all(tables[name].shape == (count, *shape) for name, shape in shapes.items())
    if not fits or tables["imgname"].shape[:1] != (count,) or sizes.shape != (count,):
        raise PosecovError(f"{path}: its tables must have one row a person and 16 joints")
    named = tables["imgname"].dtype.kind == "S" or tables["imgname"].ndim == 2
    if not named or any(table.dtype.kind not in "iufb" for table in numbers):
        raise PosecovError(f"{path}: its tables must be numbers, and imgname texts")
    ids = np.stack([tables["index"], tables["person"]], axis=1).astype(np.float64)
    if not np.isfinite(ids).all():
        raise PosecovError(f"{path}: its index and person must be whole numbers")
    for row in range(count):
        points, visible = tables["part"][row].astype(np.float64), tables["visible"][row] > 0
        picture = tables["imgname"][row]
        # Older files store names as rows of character codes.
        letters = picture if isinstance(picture, bytes) else np.asarray(picture).astype(np.uint8).tobytes()
        # What has no label lies at 0, 0; what lies elsewhere and is not visible is occluded.
        labelled = ~(points == 0).all(axis=1)
        person = (int(ids[row, 0]), int(ids[row, 1]))
        name = letters.decode("utf-8", "replace").rstrip("\0")
        yield Entry(f"row {row}", name, points, labelled, ~visible, person, None, float(sizes[row]))


def _table(file: Any, name: str) -> np.ndarray:
    """A table of an HDF5 file, whose content is in that file and is no larger than MPII's could be."""
    import h5py

    link = file.get(name, getlink=True)
    table = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(table, h5py.Dataset) or table.external or table.is_virtual:
        raise ValueError(f"{name} is not a table in this file")
    if table.nbytes > _MAX_TABLE or table.dtype.hasobject:
        raise ValueError(f"{name} is {table.shape} {table.dtype}, not a table of MPII's people")
    return np.atleast_1d(table[()])


def _matlab_entries(path: Path, problems: Problems) -> Iterator[Entry]:
    for person in read_release(path):
        where = f"annolist({person.image}).annorect({person.rect})"
        points, labelled, occluded = np.full((16, 2), np.nan), np.zeros(16, dtype=bool), np.zeros(16, dtype=bool)
        for joint, x, y, visible in person.points:
            if not 0 <= joint < 16:
                problems.add(f"{path}, {where}", f"unknown joint {joint}; MPII's have the ids 0 to 15")
                continue
            points[joint], labelled[joint], occluded[joint] = (x, y), True, not visible
        yield Entry(where, person.picture, points, labelled, occluded, None, person.head_box)
