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

Names = tuple[str, ...] | None

_UNIT = (255.0, 255.0, 255.0)
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_COCO_IDS = (91, 92)  # Logits of networks whose classes are COCO's category ids, without and with one for nothing.


@dataclass(frozen=True)
class Layout:
    """One way in which detectors are exported.

    Attributes:
        outputs: what comes out, in words.
        preparation: what goes in.
        pick: the names of the outputs that count, in the order in which they are decoded, None when they are not there.
        decode: how they are read.
        suppress: whether the same person comes several times, so that overlapping boxes must go.
        person: class of a person where the file does not name its classes.
    """

    outputs: str
    preparation: Preparation
    pick: Callable[[Outputs], Names]
    decode: Decode
    suppress: bool = False
    person: int = 0


def recognise(outputs: Outputs, other_inputs: Sequence[str], shape: tuple[int, int], classes: int | None) -> str | None:
    """The name of a layout, None when it is none of `LAYOUTS`.

    Args:
        outputs: what came out for some picture.
        other_inputs: names of the inputs besides the picture.
        shape: (height, width) of the picture's input.
        classes: how many the file names, if it does.
    """
    if names := _corners_classes_scores(outputs):
        return "rt-detr" if "orig_target_sizes" in other_inputs else "torchvision" if outputs[names[0]].ndim == 2 else None
    if _scored_corners(outputs):
        return "rtmdet"
    if names := _queries(outputs):
        boxes, logits = values(outputs, names)
        return _kind_of_queries("dets" in names, boxes, logits, "pixel_mask" in other_inputs, shape)
    if names := _table(outputs):
        return _kind_of_table(values(outputs, names)[0], shape, classes)
    return None


def values(outputs: Outputs, names: Sequence[str]) -> list[np.ndarray]:
    """The outputs of these names for the first picture, without the batch axis where there is one; float64."""
    arrays = [outputs[name].astype(np.float64) for name in names]
    return [array[0] for array in arrays] if arrays[0].ndim == 3 else arrays


def person_class(name: str, picked: Sequence[np.ndarray]) -> int:
    """The class of a person in a layout, where the file does not name its classes; from the outputs that were picked."""
    if LAYOUTS[name].pick is _queries:
        return int(picked[1].shape[1] in _COCO_IDS)
    return LAYOUTS[name].person


def _kind_of_table(table: np.ndarray, shape: tuple[int, int], classes: int | None) -> str | None:
    rows, columns = table.shape
    if columns >= 6 and (places := grid(rows, shape)) is not None:
        return _kind_of_grid(table, places)
    if columns >= 6 and grid(rows, shape, anchors=3) is not None:
        return "yolov5"
    if rows >= 5 and grid(columns, shape) is not None:
        return "yolov8"
    if classes is not None and columns == 4 + classes and 0 < table[:, :4].max(initial=0) <= 1.5:
        return "rt-detr-ultralytics"  # Boxes are shares of the input's sides; those that are finished are in pixels.
    # Networks that also give outlines or keypoints have more columns; those of YOLO name their classes.
    return "yolo-nms-free" if columns == 6 or (columns > 6 and classes is not None) else None


def _kind_of_grid(table: np.ndarray, places: np.ndarray) -> str:
    """One box a place, with objectness: relative to the place, or decoded already."""
    if np.allclose(table[:, 4], 1.0, atol=1e-6):
        return "yolov5"  # YOLOv6: no objectness of its own, fed as YOLOv5 is.
    decoded = np.median(np.abs(table[:, :2] - (places[:, :2] + 0.5) * places[:, 2:]) / places[:, 2:])
    raw = np.median(np.abs(table[:, :2] - 0.5))
    return "yolox-decoded" if decoded < raw else "yolox"


def _kind_of_queries(dets: bool, boxes: np.ndarray, logits: np.ndarray, mask: bool, shape: tuple[int, int]) -> str | None:
    """Boxes relative to the picture with logits; ``dets`` is a name that only RF-DETR gives them, ``mask`` an input of DETR."""
    if grid(len(boxes), shape) is not None or ((boxes < -0.5) | (boxes > 1.5)).any():
        return None  # Boxes in pixels at the places of a grid: another family.
    if logits.shape[1] == 92 or mask:
        return "detr"
    return "rf-detr" if dets or logits.shape[1] == 91 else "rt-detr-logits"


def _table(outputs: Outputs) -> Names:
    """The only output with rows and columns; others may be maps (outlines) or raw heads, with more axes."""
    flat = [name for name, array in outputs.items() if array.ndim <= 3]
    return tuple(flat) if len(flat) == 1 and outputs[flat[0]].ndim == 3 and outputs[flat[0]].dtype.kind == "f" else None


def _scored_corners(outputs: Outputs) -> Names:
    for boxes, array in outputs.items():
        if array.ndim == 3 and array.shape[2] == 5 and array.dtype.kind == "f":
            classes = [name for name, a in outputs.items() if a.dtype.kind in "iu" and a.shape == array.shape[:2]]
            return (boxes, classes[0]) if len(classes) == 1 else None
    return None


def _corners_classes_scores(outputs: Outputs) -> Names:
    """By shape, batched or not: torch names outputs by numbers unless told otherwise."""
    for boxes, array in sorted(outputs.items(), key=lambda item: -item[1].ndim):
        if array.ndim in (2, 3) and array.shape[-1] == 4 and array.dtype.kind == "f":
            classes = [name for name, a in outputs.items() if a.dtype.kind in "iu" and a.shape == array.shape[:-1]]
            scores = [name for name, a in outputs.items() if a.dtype.kind == "f" and a.shape == array.shape[:-1]]
            if len(classes) == len(scores) == 1:
                return (boxes, classes[0], scores[0])
    return None


def _queries(outputs: Outputs) -> Names:
    """By name: a network for three classes and nothing has logits of the shape of boxes."""
    tables = [name for name, array in outputs.items() if array.ndim == 3 and array.dtype.kind == "f"]
    boxes = next((name for name in ("pred_boxes", "dets", "boxes") if name in tables), None)
    logits = next((name for name in ("logits", "pred_logits", "labels", "scores") if name in tables), None)
    if boxes is None or logits is None or outputs[boxes].shape != (*outputs[logits].shape[:2], 4):
        return None
    return (boxes, logits)


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
