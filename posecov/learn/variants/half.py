"""A variant whose backbone and decoder are float16: half the size, for GPUs and for the way to them."""

import warnings

from onnx import ModelProto

from posecov.learn.variants.graph import Parts


def half(parts: Parts) -> tuple[ModelProto, ModelProto]:
    """The model with a body of float16 weights and activations, and that body; input, heads and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    body = ModelProto()
    body.CopyFrom(parts.body)
    with warnings.catch_warnings():
        # Weights too small for a normal float16 are rounded to the nearest it has; the gate judges what comes of it.
        warnings.simplefilter("ignore")
        converted = OnnxModel(convert_float_to_float16(body, keep_io_types=True))
    # The converter puts its casts at the end.
    converted.topological_sort()
    return parts.with_body(converted.model, variant="float16"), converted.model
