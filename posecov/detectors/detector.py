"""People's boxes in a picture, by whatever detector an .onnx file holds."""

import ast
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecov.boxes import THRESHOLD
from posecov.detectors.layouts import LAYOUTS, Layout, person_class, recognise, values
from posecov.detectors.preparation import Fit, place, prepare
from posecov.errors import PosecovError
from posecov.images import pixels_of
from posecov.metadata import LARGEST_INPUT
from posecov.model import first_line, open_session

OVERLAP = 0.5
"""Intersection over union from which two boxes are one person, where the network does not decide that itself."""

_MOST_PICTURES = 64  # That a network may want at once.
_LONGEST_TEXT = 100_000  # Of what a file says about its classes.
_OTHERS = ("orig_target_sizes", "pixel_mask")  # Inputs besides the picture.
_PERSON = ("person", "people", "human", "pedestrian")
_SAY_CLASS = "say which one is a person (class_index=, --person-class)"
_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}
_log = logging.getLogger(__name__)


class PersonDetector:
    """Finds the people in pictures.

    >>> detector, estimator = PersonDetector("yolox_s.onnx"), PoseEstimator()  # doctest: +SKIP
    >>> boxes, scores = detector("photo.jpg")  # doctest: +SKIP
    >>> people = estimator("photo.jpg", boxes=boxes)  # doctest: +SKIP

    Attributes:
        path: the file.
        layout: what the file was recognised as, a name in `LAYOUTS`.
        preparation: what the network is fed (`Preparation`).
        names: of the classes, where the file has them.
        class_index: the class of a person.
        threshold: least score of a person.
        overlap: intersection over union from which two boxes are one person.
        providers: what the network really runs on, best first.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        layout: str | None = None,
        class_index: int | None = None,
        threshold: float = THRESHOLD,
        overlap: float = OVERLAP,
        size: int | None = None,
        fit: Fit | None = None,
        rgb: bool | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ):
        """Open a detector and find out what it is, by its outputs for a picture of noise.

        Args:
            path: an .onnx file of one of `LAYOUTS`.
            threads: CPU threads of the network; None leaves it to ONNX Runtime.
            providers: ONNX Runtime's execution providers, best first; None takes the GPU if it loads, else the CPU.
            layout: a name in `LAYOUTS`; None recognises it.
            class_index: the class of a person; None takes what the file or the layout says.
            threshold: least score of a person.
            overlap: intersection over union from which two boxes are one person; of no effect where the network decides that.
            size: longer side of the network's input, pixels, if it takes any; None is what the file or the layout says.
            fit: how a picture gets the input's size (`Preparation`).
            rgb: feed R, G, B; False feeds B, G, R.
            mean: of the channels, on the scale 0..255, in the order in which they are fed; one number for all or three.
            std: likewise; the input is (pixel - mean) / std, so that 255 feeds 0..1.

        Raises:
            PosecovError: the file cannot be opened, is of no known layout, or has no class that is a person.
        """
        if not (0 < threshold < 1 and 0 < overlap < 1):
            raise PosecovError(f"threshold and overlap must lie between 0 and 1, not {threshold:g} and {overlap:g}")
        if layout is not None and layout not in LAYOUTS:
            raise PosecovError(f"no layout of detectors is called {layout!r}; known are {', '.join(LAYOUTS)}")
        self.path, self.threshold, self.overlap = Path(path), float(threshold), float(overlap)
        self._session = open_session(self.path, threads, providers, "detector", "an export of a detector", beside=True)
        self.providers: list[str] = self._session.get_providers()
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.names = _class_names(metadata.get("names", ""))
        self._read_inputs()

        first = LAYOUTS[layout or ("yolov8" if self._batched else "torchvision")].preparation
        size = size or _longer_side(metadata.get("imgsz", ""))
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        probe, shape = self._run(noise, replace(first, size=size or first.size))
        found = layout or recognise(probe, list(self._others), shape, len(self.names) or None)
        picked = None if found is None else LAYOUTS[found].pick(probe)
        if found is None or picked is None:
            raise self._unknown(probe, layout)
        _log.info("%s: recognised as %s", self.path, found)
        self.layout, self._picked = found, picked
        changes: dict[str, Any] = {"size": size, "fit": fit, "rgb": rgb, "mean": _three(mean), "std": _three(std, above=0)}
        if self._kind == np.uint8:  # Pixels as they are; what is to be done with them is in the graph.
            changes |= {"mean": changes["mean"] or (0.0,) * 3, "std": changes["std"] or (1.0,) * 3}
        self.preparation = replace(self._layout.preparation, **{k: v for k, v in changes.items() if v is not None})
        arrays = values(probe, picked)
        self.class_index = self._person(class_index, arrays)
        try:
            self._layout.decode(arrays, shape, self.class_index)
        except ValueError:
            raise self._unknown(probe, layout) from None
        except IndexError:
            raise PosecovError(f"{self.path}: it has no class {self.class_index}; {_SAY_CLASS}") from None

    @property
    def _layout(self) -> Layout:
        return LAYOUTS[self.layout]

    def __call__(self, image: np.ndarray | str | Path) -> tuple[np.ndarray, np.ndarray]:
        """The people in a picture.

        Args:
            image: (H, W, 3) uint8, BGR as OpenCV gives it, or the path of a picture.

        Returns:
            Boxes (N, 4) x, y, width, height in picture pixels, inside the picture, as `PoseEstimator` takes them, and their
            scores (N,), the highest first; float64.

        Raises:
            PosecovError: what was given is no picture, or what the network returned is no such boxes and scores.
        """
        picture = pixels_of(image)
        height, width = picture.shape[:2]
        placement = place(height, width, self.preparation, self._fixed)
        outputs = self._outputs(prepare(picture, placement, self.preparation, self._kind))
        corners, scores = self._layout.decode(values(outputs, self._picked), placement.shape, self.class_index)
        if len(scores) and not (scores.min() >= -0.01 and scores.max() <= 1.01):
            raise PosecovError(
                f"{self.path}: its scores are not between 0 and 1, so that it is not of the layout {self.layout!r};"
                " say which it is of (layout=, --detector-layout)"
            )
        corners = np.clip(placement.to_picture(corners), 0, [width, height, width, height])
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        kept = (scores >= self.threshold) & np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= 1).all(axis=1)
        boxes, scores = boxes[kept], scores[kept]
        order = np.argsort(-scores, kind="stable")
        if self._layout.suppress and len(order):
            order = np.array(cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), self.threshold, self.overlap), dtype=int)
        return boxes[order], scores[order]

    def _read_inputs(self) -> None:
        """Which input takes the picture, in which size, and what the others are."""
        inputs = self._session.get_inputs()
        pictures = [i for i in inputs if i.type in _KINDS and i.name not in _OTHERS and _takes_picture(i.shape)]
        if len(pictures) != 1:
            said = ", ".join(f"{i.name} {_in_words(i.shape)}" for i in inputs)
            raise PosecovError(f"{self.path}: not a detector that takes a picture (1, 3, height, width); its inputs are {said}")
        picture = pictures[0]
        self._input, self._kind, self._batched = picture.name, np.dtype(_KINDS[picture.type]), len(picture.shape) == 4
        self._count = picture.shape[0] if self._batched and isinstance(picture.shape[0], int) else 1
        height, width = (side if isinstance(side, int) else None for side in picture.shape[-2:])
        self._fixed = (height, width)
        if max(height or 1, width or 1) > LARGEST_INPUT or not 1 <= self._count <= _MOST_PICTURES or 0 in self._fixed:
            raise PosecovError(
                f"{self.path}: takes {_in_words(picture.shape)}, which is no size for pictures; give another export"
            )
        self._others = {i.name: i for i in inputs if i is not picture}
        for name, other in self._others.items():
            if name not in _OTHERS:
                raise PosecovError(f"{self.path}: nothing is known about its input {name} {_in_words(other.shape)}")

    def _run(self, picture: np.ndarray, preparation: Any) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        """The outputs for a picture, and (height, width) of what was fed."""
        placement = place(picture.shape[0], picture.shape[1], preparation, self._fixed)
        return self._outputs(prepare(picture, placement, preparation, self._kind)), placement.shape

    def _outputs(self, blob: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for an input (3, H, W), by name."""
        height, width = blob.shape[1:]
        feed = {self._input: np.repeat(blob[None], self._count, axis=0) if self._batched else blob}
        for name, other in self._others.items():
            if name == "orig_target_sizes":  # Boxes come in these pixels: the input's.
                value = np.tile([width, height], (self._count, 1))
            else:  # Which pixels to look at: all.
                known = other.shape[1:]
                value = np.ones((self._count, *(s if isinstance(s, int) else blob.shape[1 + i] for i, s in enumerate(known))))
            feed[name] = value.astype(np.int64 if other.type == "tensor(int64)" else np.float32)
        try:
            found = self._session.run(None, feed)
        except Exception as error:  # ONNX Runtime raises a different class for every way in which a run can fail.
            _log.debug("%s", self.path, exc_info=True)
            said = f"{self.path}: does not run on a picture of {width} x {height} pixels ({first_line(error)})"
            raise PosecovError(said) from None
        names = (output.name for output in self._session.get_outputs())
        return {name: value for name, value in zip(names, found, strict=True) if isinstance(value, np.ndarray)}

    def _person(self, asked: int | None, arrays: Sequence[np.ndarray]) -> int:
        """The class of a person."""
        if asked is not None:
            if asked < 0 or (self.names and asked not in self.names):
                raise PosecovError(f"{self.path}: it has no class {asked}; {self._classes()}")
            return asked
        if not self.names:
            return person_class(self.layout, arrays)
        named = [index for index, name in self.names.items() if name.strip().lower() in _PERSON]
        if not named:
            raise PosecovError(f"{self.path}: none of its classes is a person; {self._classes()}; {_SAY_CLASS}")
        return named[0]

    def _classes(self) -> str:
        listed = [f"{index} {name}" for index, name in list(self.names.items())[:10]]
        return f"they are {', '.join(listed)}{', ...' if len(self.names) > 10 else ''}" if listed else "classes start at 0"

    def _unknown(self, outputs: dict[str, np.ndarray], asked: str | None) -> PosecovError:
        found = ", ".join(f"{name} {_in_words(array.shape)}" for name, array in outputs.items())
        if asked is not None:
            return PosecovError(f"{self.path}: not of the layout {asked!r}, {LAYOUTS[asked].outputs}: its outputs are {found}")
        known = "; ".join(f"{name} {layout.outputs}" for name, layout in LAYOUTS.items())
        return PosecovError(f"{self.path}: a detector of no known layout; its outputs are {found}; known are {known}")


def _class_names(text: str) -> dict[int, str]:
    """Names of classes by index, from what exporters write: a dictionary or a list in Python's or JSON's notation."""
    try:
        found = ast.literal_eval(text[:_LONGEST_TEXT])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    if isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        return {}
    try:
        return {int(index): str(name) for index, name in found.items()}
    except (TypeError, ValueError, OverflowError):
        return {}


def _longer_side(text: str) -> int | None:
    """Of the input for which a file was exported, from the metadata of Ultralytics."""
    try:
        sides = ast.literal_eval(text[:_LONGEST_TEXT])
        side = max(int(side) for side in (sides if isinstance(sides, list | tuple) else [sides]))
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
        return None
    return side if 0 < side <= LARGEST_INPUT else None


def _three(value: float | Sequence[float] | None, above: float = -np.inf) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = (float(value),) * 3 if isinstance(value, int | float) else tuple(float(v) for v in value)
    if len(numbers) != 3 or not all(above < number < np.inf for number in numbers):
        raise PosecovError(f"mean and std are one number or three, and std is positive, not {value!r}")
    return numbers


def _takes_picture(shape: Sequence[Any]) -> bool:
    return len(shape) in (3, 4) and (shape[-3] == 3 or not isinstance(shape[-3], int))


def _in_words(shape: Sequence[Any]) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"
