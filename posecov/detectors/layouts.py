"""The layouts that detectors come in: what goes in, what comes out, and by what a file is recognised.

Preparations are those with which each family's own code feeds its exports.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from posecov.detectors import decoding
from posecov.detectors.decoding import Decode, grid
from posecov.detectors.preparation import Preparation

Outputs = Mapping[str, np.ndarray]
"""A network's outputs by name, as they come, batch axis included."""

_UNIT = (255.0, 255.0, 255.0)
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_COCO_IDS = (91, 92)  # Logits of networks whose classes are COCO's category ids, without and with one for nothing.


@dataclass(frozen=True)
class Layout:
    """One way in which detectors are exported.

    Attributes:
        outputs: what comes out, in words.
        preparation: what goes in.
        pick: the outputs that count, without their batch axis, None when they are not there.
        decode: how they are read.
        suppress: whether the same person comes several times, so that overlapping boxes must go.
        person: class of a person where the file does not name its classes.
    """

    outputs: str
    preparation: Preparation
    pick: Callable[[Outputs], list[np.ndarray] | None]
    decode: Decode
    suppress: bool = False
    person: int = 0


def recognise(outputs: Outputs, other_inputs: Sequence[str], shape: tuple[int, int], classes: int | None) -> str | None:
    """The name of a layout, None when it is none of `LAYOUTS`.

    Args:
        outputs: what came out for a grey picture.
        other_inputs: names of the inputs besides the picture.
        shape: (height, width) of the picture's input.
        classes: how many the file names, if it does.
    """
    if _corners_classes_scores(outputs) is not None:
        batched = next(iter(outputs.values())).ndim > 1 and all(array.shape[0] == 1 for array in outputs.values())
        if other_inputs:
            return "rt-detr"
        return "torchvision" if not batched or _has_flat_scores(outputs) else None
    if _scored_corners(outputs) is not None:
        return "rtmdet"
    if (queries := _queries(outputs)) is not None:
        return _kind_of_queries(outputs, queries, other_inputs, shape)
    table = _table(outputs)
    return None if table is None else _kind_of_table(table[0], shape, classes)


def _kind_of_table(table: np.ndarray, shape: tuple[int, int], classes: int | None) -> str | None:
    rows, columns = table.shape
    if columns >= 6 and (places := grid(rows, shape)) is not None:
        return _kind_of_grid(table, places)
    if columns >= 6 and grid(rows, shape, anchors=3) is not None:
        return "yolov5"
    if rows >= 5 and grid(columns, shape) is not None:
        return "yolov8"
    if classes is not None and columns == 4 + classes and columns != 6:
        return "rt-detr-ultralytics"
    # Exports of networks for outlines and keypoints have more columns; those of YOLO name their classes.
    return "yolo-nms-free" if columns == 6 or (columns > 6 and classes is not None) else None


def _kind_of_grid(table: np.ndarray, places: np.ndarray) -> str:
    """One box a place, with objectness: relative to the place, or decoded already."""
    if np.allclose(table[:, 4], 1.0, atol=1e-6):
        return "yolov5"  # YOLOv6: no objectness of its own, fed as YOLOv5 is.
    decoded = np.median(np.abs(table[:, :2] - (places[:, :2] + 0.5) * places[:, 2:]) / places[:, 2:])
    raw = np.median(np.abs(table[:, :2] - 0.5))
    return "yolox-decoded" if decoded < raw else "yolox"


def _kind_of_queries(
    outputs: Outputs, queries: list[np.ndarray], other_inputs: Sequence[str], shape: tuple[int, int]
) -> str | None:
    boxes, logits = queries
    if grid(len(boxes), shape) is not None or boxes.min() < -0.5 or boxes.max() > 1.5:
        return None  # Boxes in pixels at the places of a grid: another family.
    if logits.shape[1] == 92 or "pixel_mask" in other_inputs:
        return "detr"
    return "rf-detr" if "dets" in outputs or logits.shape[1] == 91 else "rt-detr-logits"


def person_class(name: str, picked: Sequence[np.ndarray]) -> int:
    """The class of a person in a layout, where the file does not name its classes."""
    if LAYOUTS[name].pick is _queries:
        return int(picked[1].shape[1] in _COCO_IDS)
    return LAYOUTS[name].person


def _table(outputs: Outputs) -> list[np.ndarray] | None:
    """The only output with rows and columns; others may be maps (outlines) or raw heads, with more axes."""
    tables = [array for array in outputs.values() if array.ndim == 3]
    others = [array for array in outputs.values() if array.ndim < 3]
    return [tables[0][0]] if len(tables) == 1 and not others and tables[0].dtype.kind == "f" else None


def _scored_corners(outputs: Outputs) -> list[np.ndarray] | None:
    boxes = [a for a in outputs.values() if a.ndim == 3 and a.shape[2] == 5 and a.dtype.kind == "f"]
    classes = [a for a in outputs.values() if a.ndim == 2 and a.dtype.kind in "iu"]
    if len(boxes) != 1 or len(classes) != 1 or boxes[0].shape[:2] != classes[0].shape:
        return None
    return [boxes[0][0], classes[0][0]]


def _corners_classes_scores(outputs: Outputs) -> list[np.ndarray] | None:
    flat = [a[0] if a.ndim > 1 and (a.shape[-1] != 4 or a.ndim == 3) and a.shape[0] == 1 else a for a in outputs.values()]
    boxes = [a for a in flat if a.ndim == 2 and a.shape[1] == 4 and a.dtype.kind == "f"]
    classes = [a for a in flat if a.ndim == 1 and a.dtype.kind in "iu"]
    scores = [a for a in flat if a.ndim == 1 and a.dtype.kind == "f"]
    if not len(boxes) == len(classes) == len(scores) == 1 or not len(boxes[0]) == len(classes[0]) == len(scores[0]):
        return None
    return [boxes[0], classes[0], scores[0]]


def _has_flat_scores(outputs: Outputs) -> bool:
    return any(array.ndim == 1 and array.dtype.kind == "f" for array in outputs.values())


def _queries(outputs: Outputs) -> list[np.ndarray] | None:
    """By name: a network for three classes and nothing has logits of the shape of boxes."""
    tables = {name: array for name, array in outputs.items() if array.ndim == 3 and array.dtype.kind == "f"}
    boxes = next((tables[name] for name in ("pred_boxes", "dets", "boxes") if name in tables), None)
    logits = next((tables[name] for name in ("logits", "pred_logits", "labels", "scores") if name in tables), None)
    if boxes is None or logits is None or boxes.shape[2] != 4 or boxes.shape[:2] != logits.shape[:2]:
        return None
    return [boxes[0], logits[0]]


_YOLOX = Preparation("corner")
_YOLO = Preparation("centre", std=_UNIT, rgb=True)

LAYOUTS: dict[str, Layout] = {
    "yolox": Layout("(1, A, 5 + C), not decoded", _YOLOX, _table, decoding.raw_grid_rows, suppress=True),
    "yolox-decoded": Layout("(1, A, 5 + C), decoded", _YOLOX, _table, decoding.objectness_rows, suppress=True),
    "yolov5": Layout("(1, A, 5 + C), three boxes a place", _YOLO, _table, decoding.objectness_rows, suppress=True),
    "yolov8": Layout("(1, 4 + C, A)", _YOLO, _table, decoding.class_columns, suppress=True),
    "yolo-nms-free": Layout("(1, N, 6)", _YOLO, _table, decoding.finished_rows),
    "rtmdet": Layout(
        "dets (1, N, 5) and labels (1, N)",
        Preparation("corner", mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)),
        _scored_corners,
        decoding.scored_corners,
    ),
    "yolox-mmdeploy": Layout("the same, by name only", _YOLOX, _scored_corners, decoding.scored_corners),
    "torchvision": Layout(
        "boxes (N, 4), labels (N), scores (N)",
        Preparation("whole", std=_UNIT, rgb=True, fill=0.0, size=1333),
        _corners_classes_scores,
        decoding.corners_classes_scores,
        person=1,
    ),
    "rt-detr": Layout(
        "labels, boxes, scores of 'images' and 'orig_target_sizes'",
        Preparation("stretch", std=_UNIT, rgb=True),
        _corners_classes_scores,
        decoding.corners_classes_scores,
    ),
    "rt-detr-ultralytics": Layout(
        "(1, N, 4 + C) with named classes", Preparation("stretch", std=_UNIT, rgb=True), _table, decoding.relative_rows
    ),
    "rt-detr-logits": Layout(
        "logits (1, N, C) and pred_boxes (1, N, 4)",
        Preparation("stretch", std=_UNIT, rgb=True),
        _queries,
        decoding.sigmoid_queries,
    ),
    "rf-detr": Layout(
        "dets (1, N, 4) and labels (1, N, C)",
        Preparation("stretch", *_IMAGENET, rgb=True),
        _queries,
        decoding.sigmoid_queries,
    ),
    "detr": Layout(
        "logits (1, N, 92) and pred_boxes (1, N, 4)",
        Preparation("corner", *_IMAGENET, rgb=True, fill=116.0, size=1056),
        _queries,
        decoding.softmax_queries,
    ),
}
"""By name: A places, N boxes, C classes."""
