"""The judge as nodes of a deployed graph: what it looks at, and what it makes of that.

It looks at the tensors between body and heads (`variants.graph`), of each channel the mean and the maximum over places, and at
what the model says: keypoints, logarithms of standard deviations, weights of exchanges. That holds for any exported model.
"""

import json
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from posecov.errors import PosecovError
from posecov.learn.presence.judge import CLIP, FLOOR, Judge
from posecov.learn.variants.graph import metadata_of, take_apart
from posecov.metadata import KEY
from posecov.model import PRESENCE

FEATURES = "presence/features"
"""Output (N, F) of `with_features`."""

_PREFIX = "presence/"
_OPSET = 18  # From which on reductions take their axes as an input.


def with_features(model: ModelProto, source: str = "model") -> ModelProto:
    """The model with one more output: what a judge looks at, `FEATURES`.

    Raises:
        PosecovError: it has no convolutions, or an opset that is too old.
    """
    made = without_judge(model)
    version = next(entry.version for entry in made.opset_import if entry.domain == "")
    if version < _OPSET:
        raise PosecovError(f"{source}: has opset {version}, a judge needs {_OPSET}; export the model again")
    body = take_apart(made, source).body
    seams = [value.name for value in body.graph.output if len(value.type.tensor_type.shape.dim) == 4]
    metadata = metadata_of(made)
    coordinates = 2 * len(metadata.skeleton)
    matrix = "scatter" if metadata.exchanges else "covariance"
    constants: dict[str, Any] = {
        "places": np.array([2, 3]),
        "rows": np.array([0, -1]),
        "diagonal": np.arange(coordinates) * (coordinates + 1),
        "size": np.float32(metadata.input_size),
        "half": np.float32(0.5),
    }
    nodes, parts = [], []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = _PREFIX + output
        inputs = [_PREFIX + given if given in constants else given for given in inputs]
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    for number, seam in enumerate(seams):
        parts.append(add("ReduceMean", [seam, "places"], f"mean_{number}", keepdims=0))
        parts.append(add("ReduceMax", [seam, "places"], f"max_{number}", keepdims=0))
    scaled = add("Div", [add("Reshape", ["keypoints", "rows"], "points"), "size"], "scaled_points")
    parts.append(add("Sub", [scaled, "half"], "centred_points"))
    variances = add("Gather", [add("Reshape", [matrix, "rows"], "entries"), "diagonal"], "variances", axis=1)
    parts.append(add("Mul", [add("Log", [variances], "logarithms"), "half"], "log_deviations"))
    if metadata.exchanges:
        parts.append("weights")
    nodes.append(helper.make_node("Concat", parts, [FEATURES], name=FEATURES, axis=1))
    _extend(made, nodes, constants)
    made.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [_batch(made), None]))
    return made


def with_judge(model: ModelProto, judge: Judge, facts: dict | None = None, source: str = "model") -> ModelProto:
    """The model with the output `PRESENCE` (N,) float32; all else in it stays as it was.

    Args:
        model: a deployed float32 model, also one that has a judge, which then goes.
        judge: made on the features of this model.
        facts: about the judge, for the description in the metadata, JSON values only.
        source: what to call the model in errors.
    """
    made = with_features(model, source)
    del made.graph.output[-1]
    constants: dict[str, Any] = {
        "feature_means": judge.mean,
        "feature_scales": judge.scale,
        "low": np.float32(-CLIP),
        "high": np.float32(CLIP),
        "first": judge.first,
        "first_bias": judge.first_bias,
        "second": judge.second[:, None],
        "second_bias": np.array([judge.second_bias]),
        "width": np.float32(1 - 2 * FLOOR),
        "floor": np.float32(FLOOR),
        "flat": np.array([-1]),
    }
    chain = [
        ("Sub", "feature_means"),
        ("Div", "feature_scales"),
        ("Clip", "low", "high"),
        ("Gemm", "first", "first_bias"),
        ("Relu",),
        ("Gemm", "second", "second_bias"),
        ("Sigmoid",),
        ("Mul", "width"),
        ("Add", "floor"),
        ("Reshape", "flat"),
    ]
    nodes, last = [], FEATURES
    for number, (operator, *given) in enumerate(chain):
        output = PRESENCE if number == len(chain) - 1 else f"{_PREFIX}judge_{number}"
        names = [last, *(_PREFIX + name for name in given)]
        nodes.append(helper.make_node(operator, names, [output], name=f"{_PREFIX}judge_{number}"))
        last = output
    _extend(made, nodes, constants)
    made.graph.output.append(helper.make_tensor_value_info(PRESENCE, TensorProto.FLOAT, [_batch(made)]))
    if facts is not None:
        entry = next(entry for entry in made.metadata_props if entry.key == KEY)
        fields = json.loads(entry.value)
        fields["description"] = fields.get("description", {}) | {PRESENCE: facts}
        entry.value = json.dumps(fields, allow_nan=False)
    onnx.checker.check_model(made)
    return made


def without_judge(model: ModelProto) -> ModelProto:
    """A copy without `PRESENCE` and what leads to it."""
    made = ModelProto()
    made.CopyFrom(model)
    for field in (made.graph.node, made.graph.initializer, made.graph.output, made.graph.value_info):
        kept = [item for item in field if not (item.name.startswith(_PREFIX) or item.name == PRESENCE)]
        if len(kept) != len(field):
            del field[:]
            field.extend(kept)
    return made


def _extend(model: ModelProto, nodes: list, constants: dict[str, Any]) -> None:
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        [numpy_helper.from_array(_stored(np.asarray(value)), _PREFIX + name) for name, value in constants.items()]
    )


def _stored(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64)


def _batch(model: ModelProto) -> str | int:
    """The first axis of the outputs: a name, or a number in a model that is wrong."""
    axis = next(value for value in model.graph.output if value.name == "keypoints").type.tensor_type.shape.dim[0]
    return axis.dim_param or axis.dim_value
