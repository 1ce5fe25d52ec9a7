"""What a pose network sees in crops, with the features that a judge looks at."""

import tempfile
from pathlib import Path

import numpy as np
from onnx import ModelProto

from posecov.geometry import crop_map, warp
from posecov.law import covariance_from_scatter
from posecov.learn.presence.graph import FEATURES
from posecov.learn.variants.graph import metadata_of
from posecov.model import BATCH, open_session


class Eye:
    """A model with its features (`graph.with_features`)."""

    def __init__(self, model: ModelProto, threads: int | None = 1):
        """Open it. ``threads``: of the network."""
        self.metadata = metadata_of(model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "features.onnx"
            path.write_bytes(model.SerializeToString())
            self._session = open_session(path, threads, ["CPUExecutionProvider"])

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keypoints (N, J, 2) and covariances (N, 2J, 2J), picture pixels, as the search has them; features (N, F) float32."""
        size, padding, exchanges = self.metadata.input_size, self.metadata.padding, self.metadata.exchanges
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.metadata.pixel_mean, self.metadata.pixel_std))
        matrix = "scatter" if exchanges else "covariance"
        parts: list[tuple[np.ndarray, ...]] = []
        for start in range(0, len(boxes), BATCH):
            maps = [crop_map(box, size, padding) for box in boxes[start : start + BATCH]]
            crops = np.stack([warp(image, one, size) for one in maps])
            given = (crops[..., ::-1].transpose(0, 3, 1, 2) - mean) / std
            points, matrices, features = self._session.run(["keypoints", matrix, FEATURES], {"image": given})
            back = [one.inverse() for one in maps]
            keypoints = np.stack([b.points(p.astype(np.float64)) for b, p in zip(back, points, strict=True)])
            spread = np.stack([b.covariance(m.astype(np.float64)) for b, m in zip(back, matrices, strict=True)])
            if exchanges:
                spread = covariance_from_scatter(spread, self.metadata.degrees_of_freedom)
            parts.append((keypoints, spread, features))
        keypoints, spread, features = (np.concatenate(found) for found in zip(*parts, strict=True))
        return keypoints, spread, features


class Recorder:
    """Looks for the search, and keeps every box with its features."""

    def __init__(self, eye: Eye, image: np.ndarray):
        """``eye``: who looks. ``image``: at what."""
        self._eye, self._image = eye, image
        self._boxes: list[np.ndarray] = []
        self._features: list[np.ndarray] = []

    def __call__(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `search.Predict`."""
        keypoints, covariance, features = self._eye(self._image, boxes)
        self._boxes.append(np.array(boxes))
        self._features.append(features)
        return keypoints, covariance

    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) and features (N, F) of all that was looked at, in order."""
        return np.concatenate(self._boxes), np.concatenate(self._features)
