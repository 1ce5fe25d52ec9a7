"""Small annotation files with pictures: MPII in its four forms, COCO; the same people in all."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import scipy.io

from posecov.skeleton import load_skeleton

WIDTH, HEIGHT = 200, 160
MPII_COLUMNS = [joint.replace("r_", "r ").replace("l_", "l ").replace("_", " ") for joint in load_skeleton("mpii16").keypoints]


def people(count: int = 3) -> np.ndarray:
    """(N, 16, 2) 1-based pixels, all different, inside the picture; person 1 lacks joint 0."""
    rng = np.random.default_rng(7)
    points = np.round(rng.uniform([20, 20], [WIDTH - 20, HEIGHT - 20], size=(count, 16, 2)))
    points[1, 0] = np.nan
    return points


def write_pictures(folder: Path, names: list[str], size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    for name in names:
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def write_mpii_csv(path: Path, points: np.ndarray, names: list[str]) -> Path:
    filled = np.where(np.isnan(points), -1, points)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "NAME", *(f"{joint}_{axis}" for joint in MPII_COLUMNS for axis in "XY"), "Scale"])
        for number, (name, person) in enumerate(zip(names, filled, strict=True), start=1):
            writer.writerow([number, name, *person.ravel(), 1.0])
    return path


def write_mpii_json(path: Path, points: np.ndarray, names: list[str]) -> Path:
    labelled = ~np.isnan(points).any(axis=-1)
    rows = [
        {"image": name, "joints": person.tolist(), "joints_vis": seen.astype(int).tolist(), "center": [1, 1], "scale": 1.0}
        for name, person, seen in zip(names, np.where(labelled[..., None], points, -1), labelled, strict=True)
    ]
    path.write_text(json.dumps(rows))
    return path


def write_mpii_h5(path: Path, points: np.ndarray, names: list[str], head: float = 12.5) -> Path:
    labelled = ~np.isnan(points).any(axis=-1)
    visible = labelled.astype(float)
    visible[0, 3] = 0  # Labelled, but not to be seen.
    with h5py.File(path, "w") as file:
        file["imgname"] = np.array([name.encode() for name in names])
        file["part"] = np.where(labelled[..., None], points, 0)
        file["visible"] = visible
        file["index"] = np.arange(len(names), dtype=float)
        file["person"] = np.zeros(len(names))
        file["normalize"] = np.full(len(names), head)
    return path


def _structs(rows: list[dict[str, Any]]) -> np.ndarray:
    fields = list(rows[0])
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for number, row in enumerate(rows):
        array[0, number] = tuple(row[field] for field in fields)
    return array


def write_mpii_mat(path: Path, points: np.ndarray, names: list[str]) -> Path:
    """RELEASE with its oddities: a test picture, a person without joints, visibility as number, text and empty."""
    empty = np.zeros((0, 0))
    pictures = []
    for number, (name, person) in enumerate(zip(names, points, strict=True)):
        rows: list[dict[str, Any]] = []
        for joint, (x, y) in enumerate(person):
            if not np.isnan(x):
                visible = empty if joint in (8, 9) else ("0" if joint == 3 else "1") if number else float(joint != 3)
                rows.append({"x": x, "y": y, "id": float(joint), "is_visible": visible})
        rects: list[dict[str, Any]] = [
            {"x1": 11.0, "y1": 21.0, "x2": 41.0, "y2": 61.0, "annopoints": {"point": _structs(rows)}, "scale": 1.0}
        ]
        if number == 0:
            rects.append({"x1": 1.0, "y1": 1.0, "x2": 2.0, "y2": 2.0, "annopoints": empty, "scale": empty})
        pictures.append({"image": {"name": name}, "annorect": _structs(rects)})
    pictures.append({"image": {"name": "test.jpg"}, "annorect": _structs([{"scale": 1.0}])})
    train = np.array([[1.0] * len(names) + [0.0]])
    scipy.io.savemat(path, {"RELEASE": {"annolist": _structs(pictures), "img_train": train}})
    return path


def coco(points: np.ndarray, names: list[str], joints: list[str]) -> dict[str, Any]:
    """A COCO document with 0-based points (N, J, 2), NaN without a label; ids from 1."""
    seen = ~np.isnan(points).any(axis=-1)
    triples = np.concatenate([np.where(seen[..., None], points, 0), np.where(seen, 2, 0)[..., None]], axis=-1)
    return {
        "images": [{"id": i, "file_name": n, "width": WIDTH, "height": HEIGHT} for i, n in enumerate(names, start=1)],
        "annotations": [
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "iscrowd": 0,
                "keypoints": row.ravel().tolist(),
                "bbox": [10, 10, 150, 120],
            }
            for i, row in enumerate(triples, start=1)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": joints}],
    }


def write_coco(path: Path, document: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path
