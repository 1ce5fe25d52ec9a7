"""A model with the crop map inside: a picture and a box go in, keypoints and matrices in picture pixels come out.

The map of `geometry` does not turn, so that sampling is one matrix product an axis: the picture's rows and columns are first
averaged over areas to the crop's resolution, then taken between pixels, as `geometry.warp` does. Products need no operator that
a runtime might lack or round differently, and grey 127 outside the picture follows from weights that are 0.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto, compose, helper, version_converter
from onnxscript import FLOAT, UINT8, optimizer, script
from onnxscript import opset20 as op

from posecov.estimator import PoseEstimator
from posecov.geometry import crop_map
from posecov.images import read_image
from posecov.learn.datasets import Record
from posecov.learn.variants.graph import describe, metadata_of
from posecov.metadata import KEY, ModelMetadata

OPSET = 20


def whole(model: ModelProto) -> ModelProto:
    """The model with the inputs ``picture`` (H, W, 3) uint8 RGB and ``box`` (4,) float32 x, y, width, height.

    Its outputs are those of one person, without the axis of the batch, in picture pixels: keypoints (J, 2), covariance
    (2J, 2J), and scatter (2J, 2J) and weights (K,) where the law is a mixture.
    """
    metadata = metadata_of(model)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    before, after = _cropping(metadata), _placing(metadata)
    if versions[""] != OPSET:
        before, after = (version_converter.convert_version(part, versions[""]) for part in (before, after))
    for part in (before, after):
        part.ir_version = model.ir_version
    network = compose.add_prefix(model, "network/")
    joined = compose.merge_models(before, network, io_map=[("image", "network/image")])
    names = [output.name for output in model.graph.output]
    io_map = [(f"network/{name}", f"crop_{name}") for name in names] + [("moved", "from_moved"), ("scaled", "from_scaled")]
    joined = compose.merge_models(joined, after, io_map=io_map)
    joined.ClearField("metadata_props")
    entry = joined.metadata_props.add()
    entry.key, entry.value = KEY, metadata.to_json()
    kind = metadata.description.get("variant")
    describe(joined, variant="whole" if kind is None else f"whole {kind}")
    onnx.checker.check_model(joined)
    return joined


def differences(model: bytes, estimator: PoseEstimator, people: Sequence[Record]) -> np.ndarray:
    """(N, J) by how much keypoints differ from the estimator's, in picture pixels, or in crop pixels where those are larger.

    Args:
        model: with the crop map inside.
        estimator: of the same model without.
        people: with their pictures and boxes.
    """
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    size, padding = estimator.metadata.input_size, estimator.metadata.padding
    found = []
    for person in people:
        picture = read_image(person.image)
        given = {"picture": np.ascontiguousarray(picture[..., ::-1]), "box": person.box.astype(np.float32)}
        (keypoints,) = session.run(["keypoints"], given)
        expected, _ = estimator.predict(picture, person.box[None])
        scale = crop_map(person.box, size, padding).scale
        found.append(np.linalg.norm(keypoints - expected[0], axis=-1) * min(scale, 1.0))
    return np.stack(found)


def _cropping(metadata: ModelMetadata) -> ModelProto:
    """Picture and box to the network's image, and to the map back: p_picture = (p_crop - moved) / scaled."""
    size, padding = float(metadata.input_size), metadata.padding
    last, middle = size - 1.0, (size - 1.0) / 2.0
    mean, std = (np.array(v, dtype=np.float32).reshape(3, 1, 1) for v in (metadata.pixel_mean, metadata.pixel_std))
    mean, std = onnx.numpy_helper.from_array(mean, "mean"), onnx.numpy_helper.from_array(std, "std")

    @script()
    def cropping(picture: UINT8["height", "width", 3], box: FLOAT[4]):  # type: ignore[valid-type] # noqa: F821
        corner, extent = op.Split(box, num_outputs=2)
        longest = op.Max(op.ReduceMax(extent, keepdims=1), op.Constant(value_float=1e-6))
        scale = size / (longest * padding)
        offset = middle - scale * (corner + extent / 2.0)
        factor = op.Max(1.0 / scale, op.Constant(value_float=1.0))
        # The patch of the picture under the crop, (x, y), and the size to which its areas are averaged.
        limits = op.Cast(op.Gather(op.Shape(picture), op.Constant(value_ints=[1, 0])), to=1)
        low = op.Max(op.Min(op.Floor((0.0 - offset) / scale - 2.0 * factor), limits - 1.0), op.Constant(value_float=0.0))
        high = op.Max(op.Min(op.Ceil((last - offset) / scale + 2.0 * factor) + 1.0, limits), low + 1.0)
        target = op.Max(op.Round((high - low) / factor), op.Constant(value_float=1.0))
        ratio = (high - low) / target
        backwards = op.Constant(value_ints=[1, 0])
        start = op.Cast(op.Gather(low, backwards), to=7)
        end = op.Cast(op.Gather(high, backwards), to=7)
        patch = op.Cast(op.Slice(picture, start, end, op.Constant(value_ints=[0, 1])), to=1)
        # Areas: output k of an axis covers the inputs from k to k + 1 ratios.
        targets = op.Cast(target, to=7)
        columns_in = op.Cast(op.Range(0, op.Squeeze(op.Gather(end - start, [1])), 1), to=1)
        rows_in = op.Cast(op.Range(0, op.Squeeze(op.Gather(end - start, [0])), 1), to=1)
        columns = op.Cast(op.Range(0, op.Squeeze(op.Gather(targets, [0])), 1), to=1)
        rows = op.Cast(op.Range(0, op.Squeeze(op.Gather(targets, [1])), 1), to=1)
        ratio_x = op.Gather(ratio, [0])
        ratio_y = op.Gather(ratio, [1])
        left = op.Unsqueeze(columns, [1]) * ratio_x
        top = op.Unsqueeze(rows, [1]) * ratio_y
        area_x = op.Relu(op.Min(left + ratio_x, columns_in + 1.0) - op.Max(left, columns_in)) / ratio_x
        area_y = op.Relu(op.Min(top + ratio_y, rows_in + 1.0) - op.Max(top, rows_in)) / ratio_y
        planes = op.Transpose(patch, perm=[2, 0, 1])
        small = op.Round(op.MatMul(area_y, op.MatMul(planes, op.Transpose(area_x, perm=[1, 0]))))
        # Between pixels: bilinear weights, all 0 outside the picture.
        pixels = op.Cast(op.Range(0, op.Cast(op.Constant(value_float=size), to=7), 1), to=1)
        at_x = ((pixels - op.Gather(offset, [0])) / scale - op.Gather(low, [0]) + 0.5) / ratio_x - 0.5
        at_y = ((pixels - op.Gather(offset, [1])) / scale - op.Gather(low, [1]) + 0.5) / ratio_y - 0.5
        weights_x = op.Relu(1.0 - op.Abs(op.Unsqueeze(at_x, [1]) - columns))
        weights_y = op.Relu(1.0 - op.Abs(op.Unsqueeze(at_y, [1]) - rows))
        crop = op.MatMul(weights_y, op.MatMul(small - 127.0, op.Transpose(weights_x, perm=[1, 0]))) + 127.0
        image = op.Unsqueeze((op.Round(crop) - op.Constant(value=mean)) / op.Constant(value=std), [0])
        moved = op.Identity(offset)
        scaled = op.Identity(scale)
        return image, moved, scaled

    model = cropping.to_model_proto()
    model.graph.ClearField("value_info")
    model.graph.ClearField("output")
    side = metadata.input_size
    for name, shape in {"image": [1, 3, side, side], "moved": [2], "scaled": [1]}.items():
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return optimizer.optimize(model)


def _placing(metadata: ModelMetadata) -> ModelProto:
    """The network's outputs for one crop, and the map, to outputs in picture pixels."""
    joints, components = len(metadata.skeleton), len(metadata.exchanges)
    square = [2 * joints, 2 * joints]
    shapes: dict[str, list[int]] = {"keypoints": [joints, 2], "covariance": square}
    if components:
        shapes |= {"scatter": square, "weights": [components]}
    first = onnx.numpy_helper.from_array(np.array([0], dtype=np.int64), "first")
    two = onnx.numpy_helper.from_array(np.array([2], dtype=np.float32), "two")
    node = helper.make_node
    nodes = [node("Mul", ["from_scaled", "from_scaled"], ["square"]), node("Mul", ["square", "two"], ["twice_square"])]
    for name in shapes:
        one = name if name == "weights" else f"one_{name}"
        nodes.append(node("Squeeze", [f"crop_{name}", "first"], [one]))
        if name == "keypoints":
            nodes += [node("Sub", [one, "from_moved"], ["centred"]), node("Div", ["centred", "from_scaled"], [name])]
        elif name != "weights":
            nodes += [
                node("Transpose", [one], [f"turned_{name}"], perm=[1, 0]),
                node("Add", [one, f"turned_{name}"], [f"double_{name}"]),
                node("Div", [f"double_{name}", "twice_square"], [name]),
            ]
    floats = {f"crop_{name}": [1, *shape] for name, shape in shapes.items()} | {"from_moved": [2], "from_scaled": [1]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in floats.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "placing", inputs, outputs, [first, two])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
