"""The page's built-in picture with its pose, and the numbers that its tests compare with: ``python tools/web_sample.py``.

Writes three files under ``deploy/web``, from scikit-image's astronaut.png (NASA, public domain) and the shipped tiny model:

- ``public/sample.jpg``, the picture;
- ``src/sample.json``, its pose as the network gives it, which the page shows before it has loaded a model, and against which
  it tests a browser's backends;
- ``tests/fixture.json``, what posecov says about that pose: conditionals, regions, ellipses, expected errors, crops, windows.

Run it again when the tiny model changes.
"""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecov import PoseEstimator, law
from posecov.commands.demo import demo_photos
from posecov.components import plain
from posecov.following import correlations, gains
from posecov.geometry import crop_map, warp
from posecov.images import read_image
from posecov.metadata import ModelMetadata
from posecov.output import picture_document, write_json
from posecov.pose import Pose
from posecov.regions import area
from posecov.search import consistency_of, person_boxes, together, windows

WEB = Path(__file__).resolve().parent.parent / "deploy" / "web"
BOX = (20.0, 10.0, 400.0, 900.0)  # Drawn by hand: she goes on below the picture.
KNOWN: list[dict[str, tuple[float, float]]] = [
    {"r_wrist": (70.0, 420.0)},
    {"l_wrist": (330.0, 300.0), "head_top": (220.0, 40.0)},
    {"r_knee": (300.0, 380.0)},
    {"r_shoulder": (420.0, 60.0)},
]
MASSES = (0.5, 0.9)


def main() -> None:
    """Write the three files."""
    (WEB / "public").mkdir(exist_ok=True)
    picture = WEB / "public" / "sample.jpg"
    cv2.imwrite(str(picture), read_image(demo_photos()[0]), [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    estimator = PoseEstimator("tiny", threads=1)
    facts = facts_of(estimator.metadata)
    image = read_image(picture)
    outputs = estimator.outputs(image, np.array([BOX]))
    pose = estimator(image, [BOX])[0]
    height, width = image.shape[:2]
    sample = {
        "image": "sample.jpg",
        "width": width,
        "height": height,
        "box": list(BOX),
        "model": facts,
        **{key: plain(outputs[key][0]) for key in ("keypoints", "scatter", "weights")},
    }
    write_json(WEB / "src" / "sample.json", sample)
    fixture = {
        "poses": [pose_numbers(pose.condition(known)) | {"known": known} for known in [{}, *KNOWN]],
        "document": picture_document("sample.jpg", width, height, estimator.metadata.name, MASSES[0], [pose]),
        "conditioned_document": picture_document(
            "sample.jpg", width, height, estimator.metadata.name, MASSES[0], [pose.condition(KNOWN[1])]
        ),
        "expected_distances": distances(),
        "crops": crops(estimator.metadata),
        "search": search_numbers(outputs, facts),
    }
    write_json(WEB / "tests" / "fixture.json", fixture)


def facts_of(metadata: ModelMetadata) -> dict[str, Any]:
    """A model's metadata, but for its description."""
    fields = json.loads(metadata.to_json())
    del fields["description"]
    return dict(fields)


def pose_numbers(pose: Pose) -> dict[str, Any]:
    """What a pose answers."""
    free = [name for name in pose.names if name not in pose.known]
    picked = pose.skeleton.index(free[0])
    return {
        "keypoints": pose.keypoints.tolist(),
        "covariance": pose.covariance.tolist(),
        "degrees_of_freedom": pose.degrees_of_freedom,
        "weights": pose.components.weights.tolist() if pose.components else [1.0],
        "expected_error": pose.expected_error.tolist(),
        "alternatives": [{"probability": p, "keypoints": other.keypoints.tolist()} for other, p in pose.alternatives],
        "ellipses": {str(mass): {name: ellipse(pose, name, mass) for name in free} for mass in MASSES},
        "regions": {str(mass): {name: [area(part) for part in pose.region(name, mass)] for name in free} for mass in MASSES},
        "gains": gains(pose.scatter, picked).tolist(),
        "correlations": correlations(pose.scatter, picked).tolist(),
    }


def ellipse(pose: Pose, name: str, mass: float) -> list[float]:
    """Longer and shorter semi-axis, angle."""
    _, axes, angle = pose.ellipse(name, mass)
    return [float(axes[0]), float(axes[1]), float(angle)]


def distances() -> list[dict[str, Any]]:
    """Expected distances from places beside a mean, also for a Gaussian (null)."""
    rows = []
    for nu in (2.5, 14.4, np.inf):
        for offset in ((0.0, 0.0), (3.0, -1.0), (40.0, 25.0)):
            scatter = np.array([[9.0, 4.0], [4.0, 16.0]])
            found = float(law.expected_distance(np.array(offset), scatter, nu))
            rows.append(
                {"nu": nu if np.isfinite(nu) else None, "offset": offset, "scatter": scatter.tolist(), "distance": found}
            )
    return rows


def drawn(width: int, height: int) -> np.ndarray:
    """A picture (height, width, 3) that the tests draw anew: waves in B, G, R."""
    y, x = np.mgrid[:height, :width]
    waves = [127.5 + 127.5 * np.sin(x / a + y / b) for a, b in ((9.0, 17.0), (5.0, -23.0), (31.0, 3.7))]
    return np.round(np.stack(waves, axis=-1)).astype(np.uint8)


def crops(metadata: ModelMetadata) -> list[dict[str, Any]]:
    """Boxes with their crop maps, and the crops of a drawn picture at every 13th pixel."""
    rows = []
    for width, height, box in (
        (300, 200, (40.0, 20.0, 120.0, 150.0)),
        (300, 200, (-60.0, 30.0, 100.0, 90.0)),
        (900, 700, (100.0, 50.0, 500.0, 610.0)),
        (640, 960, (0.0, 0.0, 640.0, 960.0)),
    ):
        crop = crop_map(np.array(box), metadata.input_size, metadata.padding)
        pixels = warp(drawn(width, height), crop, metadata.input_size)[::13, ::13]
        rows.append({"width": width, "height": height, "box": box, "map": crop.matrix.tolist(), "pixels": pixels.tolist()})
    return rows


def search_numbers(outputs: dict[str, np.ndarray], facts: dict[str, Any]) -> dict[str, Any]:
    """Windows of some pictures; boxes of poses; the consistency of a network that is drawn."""
    covariance = law.covariance_from_scatter(outputs["scatter"], facts["degrees_of_freedom"])

    def predict(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Half of the pose follows the crop, half of it stays.
        shift = 0.5 * (boxes[:, None, :2] - np.array(BOX[:2])) * (np.arange(14)[:, None] % 2)
        return outputs["keypoints"] + shift, np.repeat(covariance / 9, len(boxes), axis=0)

    sizes = ((512, 512), (640, 360), (300, 1200), (5000, 40))
    return {
        "windows": {f"{w}x{h}": windows(w, h, facts["padding"]).tolist() for w, h in sizes},
        "person_box": person_boxes(outputs["keypoints"], covariance)[0].tolist(),
        "consistency": float(consistency_of(predict, np.array([BOX]))[0]),
        "together": [
            {"presence": p, "consistency": c, "probability": float(together(np.array([p]), np.array([c]))[0])}
            for p, c in ((0.9, 0.6), (0.3, 0.7), (0.95, 0.3), (0.0, 0.0), (1.0, 1.0))
        ],
    }


if __name__ == "__main__":
    main()
