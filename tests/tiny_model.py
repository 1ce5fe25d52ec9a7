"""A posecov model of a few ONNX nodes that really looks at its crop, for tests of everything around a network.

Its joints are coloured dots on dark ground: the red one is ``r_hand``, the green one ``l_hand``, the blue one ``head``, and
``middle`` is the centre of all three. Each is the centroid of its channel's normalised brightness above 0, so where a dot
lies in the picture is where the joint must be found, whatever the crop; without dots every joint is the crop's centre. The
covariance is one constant matrix in crop pixels.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from posecov.exchanges import exchanges_of
from posecov.metadata import KEY, ModelMetadata
from posecov.skeleton import Skeleton

SIZE = 64
DOTS = Skeleton(
    name="dots",
    keypoints=("r_hand", "l_hand", "head", "middle"),
    flip_pairs=(("r_hand", "l_hand"),),
    limbs=(("r_hand", "middle"), ("l_hand", "middle"), ("head", "middle")),
)
METADATA = ModelMetadata("tiny", DOTS, SIZE, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), 1.25, 5.0)
_ROOT = np.random.default_rng(3).normal(size=(8, 8)) * 0.4 + np.eye(8)
COVARIANCE = (_ROOT @ _ROOT.T).astype(np.float32)
"""(8, 8), crop pixels^2."""

EXCHANGING = replace(METADATA, exchanges=exchanges_of(DOTS))
"""Metadata of a model that may confuse its hands: a mixture of two components."""

WEIGHTS = np.array([0.7, 0.3], dtype=np.float32)
"""(2,), what the model with exchanges says about every crop."""

SCATTER = 0.3 * COVARIANCE
"""(8, 8), crop pixels^2, of its components."""

POINTS = np.array([[120.0, 90.0], [170.0, 100.0], [140.0, 150.0]])
"""Red, green and blue dot of the standard test picture."""


def write_model(
    path: Path,
    metadata: ModelMetadata | str | None = METADATA,
    *,
    covariance: np.ndarray = COVARIANCE,
    batch: str | int = "N",
    names: tuple[str, str, str] = ("image", "keypoints", "covariance"),
    weights: np.ndarray | None = None,
) -> Path:
    """Write the model, with ``weights`` one that also has the outputs of a mixture; the other options make it wrong."""
    size, joints = SIZE, len(DOTS)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    image, keypoints, spread = names
    constants = {
        "zero": np.float32(0),
        "tiny": np.float32(1e-8),
        "x": x[None, None],
        "y": y[None, None],
        "plane": np.array([2, 3], dtype=np.int64),
        "channels": np.array([1], dtype=np.int64),
        "last": np.array([-1], dtype=np.int64),
        "first": np.array([0], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
        "square": np.array([2 * joints, 2 * joints], dtype=np.int64),
        "constant": covariance[None].astype(np.float32),
    }
    nodes = [
        helper.make_node("Max", [image, "zero"], ["bright"]),
        helper.make_node("ReduceMean", ["bright", "channels"], ["all"], keepdims=1),
        helper.make_node("Concat", ["bright", "all"], ["layers"], axis=1),
        helper.make_node("Add", ["layers", "tiny"], ["brightness"]),
        helper.make_node("ReduceSum", ["brightness", "plane"], ["total"], keepdims=0),
    ]
    for axis in "xy":
        nodes += [
            helper.make_node("Mul", ["brightness", axis], [f"weighted_{axis}"]),
            helper.make_node("ReduceSum", [f"weighted_{axis}", "plane"], [f"moment_{axis}"], keepdims=0),
            helper.make_node("Div", [f"moment_{axis}", "total"], [f"mean_{axis}"]),
            helper.make_node("Unsqueeze", [f"mean_{axis}", "last"], [f"column_{axis}"]),
        ]
    nodes += [
        helper.make_node("Concat", ["column_x", "column_y"], [keypoints], axis=2),
        helper.make_node("Shape", [image], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "one"], ["count"]),
        helper.make_node("Concat", ["count", "square"], ["target"], axis=0),
        helper.make_node("Expand", ["constant", "target"], [spread]),
    ]
    further: dict[str, np.ndarray] = {} if weights is None else {"scatter": SCATTER, "weights": weights}
    for name, value in further.items():
        shape = np.array(value.shape, dtype=np.int64)
        constants |= {f"constant_{name}": value[None].astype(np.float32), f"shape_{name}": shape}
        nodes += [
            helper.make_node("Concat", ["count", f"shape_{name}"], [f"target_{name}"], axis=0),
            helper.make_node("Expand", [f"constant_{name}", f"target_{name}"], [name]),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(image, TensorProto.FLOAT, [batch, 3, size, size])],
        [
            helper.make_tensor_value_info(keypoints, TensorProto.FLOAT, [batch, joints, 2]),
            helper.make_tensor_value_info(spread, TensorProto.FLOAT, [batch, 2 * joints, 2 * joints]),
            *[helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *value.shape]) for name, value in further.items()],
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    if metadata is not None:
        text = metadata if isinstance(metadata, str) else metadata.to_json()
        helper.set_model_props(model, {KEY: text})
    onnx.save(model, str(path))
    return path


def picture(points: np.ndarray, width: int, height: int, radius: float = 6.0) -> np.ndarray:
    """A dark picture (height, width, 3) BGR with a red, a green and a blue dot at points (3, 2)."""
    image = np.full((height, width, 3), 40, dtype=np.uint8)
    for channel, (x, y) in zip((2, 1, 0), points, strict=True):
        layer = np.ascontiguousarray(image[:, :, channel])
        centre = (round(float(x) * 16), round(float(y) * 16))
        cv2.circle(layer, centre, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
        image[:, :, channel] = layer
    return image
