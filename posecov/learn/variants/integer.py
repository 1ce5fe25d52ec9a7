"""A variant whose backbone and decoder compute with 8-bit integers, statically quantised (QDQ), one scale a weight channel."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from posecov.learn.variants.graph import Parts, metadata_of

_BATCH = 8  # Crops whose activations are looked at together.


@dataclass(frozen=True)
class Recipe:
    """How to quantise.

    Attributes:
        activation: uint8 runs on x86 processors' VNNI; int8 is made for others.
        method: how the range of an activation follows from the calibration crops.
        float_first: convolutions at the input that stay float32.
        float_last: convolutions of the body before the heads that stay float32.
        seven_bits: weights of 7 bits, for x86 processors without VNNI, whose 16-bit sums could overflow.
        crops: calibration crops at most; histograms of more do not fit into memory.
    """

    activation: Literal["uint8", "int8"] = "uint8"
    method: Literal["MinMax", "Percentile", "Entropy"] = "MinMax"
    float_first: int = 0
    float_last: int = 0
    seven_bits: bool = False
    crops: int = 128


RECIPES: Mapping[str, Recipe] = {
    "two-float": Recipe(float_first=2),
    "stem-float": Recipe(float_first=1),
    "all": Recipe(),
    "last-float": Recipe(float_first=2, float_last=1),
    "signed": Recipe(activation="int8", float_first=2),
    "seven-bits": Recipe(float_first=2, seven_bits=True),
    "percentile": Recipe(method="Percentile", float_first=2, crops=32),
    "entropy": Recipe(method="Entropy", float_first=2, crops=32),
}
"""Recipes by name, the one that is best for the shipped models first."""


class _Crops(CalibrationDataReader):
    def __init__(self, images: np.ndarray):
        self._batches: Iterator[np.ndarray] = iter(np.split(images, range(_BATCH, len(images), _BATCH)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def integer(parts: Parts, crops: np.ndarray, recipe: Recipe, name: str = "") -> tuple[ModelProto, ModelProto]:
    """The model with a body of 8-bit weights and activations, and that body; input, heads and outputs stay float32.

    Args:
        parts: of the float32 model.
        crops: (N, S, S, 3) uint8 BGR, of people like those that it will see; the first ``recipe.crops`` are used.
        recipe: how.
        name: of the recipe, for the metadata.
    """
    metadata = metadata_of(parts.model)
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (metadata.pixel_mean, metadata.pixel_std))
    images = (crops[: recipe.crops, ..., ::-1].transpose(0, 3, 1, 2) - mean) / std
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder) / "body.onnx", Path(folder) / "quantised.onnx"
        onnx.save(parts.body, str(source))
        quantize_static(
            source,
            target,
            _Crops(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=recipe.seven_bits,
            activation_type=QuantType.QUInt8 if recipe.activation == "uint8" else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[recipe.method],
            nodes_to_exclude=_float_nodes(parts.body, recipe),
        )
        body = onnx.load(str(target), load_external_data=False)
    return parts.with_body(body, variant="int8", variant_recipe=name), body


def _float_nodes(body: ModelProto, recipe: Recipe) -> list[str]:
    """Names of the convolutions that stay float32, with the activations on them."""
    convolutions = [node for node in body.graph.node if node.op_type == "Conv"]
    chosen = convolutions[: recipe.float_first] + convolutions[len(convolutions) - recipe.float_last :]
    outputs = {name for node in chosen for name in node.output}
    activations = [node for node in body.graph.node if node.op_type in ("Clip", "Relu") and node.input[0] in outputs]
    return [node.name for node in [*chosen, *activations]]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantiser prints, and warns through the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
