"""COCO keypoints, and with them any data set of one's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.datasets.pictures import Pictures
from posecov.learn.datasets.points import bad_joints
from posecov.learn.datasets.problems import Problems
from posecov.learn.datasets.record import Reading, Record, make_record
from posecov.plain import is_number

# Pixels that a joint may lie outside: some tools count pixel edges, not centres.
_SLACK = 1.0


def read_coco(path: Path | str, images: Path | str, problems: Problems, source: str = "coco") -> Reading:
    """People of a COCO keypoints file (``images``, ``annotations``, ``categories`` that name their ``keypoints``).

    Joints with a visibility of 0 have no label, those with 1 are occluded. Crowds and people without a label are left out. Of
    several categories with keypoints all are read, if their joints are the same.

    Args:
        path: the JSON file.
        images: folder that holds the pictures.
        problems: where wrong entries are noted.
        source: what names of records start with.

    Raises:
        PosecovError: the file as a whole is not one.
    """
    path = Path(path)
    content = _load(path)
    joints, categories = _joints(path, content)
    pictures = Pictures(Path(images), problems)
    listed = _listed(path, content["images"], problems)
    records: list[Record] = []
    seen: set[Any] = set()
    for number, annotation in enumerate(content["annotations"], start=1):
        where = f"{path}, annotation {number}"
        if not isinstance(annotation, Mapping) or not isinstance(annotation.get("id", number), int | str):
            problems.add(where, "is not a mapping with id, image_id and keypoints")
            continue
        identity = annotation.get("id", number)
        where = f"{path}, annotation {identity}"
        if identity in seen:
            problems.add(where, "is there twice; give every annotation an id of its own")
            continue
        seen.add(identity)
        if annotation.get("iscrowd") or _key(annotation.get("category_id")) not in categories or "keypoints" not in annotation:
            continue
        record = _record(f"{source}/{identity}", annotation, joints, where, listed, pictures, problems)
        if record is not None:
            records.append(record)
    return Reading(records, joints, path)


def _record(
    name: str,
    annotation: Mapping[str, Any],
    joints: tuple[str, ...],
    where: str,
    listed: Mapping[Any, Mapping[str, Any]],
    pictures: Pictures,
    problems: Problems,
) -> Record | None:
    numbers = _numbers(annotation["keypoints"], 3 * len(joints))
    if numbers is None:
        problems.add(where, f"its keypoints are not {len(joints)} times x, y, visibility, in numbers")
        return None
    points, visibility = numbers.reshape(-1, 3)[:, :2], numbers.reshape(-1, 3)[:, 2]
    labelled = visibility > 0
    if not labelled.any():
        return None
    box = None
    if annotation.get("bbox") is not None:
        box = _numbers(annotation["bbox"], 4)
        if box is None or not np.isfinite(box).all():
            problems.add(where, "its bbox is not four numbers x, y, width, height")
            return None
        if (box[2:] <= 0).any():
            problems.add(where, f"its bbox has no size: {box[2]:g} x {box[3]:g}; give it one, or leave bbox out")
            return None
    listing = listed.get(_key(annotation.get("image_id")))
    if listing is None:
        problems.add(where, f"image_id {annotation.get('image_id')!r} is not among the file's images")
        return None
    image = pictures.find(listing.get("file_name"), where)
    size = None if image is None else pictures.size(image, where)
    if image is None or size is None:
        return None
    said = (listing.get("width", size[0]), listing.get("height", size[1]))
    if said != size:
        problems.add(where, f"picture {image} is {size[0]} x {size[1]}, the file says {said[0]} x {said[1]}: was it resized?")
        return None
    for index, wrong in bad_joints(points, labelled, size, _SLACK):
        problems.add(where, f"joint {joints[index]} {wrong}")
        labelled[index] = False
    if not labelled.any():
        return None
    return make_record(name, image, points, labelled, visibility == 1, box, area=_area(annotation.get("area")))


def _area(value: Any) -> float:
    """Of the outline; files of one's own often have none, or 0."""
    return float(value) if is_number(value) and value > 0 else float("nan")


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise PosecovError(f"{path}: not found") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PosecovError(f"{path}: not readable JSON ({error})") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise PosecovError(f"{path}: not a COCO keypoints file; it has no list of {key}")
    return content


def _joints(path: Path, content: Mapping[str, Any]) -> tuple[tuple[str, ...], set[Any]]:
    named = [c for c in content["categories"] if isinstance(c, Mapping) and c.get("keypoints")]
    for category in named:
        names = category["keypoints"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PosecovError(f"{path}: keypoints of category {category.get('name')!r} are not a list of joint names")
    if not named:
        raise PosecovError(f'{path}: no category names its joints; add "keypoints": [names in order] to it')
    if any(category["keypoints"] != named[0]["keypoints"] for category in named):
        raise PosecovError(f"{path}: its categories have different joints; make a file of each")
    return tuple(named[0]["keypoints"]), {_key(category.get("id")) for category in named}


def _listed(path: Path, images: list[Any], problems: Problems) -> dict[Any, Mapping[str, Any]]:
    listed: dict[Any, Mapping[str, Any]] = {}
    for number, image in enumerate(images, start=1):
        identity = _key(image.get("id")) if isinstance(image, Mapping) else None
        if identity is None:
            problems.add(f"{path}, image {number}", "is not a mapping with id and file_name")
        elif identity in listed:
            problems.add(f"{path}, image {identity}", "is there twice; give every image an id of its own")
        else:
            listed[identity] = image
    return listed


def _key(identity: Any) -> Any:
    return identity if isinstance(identity, int | str) else None


def _numbers(values: Any, count: int) -> np.ndarray | None:
    # type, not isinstance: JSON's true is an int to Python. None is what some tools write for a joint without a place.
    if not isinstance(values, list) or len(values) != count or any(type(v) not in (int, float) for v in values):
        return None
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:  # An int beyond all floats.
        return None
