"""The MATLAB structures of MPII: ``RELEASE`` as published, and the validation people's head boxes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from posecov.errors import PosecovError


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
    release: Any = _load(path, "RELEASE").get("RELEASE")
    if not hasattr(release, "annolist") or not hasattr(release, "img_train"):
        raise PosecovError(f"{path}: holds no RELEASE with annolist and img_train; is it MPII's own file?")
    train = np.atleast_1d(release.img_train)
    pictures = _items(release.annolist)
    if len(train) != len(pictures):
        raise PosecovError(f"{path}: annolist has {len(pictures)} pictures, img_train {len(train)}")
    for image, (picture, is_train) in enumerate(zip(pictures, train, strict=True), start=1):
        if is_train != 1:
            continue
        for rect, person in enumerate(_items(getattr(picture, "annorect", None)), start=1):
            points = [
                (int(point.id), float(point.x), float(point.y), _visible(point))
                for annotated in _items(getattr(person, "annopoints", None))
                for point in _items(getattr(annotated, "point", None))
                if all(np.size(getattr(point, field, ())) == 1 for field in ("id", "x", "y"))
            ]
            if points:
                name = getattr(getattr(picture, "image", None), "name", "")
                corners: list[Any] = [getattr(person, field, ()) for field in ("x1", "y1", "x2", "y2")]
                known = all(np.size(corner) == 1 for corner in corners)
                head = np.array([float(corner) for corner in corners]) if known else None
                yield Person(image, rect, name, points, head)


def read_head_boxes(path: Path, count: int) -> np.ndarray | None:
    """(N, 4) x1, y1, x2, y2, 1-based, from ``gt_valid.mat`` (``headboxes_src`` (2, 2, N)); None when there is no such file.

    Raises:
        PosecovError: the file is there and is something else, or has not one box for each of ``count`` people.
    """
    if not path.is_file():
        return None
    boxes = np.asarray(_load(path, "headboxes_src").get("headboxes_src", ()))
    boxes = boxes[..., None] if boxes.shape == (2, 2) else boxes
    if boxes.shape != (2, 2, count):
        raise PosecovError(f"{path}: headboxes_src has shape {boxes.shape}, expected (2, 2, {count}); is it of another split?")
    return boxes.reshape(4, count).T.astype(np.float64)


def _load(path: Path, variable: str) -> dict[str, Any]:
    try:
        return scipy.io.loadmat(str(path), struct_as_record=False, squeeze_me=True, variable_names=[variable])
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise PosecovError(f"{path}: not a readable MATLAB file ({str(error).splitlines()[0][:120]})") from None


def _items(value: Any) -> list[Any]:
    """Structures of a MATLAB array: several, one, or none, which scipy gives in three ways."""
    several = list(value.flat) if isinstance(value, np.ndarray) else [value]
    return [item for item in several if hasattr(item, "_fieldnames")]


def _visible(point: Any) -> bool:
    # A number, a digit as text, or empty for the head's two joints, which are always seen.
    value = getattr(point, "is_visible", 1)
    return np.size(value) == 0 or str(np.asarray(value).item()) not in ("0", "0.0", "False")
