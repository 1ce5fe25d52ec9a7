"""A small drawn data set in COCO's form, and the recipe of a training on it that takes seconds: what trust is tried on."""

import json
from pathlib import Path

import cv2
import numpy as np
import yaml

WIDTH, HEIGHT = 96, 128
JOINTS = [
    "r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "r_wrist", "r_elbow", "r_shoulder", "l_shoulder",
    "l_elbow", "l_wrist", "neck", "head_top",
]  # fmt: skip
_STANDING = np.array(
    [[-11, 48], [-10, 27], [-8, 5], [8, 5], [10, 27], [11, 48], [-24, 5], [-20, -13], [-11, -27], [11, -27]]
    + [[20, -13], [24, 5], [0, -31], [0, -47]],
    dtype=float,
)  # fmt: skip


def write_people(folder: Path, training: int = 48, validation: int = 50, seed: int = 0) -> tuple[Path, Path]:
    """Draw everybody a picture of their own, a coloured dot for each joint.

    Args:
        folder: made; gets ``images/``, ``train.json`` and ``validation.json``.
        training, validation: how many people.

    Returns:
        The two annotation files.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    files = []
    for name, count in (("train", training), ("validation", validation)):
        images, annotations = [], []
        for number in range(1, count + 1):
            points = _pose(rng)
            file_name = f"{name}{number:04d}.png"
            cv2.imwrite(str(folder / "images" / file_name), _picture(points, rng))
            images.append({"id": number, "file_name": file_name, "width": WIDTH, "height": HEIGHT})
            keypoints = np.column_stack([points, np.full(len(points), 2)]).ravel().tolist()
            annotations.append({"id": number, "image_id": number, "category_id": 1, "keypoints": keypoints})
        categories = [{"id": 1, "name": "person", "keypoints": JOINTS}]
        path = folder / f"{name}.json"
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        files.append(path)
    return files[0], files[1]


def write_recipe(path: Path, people: tuple[Path, Path], mean: int = 2, phase1: int = 1, phase2: int = 2) -> Path:
    """A toy network at 64 px on those people, with so many epochs of each part; one thread, on the CPU."""
    recipe = {
        "name": "drawn",
        "threads": 1,
        "device": "cpu",
        "data": {
            "root": str(path.parent), "datasets": [str(people[0])], "repeat": [1], "validation_from": str(people[1]),
            "validation_count": 50,
        },
        "model": {
            "backbone": "test_efficientnet", "pretrained": False, "input_size": 64, "frozen_stages": -1, "channels": 16,
            "latent": 6, "basis": 4, "hidden": 16, "rank": 2,
        },
        "mean": {"epochs": mean, "batch": 16, "warmup": 2},
        "pseudo_labels": {"neighbours": 20, "dimensions": 4},
        "covariance": {"views": 1, "phase1_epochs": phase1, "phase2_epochs": phase2, "batch": 16, "warmup": 2},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def _pose(rng: np.random.Generator) -> np.ndarray:
    """(14, 2) pixels."""
    angle, scale = rng.normal(0, 0.1), rng.uniform(0.7, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (_STANDING + rng.normal(0, 2, _STANDING.shape)) @ turn.T * scale + [WIDTH / 2, HEIGHT / 2]
    return np.clip(points, 2, [WIDTH - 3, HEIGHT - 3])


def _picture(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8."""
    image = rng.integers(25, 55, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for index, (x, y) in enumerate(points):
        colour = cv2.cvtColor(np.array([[[index * 12, 255, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
        cv2.circle(image, (round(x), round(y)), 3, [int(c) for c in colour], -1, cv2.LINE_AA)
    return image
