"""A model with the crop map inside: a picture and a box go in, keypoints and matrices in picture pixels come out."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto, compose, helper, version_converter

from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.geometry import crop_map
from posecov.images import read_image
from posecov.learn.datasets import Record
from posecov.learn.variants.cropping import OPSET, cropping
from posecov.learn.variants.graph import describe, metadata_of
from posecov.metadata import KEY, ModelMetadata
from posecov.model import PRESENCE


def whole(model: ModelProto) -> ModelProto:
    """The model with the inputs ``picture`` (H, W, 3) uint8 RGB and ``box`` (4,) float32 x, y, width, height.

    Its outputs are those of one person, without the axis of the batch, in picture pixels: keypoints (J, 2), covariance
    (2J, 2J), scatter (2J, 2J) and weights (K,) where the law is a mixture, and presence () where the model has it.
    """
    metadata = metadata_of(model)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    names = [output.name for output in model.graph.output]
    before, after = cropping(metadata), _placing(metadata, PRESENCE in names)
    if versions[""] < OPSET:
        raise PosecovError(
            f"model {metadata.name}: has opset {versions['']}, the crop map needs {OPSET}; export the model again"
        )
    if versions[""] > OPSET:
        before, after = (version_converter.convert_version(part, versions[""]) for part in (before, after))
    for part in (before, after):
        part.ir_version = model.ir_version
    network = compose.add_prefix(model, "network/")
    joined = compose.merge_models(before, network, io_map=[("image", "network/image")])
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


def _placing(metadata: ModelMetadata, presence: bool) -> ModelProto:
    """The network's outputs for one crop, and the map, to outputs in picture pixels."""
    joints, components = len(metadata.skeleton), len(metadata.exchanges)
    square = [2 * joints, 2 * joints]
    shapes: dict[str, list[int]] = {"keypoints": [joints, 2], "covariance": square}
    if components:
        shapes |= {"scatter": square, "weights": [components]}
    if presence:
        shapes |= {PRESENCE: []}
    first = onnx.numpy_helper.from_array(np.array([0], dtype=np.int64), "first")
    two = onnx.numpy_helper.from_array(np.array([2], dtype=np.float32), "two")
    node = helper.make_node
    nodes = [node("Mul", ["from_scaled", "from_scaled"], ["square"]), node("Mul", ["square", "two"], ["twice_square"])]
    for name in shapes:
        one = name if name in ("weights", PRESENCE) else f"one_{name}"
        nodes.append(node("Squeeze", [f"crop_{name}", "first"], [one]))
        if name == "keypoints":
            nodes += [node("Sub", [one, "from_moved"], ["centred"]), node("Div", ["centred", "from_scaled"], [name])]
        elif name in ("covariance", "scatter"):
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
