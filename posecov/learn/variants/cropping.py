"""The crop map of `geometry` as an ONNX graph: a picture and a box to a network's input.

The map does not turn, so that sampling is one matrix product an axis: the picture's rows and columns are first averaged over
areas to the crop's resolution, then taken between pixels, as `geometry.warp` does. Products need no operator that a runtime
might lack or round differently, and grey 127 outside the picture follows from weights that are 0.
"""

# mypy: ignore-errors
# To onnxscript the lines below are nodes of a graph, not Python.

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper
from onnxscript import FLOAT, UINT8, optimizer, script
from onnxscript import opset18 as op

from posecov.metadata import ModelMetadata

OPSET = 18
"""Of the graph; nothing in it has changed in later ones."""


def cropping(metadata: ModelMetadata) -> ModelProto:
    """Picture and box to the network's image, and to the map back: p_picture = (p_crop - moved) / scaled."""
    size, padding = float(metadata.input_size), metadata.padding
    last, middle = size - 1.0, (size - 1.0) / 2.0
    mean, std = (np.array(v, dtype=np.float32).reshape(3, 1, 1) for v in (metadata.pixel_mean, metadata.pixel_std))
    mean, std = onnx.numpy_helper.from_array(mean, "mean"), onnx.numpy_helper.from_array(std, "std")

    @script()
    def crop_of(picture: UINT8["height", "width", 3], box: FLOAT[4]):  # noqa: F821
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

    model = crop_of.to_model_proto()
    model.graph.ClearField("value_info")
    model.graph.ClearField("output")
    side = metadata.input_size
    for name, shape in {"image": [1, 3, side, side], "moved": [2], "scaled": [1]}.items():
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return optimizer.optimize(model)
