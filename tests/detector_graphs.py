"""Small detectors for tests: .onnx files, one for every layout, that find a red rectangle on a grey picture.

What they measure is where the red is in their input, to a fraction of a pixel, so that a wrong size, place, channel order or
normalisation gives a wrong box. Besides that person they return the same box with a score of 0.2, something else at a fixed
place with a score of 0.95, and, where the layout leaves such boxes in, a second box on the person, a little beside it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = (256, 320)
"""Height and width of a fixed input."""

Fed = tuple[int, Sequence[float], Sequence[float]]
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
BGR, RGB = (2, (0, 0, 0), (1, 1, 1)), (0, (0, 0, 0), (255, 255, 255))

FED: dict[str, Fed] = {
    "yolox": BGR,
    "yolox-decoded": BGR,
    "yolov5": RGB,
    "yolov8": RGB,
    "yolo-nms-free": RGB,
    "rtmdet": (2, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
    "yolox-mmdeploy": BGR,
    "torchvision": RGB,
    "rt-detr": RGB,
    "rt-detr-ultralytics": RGB,
    "rt-detr-logits": RGB,
    "rf-detr": (0, *IMAGENET),
    "detr": (0, *IMAGENET),
}
"""By layout: the channel that is red, and mean and standard deviation of the channels, as the families document them."""

LEAVES_TWINS = ("yolox", "yolox-decoded", "yolov5", "yolov8")
CLASSES = {"rt-detr-logits": 80, "rf-detr": 91, "detr": 92}
PERSON = {"torchvision": 1, "rf-detr": 1, "detr": 1}
_SEEN = 120.0  # Grey level from which something is red: above the grey that inputs are filled up with.
_ELSEWHERE = (40.0, 40.0, 30.0, 30.0)


class Graph:
    """An ONNX graph in the making: operators are methods that return the name of their output; numbers become constants."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __getattr__(self, operator: str) -> Any:
        def add(*inputs: Any, **attributes: Any) -> str:
            name = f"{operator}_{len(self.nodes)}"
            names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
            self.nodes.append(helper.make_node(operator, names, [name], **attributes))
            return name

        return add

    def constant(self, value: Any) -> str:
        array = np.array(value, dtype=np.int64 if isinstance(value, int | list) else np.float32)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def table(self, rows: Sequence[Sequence[Any]]) -> str:
        """(n, m) of n rows, each a sequence of names of vectors, and of numbers."""
        vectors = [self.Concat(*(part if isinstance(part, str) else (part,) for part in row), axis=0) for row in rows]
        return self.Concat(*(self.Unsqueeze(vector, [0]) for vector in vectors), axis=0)

    def batch(self, value: str) -> str:
        return self.Unsqueeze(value, [0])

    def corners(self, boxes: str) -> str:
        """Of boxes (n, 4) centre x, centre y, width, height."""
        return self.MatMul(boxes, np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]]))


def write_detector(
    path: Path,
    layout: str,
    *,
    size: tuple[int, int] | None = SIZE,
    fed: Fed | None = None,
    person: int | None = None,
    score: float = 0.9,
    batch: Any = 1,
    kind: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
    renamed: bool = False,
) -> Path:
    """Write a detector.

    Args:
        path: of the file.
        layout: a name in `FED`.
        size: (height, width) of the input; None takes any.
        fed: another channel and normalisation than the family's.
        person: class of the person; None is the family's.
        score: of the person.
        batch: of the input; None leaves the axis out.
        kind: of the numbers in the input.
        metadata: of the file.
        renamed: call the outputs 11, 12, ..., as torch does.
    """
    g = Graph()
    channel, mean, std = fed or FED[layout]
    picture = g.Cast("images", to=TensorProto.FLOAT)
    picture = g.Unsqueeze(picture, [0]) if batch is None else g.Slice(picture, [0], [1], [0])
    red = g.Add(g.Mul(g.Gather(picture, channel, axis=1), float(std[channel])), float(mean[channel]))
    red = g.Clip(g.Div(g.Sub(red, _SEEN), 255 - _SEEN), 0.0, 1.0)
    places, sides, ends = [], [], []
    for axis in (1, 2):  # Seen from above, then from the side.
        line = g.ReduceMax(red, [axis], keepdims=0)
        ones = g.Add(g.Mul(line, 0.0), 1.0)
        side = g.ReduceSum(line, [1], keepdims=0)
        middles = g.Sub(g.CumSum(ones, 1), 0.5)
        places.append(g.Div(g.ReduceSum(g.Mul(line, middles), [1], keepdims=0), g.Add(side, 1e-6)))
        sides.append(side)
        ends.append(g.ReduceSum(ones, [1], keepdims=0))
    box = g.Concat(*places, *sides, axis=0)
    ends = g.Concat(*ends, *ends, axis=0)
    me = PERSON.get(layout, 0) if person is None else person
    found = [(box, score, me), (g.constant(_ELSEWHERE), 0.95, me + 1), (box, 0.2, me)]
    if layout in LEAVES_TWINS:
        found.insert(1, (g.Add(box, (2.0, 1.0, 0.0, 0.0)), 0.9 * score, me))
    outputs = _outputs(g, layout, found, ends, size)

    inputs = [helper.make_tensor_value_info("images", kind, [*([] if batch is None else [batch]), 3, *(size or ("h", "w"))])]
    if layout == "rt-detr":
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [batch, 2]))
    if layout == "detr":
        inputs.append(helper.make_tensor_value_info("pixel_mask", TensorProto.INT64, [batch, 64, 64]))
        outputs["last_hidden_state"] = g.Cast(g.Mul("pixel_mask", 2), to=TensorProto.FLOAT)
    names = [str(11 + index) for index in range(len(outputs))] if renamed else list(outputs)
    g.nodes += [helper.make_node("Identity", [value], [name]) for name, value in zip(names, outputs.values(), strict=True)]
    whole = [layout != "detr" and what == "labels" and layout != "rf-detr" for what in outputs]
    kinds = [TensorProto.INT64 if integer else TensorProto.FLOAT for integer in whole]
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(names, kinds, strict=True)]
    graph = helper.make_graph(g.nodes, "detector", inputs, results, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def _outputs(
    g: Graph, layout: str, found: Sequence[tuple[str, float, int]], ends: str, size: tuple[int, int] | None
) -> dict[str, str]:
    """Names of the values that are the outputs of a layout, by their usual names."""
    boxes = g.table([[box] for box, _, _ in found])
    scores, classes = [score for _, score, _ in found], [index for _, _, index in found]
    width = CLASSES.get(layout, max(classes) + 1)
    each = np.zeros((len(found), width))
    each[np.arange(len(found)), classes] = scores
    if layout == "yolov8":
        few = g.Concat(boxes, each, axis=1)
        cells = (
            21 * (size[0] * size[1] // 1024) if size else g.Div(g.Mul(g.Cast(_area(g, ends), to=TensorProto.INT64), 21), [1024])
        )
        rest = g.Concat(g.Sub(cells if isinstance(cells, str) else [cells], [len(found)]), [4 + width], axis=0)
        return {"output0": g.Transpose(g.batch(g.Concat(few, g.Expand(0.0, rest), axis=0)), perm=[0, 2, 1])}
    if layout in LEAVES_TWINS:
        grid = _grid(size or SIZE)
        here = grid[: len(found)]
        rest = np.zeros((len(grid) * (3 if layout == "yolov5" else 1) - len(found), 5 + width))
        if layout == "yolox":
            away = g.Sub(g.Div(g.Slice(boxes, [0], [2], [1]), here[:, 2:]), here[:, :2])
            boxes = g.Concat(away, g.Log(g.Add(g.Div(g.Slice(boxes, [2], [4], [1]), here[:, 2:]), 1e-9)), axis=1)
        if layout == "yolox-decoded":
            places = grid[len(found) :]
            rest[:, :4] = np.concatenate([(places[:, :2] + 0.5) * places[:, 2:], np.repeat(places[:, 2:], 2, axis=1)], axis=1)
        few = g.Concat(boxes, np.full((len(found), 1), 0.96), each / 0.96, axis=1)
        return {"output": g.batch(g.Concat(few, rest, axis=0))}
    if layout == "yolo-nms-free":
        return {"output0": g.batch(g.Concat(g.corners(boxes), np.array([scores, classes]).T, axis=1))}
    if layout in ("rtmdet", "yolox-mmdeploy"):
        dets = g.Concat(g.corners(boxes), np.array(scores)[:, None], axis=1)
        return {"dets": g.batch(dets), "labels": g.batch(g.constant(classes))}
    if layout == "torchvision":
        return {"boxes": g.corners(boxes), "labels": g.constant(classes), "scores": g.constant(tuple(scores))}
    relative = g.Div(boxes, ends)
    if layout == "rt-detr":
        wanted = g.Cast(g.Slice("orig_target_sizes", [0], [1], [0]), to=TensorProto.FLOAT)
        corners = g.Mul(g.corners(relative), g.Concat(wanted, wanted, axis=1))
        return {
            "labels": g.batch(g.constant(classes)),
            "boxes": g.batch(corners),
            "scores": g.batch(g.constant(tuple(scores))),
        }
    if layout == "rt-detr-ultralytics":
        return {"output0": g.batch(g.Concat(relative, each, axis=1))}
    if layout == "detr":
        each[:, -1] = 1 - np.array(scores)  # Of nothing.
        logits = np.log(np.maximum(each, 1e-9)) + 3
    else:
        logits = np.log(np.maximum(each, 1e-9) / (1 - each))
    names = ("dets", "labels") if layout == "rf-detr" else ("pred_boxes", "logits")
    return {names[1]: g.batch(g.constant(logits)), names[0]: g.batch(relative)}


def _area(g: Graph, ends: str) -> str:
    return g.Mul(g.Slice(ends, [0], [1]), g.Slice(ends, [1], [2]))


def _grid(size: tuple[int, int]) -> np.ndarray:
    """(A, 3): column, row and stride of every place, stride by stride, row by row."""
    places = []
    for stride in (8, 16, 32):
        for row in range(size[0] // stride):
            places += [(column, row, stride) for column in range(size[1] // stride)]
    return np.array(places, dtype=np.float64)
