"""The MATLAB structures of MPII: ``RELEASE`` as published, and the validation people's head boxes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.datasets.matlab_files import load_variable


@dataclass(frozen=True)
class Person:
    """One ``annorect`` with joints.

    Attributes:
        image: 1-based index into ``annolist``.
        rect: 1-based index into that picture's ``annorect``.
        picture: file name.
        points: joint id, x, y (1-based pixels), whether it can be seen.
        head_box: (4,) x1, y1, x2, y2, or None.
    """

    image: int
    rect: int
    picture: Any
    points: list[tuple[int, float, float, bool]]
    head_box: np.ndarray | None


def read_release(path: Path) -> Iterator[Person]:
    """The training people of ``RELEASE`` (``img_train`` 1; nobody else has joints).

    Raises:
        PosecovError: the file holds no such structure.
    """
    release: Any = load_variable(path, "RELEASE", struct_as_record=False, squeeze_me=True)
    if not hasattr(release, "annolist") or not hasattr(release, "img_train"):
        raise PosecovError(f"{path}: holds no RELEASE with annolist and img_train; is it MPII's own file?")
    train = np.atleast_1d(release.img_train)
    if train.ndim != 1 or train.dtype.kind not in "iufb":
        raise PosecovError(f"{path}: img_train is not a row of numbers; is it MPII's own file?")
    pictures = _items(release.annolist)
    if len(train) != len(pictures):
        raise PosecovError(f"{path}: annolist has {len(pictures)} pictures, img_train {len(train)}")
    for image, (picture, is_train) in enumerate(zip(pictures, train, strict=True), start=1):
        if is_train != 1:
            continue
        for rect, person in enumerate(_items(getattr(picture, "annorect", None)), start=1):
            points = [
                point
                for annotated in _items(getattr(person, "annopoints", None))
                for point in map(_point, _items(getattr(annotated, "point", None)))
                if point is not None
            ]
            if points:
                name = getattr(getattr(picture, "image", None), "name", "")
                corners = [_number(getattr(person, field, None)) for field in ("x1", "y1", "x2", "y2")]
                head = None if None in corners else np.array(corners, dtype=np.float64)
                yield Person(image, rect, name, points, head)


def read_head_boxes(path: Path, count: int) -> np.ndarray | None:
    """(N, 4) x1, y1, x2, y2, 1-based, from ``gt_valid.mat`` (``headboxes_src`` (2, 2, N)); None when there is no such file.

    Raises:
        PosecovError: the file is there and is something else, or has not one box for each of ``count`` people.
    """
    if not path.is_file():
        return None
    boxes = load_variable(path, "headboxes_src", squeeze_me=True)
    boxes = np.asarray(() if boxes is None else boxes)
    boxes = boxes[..., None] if boxes.shape == (2, 2) else boxes
    if boxes.shape != (2, 2, count) or boxes.dtype.kind not in "iuf":
        raise PosecovError(f"{path}: headboxes_src has shape {boxes.shape}, expected (2, 2, {count}); is it of another split?")
    return boxes.reshape(4, count).T.astype(np.float64)


def _items(value: Any) -> list[Any]:
    """Structures of a MATLAB array: several, one, or none, which scipy gives in three ways."""
    several = list(value.flat) if isinstance(value, np.ndarray) else [value]
    return [item for item in several if hasattr(item, "_fieldnames")]


def _point(point: Any) -> tuple[int, float, float, bool] | None:
    joint, x, y = (_number(getattr(point, field, None)) for field in ("id", "x", "y"))
    if joint is None or not joint.is_integer() or x is None or y is None:
        return None
    return int(joint), x, y, _visible(point)


def _number(value: Any) -> float | None:
    """A MATLAB scalar; None for anything else."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iufb":
        return None
    return float(array.item())


def _visible(point: Any) -> bool:
    # A number, a digit as text, or empty for the head's two joints, which are always seen.
    value = getattr(point, "is_visible", 1)
    return np.size(value) != 1 or str(np.asarray(value).item()) not in ("0", "0.0", "False")
