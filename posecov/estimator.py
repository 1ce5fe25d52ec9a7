"""The one call: a picture in, poses with their covariance out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecov import coordinates, resources
from posecov.errors import PosecovError
from posecov.exchanges import coordinate_orders
from posecov.geometry import crop_map, warp
from posecov.images import pixels_of
from posecov.law import Law, covariance_from_scatter
from posecov.metadata import ModelMetadata
from posecov.mixture import Mixture
from posecov.model import BATCH, PRESENCE, PoseModel
from posecov.pose import Pose
from posecov.search import MOST, Found, Seen, find_people

SHIPPED = {"small": "weights/posecov-lsp14-small.onnx", "tiny": "weights/posecov-lsp14-tiny.onnx"}
"""Models that ship, by the names that stand for them; none of these names is a file."""

DEFAULT_MODEL = SHIPPED["small"]


class PoseEstimator:
    """Estimates poses in pictures.

    >>> estimator = PoseEstimator()  # doctest: +SKIP
    >>> for pose in estimator("photo.jpg"):  # doctest: +SKIP
    ...     print(pose.names, pose.keypoints, pose.sigma)

    Attributes:
        model: the opened network.
    """

    def __init__(self, model: str | Path | None = None, *, threads: int | None = None, providers: Sequence[str] | None = None):
        """Open a model.

        Args:
            model: an .onnx file that posecov exported, or ``small`` or ``tiny`` for one that ships; None takes the small one.
            threads: CPU threads of the network; None leaves it to ONNX Runtime.
            providers: ONNX Runtime's execution providers, best first; None takes the GPU if it loads, else the CPU.

        Raises:
            PosecovError: the file is not a posecov model, or a provider asked for does not load.
        """
        name = "small" if model is None else str(model)
        path = resources.find(SHIPPED[name]) if name in SHIPPED else name
        self.model = PoseModel(path, threads=threads, providers=providers)

    @property
    def metadata(self) -> ModelMetadata:
        """What the model says about itself: name, skeleton, crop, law."""
        return self.model.metadata

    def __call__(self, image: np.ndarray | str | Path, boxes: Any = None, *, most: int = MOST) -> list[Pose]:
        """Poses in a picture.

        Args:
            image: (H, W, 3) uint8, BGR as OpenCV gives it, or the path of a picture (`images.read_image`).
            boxes: (N, 4) x, y, width, height of the people, picture pixels. None searches for them (`find`).
            most: people to search for when there are no boxes; no more than `search.MOST` are found.

        Returns:
            One pose a box, in order; without boxes those found, or an empty list when nobody is.

        Raises:
            PosecovError: what was given is not such a picture or not such boxes.
        """
        pixels = pixels_of(image)
        if boxes is None:
            people = np.array([person.box for person in self.find(pixels, most)]).reshape(-1, 4)
        else:
            people = _checked_boxes(boxes)
        skeleton, freedom = self.metadata.skeleton, self.metadata.degrees_of_freedom
        outputs = self.outputs(pixels, people)
        try:
            if self.metadata.exchanges:
                laws = mixture_law(outputs, self.metadata)
                return [Pose.from_mixture(laws[index], skeleton, box) for index, box in enumerate(people)]
            pairs = zip(outputs["keypoints"], outputs["covariance"], people, strict=True)
            return [Pose(keypoints, covariance, skeleton, freedom, box) for keypoints, covariance, box in pairs]
        except PosecovError as error:
            raise PosecovError(f"{self.model.path}: {error}; export the model again") from None

    def find(self, image: np.ndarray | str | Path, most: int = MOST, least: float | None = None) -> list[Found]:
        """Where people are, by the pose network itself (`search`): a start, not a detector.

        Args:
            image: as for a call.
            most: how many at most.
            least: probability from which a person is believed; None takes what `search` takes.

        Returns:
            Their boxes, each with the probability that somebody is there; the best first, an empty list when nobody is.
        """
        pixels = pixels_of(image)
        height, width = pixels.shape[:2]
        return find_people(lambda b: self._leading(pixels, b), width, height, self.metadata.padding, most, least)

    def predict(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same as arrays.

        Args:
            image: (H, W, 3) uint8, BGR.
            boxes: (N, 4).

        Returns:
            Keypoints (N, J, 2) and covariances (N, 2J, 2J), symmetric, float64, picture pixels.
        """
        outputs = self.outputs(image, boxes)
        return outputs["keypoints"], outputs["covariance"]

    def presence(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray | None:
        """Probability that a person fills each of the boxes (N,), None from a model that does not tell. As for `predict`."""
        return self.outputs(image, boxes).get(PRESENCE)

    def _leading(self, image: np.ndarray, boxes: np.ndarray) -> Seen:
        """For the search: as `predict`, with the covariance that joints have when left and right are not confused, since where
        a person is, and how sure that is, does not depend on which leg is which; and the presence, if the model tells it."""
        outputs = self.outputs(image, boxes)
        covariance = outputs["covariance"]
        if self.metadata.exchanges:
            covariance = covariance_from_scatter(outputs["scatter"], self.metadata.degrees_of_freedom)
        return Seen(outputs["keypoints"], covariance, outputs.get(PRESENCE))

    def law(self, image: np.ndarray, boxes: np.ndarray) -> Law | Mixture:
        """The law of N people in picture pixels: a `Mixture` if the model has exchanges."""
        outputs = self.outputs(image, boxes)
        if self.metadata.exchanges:
            return mixture_law(outputs, self.metadata)
        means = coordinates.flatten(outputs["keypoints"])
        return Law.from_covariance(means, outputs["covariance"], self.metadata.degrees_of_freedom)

    def outputs(self, image: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
        """All outputs of the model (`PoseModel.outputs`) in picture pixels, matrices symmetric. Arguments as for `predict`."""
        size = self.metadata.input_size
        parts: list[dict[str, np.ndarray]] = []
        # Crops are made a batch at a time, so that a thousand boxes do not need a thousand crops in memory.
        for start in range(0, len(boxes), BATCH):
            maps = [crop_map(box, size, self.metadata.padding) for box in boxes[start : start + BATCH]]
            found = self.model.outputs(np.stack([warp(image, m, size) for m in maps]))
            for index, back in enumerate(crop.inverse() for crop in maps):
                found["keypoints"][index] = back.points(found["keypoints"][index])
                for name in {"covariance", "scatter"} & set(found):
                    matrix = back.covariance(found[name][index])
                    found[name][index] = (matrix + matrix.T) / 2
            parts.append(found)
        if not parts:
            return self.model.outputs(np.empty((0, size, size, 3), dtype=np.uint8))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def mixture_law(outputs: Mapping[str, np.ndarray], metadata: ModelMetadata) -> Mixture:
    """The law of N people from what a model with exchanges returned, in its pixels."""
    means, orders = coordinates.flatten(outputs["keypoints"]), coordinate_orders(metadata.exchanges)
    return Mixture.of_exchanges(means, outputs["scatter"], metadata.degrees_of_freedom, outputs["weights"], orders)


def _checked_boxes(boxes: Any) -> np.ndarray:
    try:
        array = np.array(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        raise PosecovError("boxes must be numbers (N, 4): x, y, width, height") from None
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        hint = "; write boxes=[box] for one" if array.shape == (4,) else ""
        raise PosecovError(f"boxes must be (N, 4): x, y, width, height, not {array.shape}{hint}")
    wrong = ~np.isfinite(array).all(axis=1) | (array[:, 2:] <= 0).any(axis=1)
    if wrong.any():
        index = int(wrong.argmax())
        raise PosecovError(f"box {index} is {array[index].tolist()}; it must be finite, with a positive width and height")
    return array
