"""A posecov model with a small backbone of random convolutions, a mixture as its law, and heads as a trained one has them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from posecov.exchanges import exchanges_of
from posecov.metadata import KEY, ModelMetadata
from posecov.skeleton import load_skeleton

SIZE, CELLS = 64, 16  # Pixels and feature cells along a side.
_SKELETON = load_skeleton("lsp14")
METADATA = replace(
    ModelMetadata("net", _SKELETON, SIZE, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), 1.25, 6.0, exchanges_of(_SKELETON)),
    description={"calibrated": False, "reference": {"keypoints": [], "sigma": []}},
)


def write_conv_model(path: Path) -> Path:
    """Write it. Its keypoints are soft-argmaxes of the last convolution's maps; sigmas and weights are constant."""
    rng = np.random.default_rng(0)
    joints, components = len(_SKELETON), len(METADATA.exchanges)
    centres = (np.arange(CELLS) + 0.5) * SIZE / CELLS - 0.5
    places = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
    scatter = 9.0 * np.eye(2 * joints) + 1.0
    constants = {
        "zero": np.float32(0.0),
        "six": np.float32(6.0),
        "flat": np.array([0, joints, -1]),
        "places": places.astype(np.float32),
        "scatter_1": scatter[None].astype(np.float32),
        "weights_1": np.full((1, components), 1 / components, dtype=np.float32),
        "square": np.array([2 * joints, 2 * joints]),
        "components": np.array([components]),
        "start": np.array([0]),
        "end": np.array([1]),
        "spread": np.float32(1.5),
    }
    nodes = []

    def convolve(source: str, target: str, into: int, out: int, kernel: int, stride: int = 1, group: int = 1) -> None:
        weight = rng.normal(size=(out, into // group, kernel, kernel)) * (2 / (kernel * kernel * into / group)) ** 0.5
        constants[f"{target}_w"], constants[f"{target}_b"] = weight.astype(np.float32), np.zeros(out, dtype=np.float32)
        padding = [kernel // 2] * 4
        inputs = [source, f"{target}_w", f"{target}_b"]
        nodes.append(helper.make_node("Conv", inputs, [target], pads=padding, strides=[stride, stride], group=group))

    convolve("image", "stem", 3, 16, 3, 2)
    nodes.append(helper.make_node("Clip", ["stem", "zero", "six"], ["stem_6"]))
    convolve("stem_6", "deep", 16, 16, 3, 2, group=16)
    nodes.append(helper.make_node("Clip", ["deep", "zero", "six"], ["deep_6"]))
    convolve("deep_6", "wide", 16, 24, 1)
    convolve("wide", "again", 24, 24, 1)
    nodes += [helper.make_node("Add", ["again", "wide"], ["sum"]), helper.make_node("Relu", ["sum"], ["features"])]
    convolve("features", "maps", 24, joints, 1)
    nodes += [
        helper.make_node("Reshape", ["maps", "flat"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "places"], ["keypoints"]),
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Slice", ["shape", "start", "end"], ["count"]),
        helper.make_node("Concat", ["count", "square"], ["squares"], axis=0),
        helper.make_node("Expand", ["scatter_1", "squares"], ["scatter"]),
        helper.make_node("Mul", ["scatter", "spread"], ["covariance"]),
        helper.make_node("Concat", ["count", "components"], ["rows"], axis=0),
        helper.make_node("Expand", ["weights_1", "rows"], ["weights"]),
    ]
    shapes = {
        "keypoints": [joints, 2],
        "covariance": [2 * joints, 2 * joints],
        "scatter": [2 * joints, 2 * joints],
        "weights": [components],
    }
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {KEY: METADATA.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
