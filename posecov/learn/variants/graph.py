"""A deployed graph taken apart where its heads begin, and put together again with another lower part.

The *body* is every node that some convolution depends on: backbone and decoder, whatever they are. The *heads* are the rest:
the last convolution, whose maps the softmax takes, moments, and the covariance. They are small, and exponents, products of
moments and logarithms need float32.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, compose, helper

from posecov.errors import PosecovError
from posecov.metadata import KEY, ModelMetadata
from posecov.onnx_file import look_through


@dataclass(frozen=True)
class Parts:
    """A model in two parts.

    Attributes:
        model: the whole, every node with a name of its own.
        body: the lower part, a model with the input ``image``.
        heads: nodes of the upper part, in their order.
    """

    model: ModelProto
    body: ModelProto
    heads: Sequence[NodeProto]

    def with_body(self, body: ModelProto, **facts: str) -> ModelProto:
        """The model with another body of the same inputs and outputs; ``facts`` are added to its description."""
        lower = compose.add_prefix(body, "body/", rename_inputs=False, rename_outputs=False).graph
        made = ModelProto()
        made.CopyFrom(self.model)
        graph = made.graph
        wanted = {name for node in self.heads for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in wanted]
        for field, values in (("node", [*lower.node, *self.heads]), ("initializer", [*lower.initializer, *kept])):
            graph.ClearField(field)
            getattr(graph, field).extend(values)
        graph.ClearField("value_info")  # Of tensors that may now have another type.
        known = {entry.domain for entry in made.opset_import}
        made.opset_import.extend([entry for entry in body.opset_import if entry.domain not in known])
        describe(made, **facts)
        onnx.checker.check_model(made)
        return made


def read_model(path: Path) -> ModelProto:
    """A deployed float32 model.

    Raises:
        PosecovError: not a readable posecov model, or a variant already.
    """
    if not path.is_file():
        raise PosecovError(f"{path}: no such file; give a posecov model (.onnx)")
    try:
        look_through(path, beside=False)
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf and the file system raise many kinds
        raise PosecovError(f"{path}: not a readable ONNX file ({(str(error) or 'empty').splitlines()[0][:120]})") from None
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if text is None:
        raise PosecovError(f"{path}: not a posecov model (no posecov metadata in it); give one that posecov exported")
    variant = ModelMetadata.from_json(text, str(path)).description.get("variant")
    if variant is not None:
        raise PosecovError(f"{path}: is a variant already ({variant}); give the float32 model that it was made from")
    return model


def take_apart(model: ModelProto, source: str = "model") -> Parts:
    """Find where the heads begin.

    Raises:
        PosecovError: nothing feeds a convolution, so that there is no body.
    """
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)
    maker = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    waiting = [name for node in graph.node if node.op_type == "Conv" for name in node.input]
    while waiting:
        below = maker.get(waiting.pop())
        if below is not None and below.name not in found:
            found.add(below.name)
            waiting += below.input
    lower = [node for node in graph.node if node.name in found]
    upper = [node for node in graph.node if node.name not in found]
    if not any(node.op_type == "Conv" for node in lower):
        raise PosecovError(f"{source}: has no backbone of convolutions below its heads, so there is nothing to make smaller")
    types = {value.name: value for value in graph.value_info}
    wanted = {name for node in upper for name in node.input} | {output.name for output in graph.output}
    seams = [name for node in lower for name in node.output if name in wanted]
    read = {name for node in lower for name in node.input}
    body = helper.make_graph(
        lower,
        "body",
        [value for value in graph.input if value.name in read],
        [types[name] for name in seams],
        [tensor for tensor in graph.initializer if tensor.name in read],
    )
    return Parts(model, helper.make_model(body, opset_imports=model.opset_import, ir_version=model.ir_version), upper)


def metadata_of(model: ModelProto) -> ModelMetadata:
    """What a posecov model says about itself."""
    return ModelMetadata.from_json(next(entry.value for entry in model.metadata_props if entry.key == KEY))


def describe(model: ModelProto, **facts: str) -> None:
    """Add facts to the metadata's description. What torch had got for a drawn person goes: a variant differs from it."""
    entry = next(entry for entry in model.metadata_props if entry.key == KEY)
    fields = json.loads(entry.value)
    description = {name: value for name, value in fields.get("description", {}).items() if name != "reference"}
    entry.value = json.dumps(fields | {"description": description | facts}, allow_nan=False)
