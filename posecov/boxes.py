"""People's boxes from a file: JSON, COCO or CSV."""

import csv
import json
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecov.errors import PosecovError
from posecov.plain import is_number

PERSON = 1
"""Category of a person in COCO."""

THRESHOLD = 0.3
"""Least score of a person, from a detector (`detectors`) or in a file of its results."""

_COLUMNS = ("image", "x", "y", "width", "height")
_FORMATS = (
    "a JSON mapping of picture to list of [x, y, width, height], a COCO list with file_name and bbox, a CSV with header "
    + ",".join(_COLUMNS)
    + ", or COCO detection results with image_id, bbox and score"
)


def read_boxes(path: str | Path, *, category: int | None = None, threshold: float | None = None) -> dict[str, np.ndarray]:
    """Boxes of each picture named in a file.

    Five forms are read, boxes always as x, y, width, height in pixels:

    - JSON mapping: ``{"a.jpg": [[x, y, width, height], ...], "nobody.jpg": []}``;
    - COCO detections: ``[{"file_name": "a.jpg", "bbox": [x, y, width, height]}, ...]``;
    - COCO annotations: ``{"images": [{"id", "file_name"}], "annotations": [{"image_id", "bbox"}]}``; crowds and
      categories other than ``person`` are left out;
    - COCO detection results: ``[{"image_id": 397133, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9}, ...]``,
      where an id may also be a picture's name; other categories and lower scores are left out;
    - CSV with the header ``image,x,y,width,height``, one row a box; other columns are ignored.

    Args:
        path: the file.
        category: of people in detection results; None is `PERSON`.
        threshold: least score of a person in detection results; None is `THRESHOLD`.

    Returns:
        Picture name as in the file, with forward slashes, or image id as text, to (N, 4) float64, in the order of the file.

    Raises:
        PosecovError: one line that names the file and what is wrong in it.
    """
    path = Path(path)
    if path.is_dir():
        raise PosecovError(f"{path}: is a folder; give a file of boxes ({_FORMATS})")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PosecovError(f"{path}: no such file of boxes") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PosecovError(f"{path}: cannot read these boxes ({error})") from None
    if not text.strip():
        raise PosecovError(f"{path}: is empty; a file of boxes is {_FORMATS}")
    if path.suffix.lower() == ".csv":
        rows = _rows_of_csv(path, text)
    else:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PosecovError(f"{path}: is not valid JSON ({error}); a file of boxes is {_FORMATS}") from None
        if _is_results(content):
            rows = _rows_of_results(path, content, category, THRESHOLD if threshold is None else threshold)
            category = threshold = None
        else:
            rows = _rows_of_json(path, content)
    if category is not None or threshold is not None:
        raise PosecovError(f"{path}: has no categories and scores to choose by; that takes COCO detection results")
    boxes: dict[str, list[np.ndarray]] = {}
    for name, box, where in rows:
        people = boxes.setdefault(plain_name(name), [])
        if box is not None:
            people.append(_checked(path, box, where))
    return {name: np.array(people, dtype=np.float64).reshape(-1, 4) for name, people in boxes.items()}


def boxes_of(boxes: Mapping[str, np.ndarray], picture: str | Path) -> np.ndarray | None:
    """The boxes (N, 4) of a picture, or None when the file has neither its name (`matching_name`) nor its id (`image_ids`)."""
    name = matching_name(boxes, picture)
    if name is None:
        name = next((number for number in image_ids(picture) if number in boxes), None)
    return None if name is None else boxes[name]


def image_ids(picture: str | Path) -> list[str]:
    """Ids that mean a picture: its name without ending, and the number at the end of that without leading zeros."""
    stem = Path(picture).stem
    number = re.search(r"[0-9]+$", stem)
    return [stem, str(int(number[0]))] if number else [stem]


def check_ids(path: str | Path, boxes: Mapping[str, np.ndarray], pictures: Sequence[Path]) -> None:
    """Raises PosecovError when a file that knows pictures by ids alone fits none of these, or an id fits several of them."""
    if not boxes or not pictures or any(Path(name).suffix for name in boxes):
        return
    owners: dict[str, Path] = {}
    for picture in pictures:
        found = next((number for number in image_ids(picture) if number in boxes), None)
        if found is None:
            continue
        if found in owners:
            raise PosecovError(f"{path}: the id {found} may be {owners[found]} or {picture}; do one at a time")
        owners[found] = picture
    if not owners:
        ids = list(boxes)
        listed = ", ".join(ids[:3]) + (f", ... ({len(ids)} in all)" if len(ids) > 3 else "")
        raise PosecovError(
            f"{path}: its image ids {listed} match none of the pictures; an id is a picture's name or the number at its end,"
            " as 397133 is of 000000397133.jpg"
        )


def matching_name(names: Container[Any], picture: str | Path) -> str | None:
    """The name in a file that means a picture, None when there is none.

    A name may be the picture's full path, its last folders and name, or its name alone; the longest match wins.
    """
    picture = Path(picture)
    absolute = picture.absolute()
    parts = absolute.parts[1:]
    tries = [plain_name(str(picture)), absolute.as_posix(), *("/".join(parts[start:]) for start in range(len(parts)))]
    return next((name for name in tries if name in names), None)


# One row is a picture's name, its box (None: the picture is named, with nobody in it), and where it stands in the file.
_Row = tuple[str, Any, str]


def _rows_of_csv(path: Path, text: str) -> list[_Row]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    try:
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        missing = [name for name in _COLUMNS if name not in header]
        if missing:
            raise PosecovError(f"{path}: its first line has no column {missing[0]!r}; it must be {','.join(_COLUMNS)}")
        return [_row_of_csv(path, row, f"line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise PosecovError(f"{path}: line {reader.line_num + 1} cannot be read as CSV ({error})") from None


def _row_of_csv(path: Path, row: Mapping[str, Any], where: str) -> _Row:
    if not row["image"]:
        raise PosecovError(f"{path}: {where} names no picture")
    try:
        return row["image"], [float(row[name]) for name in _COLUMNS[1:]], where
    except (TypeError, ValueError):
        raise PosecovError(f"{path}: {where} is not four numbers x, y, width, height") from None


def _rows_of_json(path: Path, content: Any) -> list[_Row]:
    if isinstance(content, list):
        return [_detection(path, entry, f"entry {i + 1}") for i, entry in enumerate(content)]
    if not isinstance(content, dict):
        raise PosecovError(f"{path}: a file of boxes is {_FORMATS}")
    if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        return _rows_of_coco(path, content)
    rows: list[_Row] = []
    for name, people in content.items():
        if not isinstance(people, list):
            raise PosecovError(f"{path}: {name!r} must be a list of [x, y, width, height], [] for nobody")
        rows.append((name, None, ""))
        rows.extend((name, box, f"box {i + 1} of {name!r}") for i, box in enumerate(people))
    return rows


def _is_results(content: Any) -> bool:
    """Whether this is a list whose first entry knows its picture by an id alone."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "image_id" in first and "file_name" not in first


def _rows_of_results(path: Path, content: list[Any], category: int | None, threshold: float) -> list[_Row]:
    rows: list[_Row] = []
    wanted, categories = PERSON if category is None else category, set[int]()
    for number, entry in enumerate(content, start=1):
        where = f"entry {number}"
        if not isinstance(entry, dict) or type(entry.get("image_id")) not in (int, str) or "bbox" not in entry:
            raise PosecovError(
                f"{path}: {where} has no 'image_id' (a number or a name) and 'bbox'; a file of boxes is {_FORMATS}"
            )
        kind, score = entry.get("category_id", wanted), entry.get("score", 1.0)
        if type(score) not in (int, float) or type(kind) is not int:
            raise PosecovError(f"{path}: the 'score' or 'category_id' of {where} is no number")
        categories.add(kind)
        kept = kind == wanted and score >= threshold
        # A picture in which everything is left out is named all the same: nobody is there.
        rows.append((str(entry["image_id"]), entry["bbox"] if kept else None, where))
    if wanted not in categories:
        listed = ", ".join(map(str, sorted(categories)[:10]))
        raise PosecovError(
            f"{path}: none of its entries is of category {wanted}, a person; they are of {listed};"
            " say which one is a person (category=, --person-class)"
        )
    return rows


def _detection(path: Path, entry: Any, where: str) -> _Row:
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or "bbox" not in entry:
        raise PosecovError(f"{path}: {where} has no 'file_name' and 'bbox'; a file of boxes is {_FORMATS}")
    return entry["file_name"], entry["bbox"], where


def _rows_of_coco(path: Path, content: dict[str, Any]) -> list[_Row]:
    try:
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        people = {c["id"] for c in content.get("categories") or [] if c.get("name") == "person"}
        rows: list[_Row] = [(name, None, "") for name in names.values()]
        for i, annotation in enumerate(content["annotations"]):
            if annotation.get("iscrowd") or (people and annotation.get("category_id") not in people):
                continue
            if annotation.get("bbox") is None:
                raise PosecovError(f"{path}: annotation {i + 1} has no 'bbox'; give every one its box, x, y, width, height")
            rows.append((names[annotation["image_id"]], annotation["bbox"], f"annotation {i + 1}"))
    except (KeyError, TypeError, AttributeError) as error:
        raise PosecovError(f"{path}: is not a COCO file of boxes (trouble with {error})") from None
    return rows


def _checked(path: Path, box: Any, where: str) -> np.ndarray:
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in box):
        raise PosecovError(f"{path}: {where} is not four numbers x, y, width, height")
    values = np.array(box, dtype=np.float64)
    if values[2] <= 0 or values[3] <= 0:
        raise PosecovError(f"{path}: {where} has no size; width and height must be positive")
    return values


def plain_name(name: str) -> str:
    """A picture's name with forward slashes and without a leading ./."""
    name = name.replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    return name
