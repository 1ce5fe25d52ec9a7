"""Results as files: JSON, PNG and CSV, each of them whole or not there at all."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecov.errors import PosecovError
from posecov.files import reason, temporary_name, write_atomic
from posecov.pose import Pose

CSV_COLUMNS = ("image", "person", "joint", "x", "y", "sigma", "semi_major", "semi_minor", "angle", "outside")


def outside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which points (..., 2) lie outside a picture; its pixels reach half a pixel around their centres."""
    limits = np.array([width, height])
    return np.any((points < -0.5) | (points > limits - 0.5), axis=-1)


def picture_document(image: str, width: int, height: int, model: str, mass: float, people: Sequence[Pose]) -> dict[str, Any]:
    """What the JSON of a picture says.

    Args:
        image: the picture's file name.
        width: of the picture in pixels.
        height: of the picture in pixels.
        model: the model's name.
        mass: of the ellipses.
        people: the poses.

    Returns:
        image, width, height, model, mass, and people: each `Pose.to_dict` with two more facts for every keypoint, its
        ``ellipse`` (semi-axes in pixels and the first one's angle in radians, y down) and whether it is ``outside``. Where left
        and right may be confused a person also has ``alternatives``: ``probability`` and ``keypoints`` of exchanged poses.
    """
    documents = []
    for pose in people:
        fields = pose.to_dict()
        for name, row in zip(pose.names, _rows(pose, width, height, mass), strict=True):
            _, _, _, major, minor, angle, is_outside = row
            ellipse = {"semi_major": major, "semi_minor": minor, "angle": angle}
            fields["keypoints"][name] |= {"ellipse": ellipse, "outside": is_outside}
        if pose.components is not None:
            fields["alternatives"] = pose.alternatives_to_dict()
        documents.append(fields)
    return {"image": image, "width": width, "height": height, "model": model, "mass": mass, "people": documents}


def csv_rows(image: str, width: int, height: int, mass: float, people: Sequence[Pose]) -> list[tuple[Any, ...]]:
    """One row a person and joint, in the order of `CSV_COLUMNS`. Pixels, the angle in radians, outside as 0 or 1."""
    rows = []
    for person, pose in enumerate(people):
        for name, (*numbers, is_outside) in zip(pose.names, _rows(pose, width, height, mass), strict=True):
            rows.append((image, person, name, *(f"{number:.7g}" for number in numbers), int(is_outside)))
    return rows


def _rows(pose: Pose, width: int, height: int, mass: float) -> list[tuple[float, float, float, float, float, float, bool]]:
    """x, y, sigma, semi-major, semi-minor, angle, outside of every joint."""
    flags = outside(pose.keypoints, width, height)
    axes, angles = pose.ellipses(mass)
    columns = (*pose.keypoints.T, pose.sigma, *axes.T, angles, flags)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def prepare_folder(path: str | Path) -> Path:
    """Make a folder for results, and see that files can be written into it. Raises PosecovError when not."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / temporary_name()
        probe.touch(exist_ok=False)
        probe.unlink()
    except (OSError, ValueError) as error:
        why = "a file of this name is there" if isinstance(error, FileExistsError) else reason(error)
        raise PosecovError(f"{path}: cannot write results into this folder ({why}); give another --out") from None
    return path


def output_stems(pictures: Sequence[Path], folder: Path, ending: str = ".png") -> list[str]:
    """A name without ending for the results of each picture: its own, made unique where two would be the same.

    ``a.jpg`` and ``a.png`` give ``a_jpg`` and ``a_png``; ``x/a.jpg`` and ``y/a.jpg`` give ``x_a_jpg`` and ``y_a_jpg``.
    No result takes the place of a picture: written beside its picture, the overlay of ``a.png`` is ``a_pose.png``. Films
    are named in the same way, with ``.mp4`` for ``ending``.
    """
    inputs = {_place(picture) for picture in pictures}
    stems = [picture.stem for picture in pictures]
    for longer in (lambda p: f"{p.stem}_{p.suffix[1:]}", lambda p: f"{p.absolute().parent.name}_{p.stem}_{p.suffix[1:]}"):
        counts = Counter(stem.casefold() for stem in stems)  # Some file systems take a and A for the same.
        stems = [s if counts[s.casefold()] == 1 else longer(p) for s, p in zip(stems, pictures, strict=True)]
    taken: set[str] = set()
    for index, stem in enumerate(stems):
        if _place(folder / f"{stem}{ending}") in inputs:
            stem += "_pose"
        number, free = 1, stem
        while free.casefold() in taken or _place(folder / f"{free}{ending}") in inputs:
            number += 1
            free = f"{stem}_{number}"
        taken.add(free.casefold())
        stems[index] = free
    return stems


def _place(path: Path) -> str:
    return os.path.normcase(path.resolve())


def write_json(path: Path, document: Any) -> None:
    """Write JSON. Raises PosecovError when the file cannot be written."""
    write_atomic(path, (json.dumps(document, allow_nan=False) + "\n").encode())


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a (H, W, 3) uint8 BGR picture. Raises PosecovError when the file cannot be written."""
    _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    write_atomic(path, encoded.tobytes())


def write_csv(path: Path, rows: Iterable[Sequence[Any]], columns: Sequence[str] = CSV_COLUMNS) -> None:
    """Write a table with a header. Raises PosecovError when the file cannot be written."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode("utf-8", errors="surrogateescape"))
