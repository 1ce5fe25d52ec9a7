"""Networks with random weights, small, large, dead and saturated, in files like those that posecov exports."""

import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import covariance_cases as cases
import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from posecov import resources
from posecov.estimator import SHIPPED, PoseEstimator
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.metadata import KEY, ModelMetadata

SIZE = 32
KINDS = ("plain", "large", "small", "dead", "saturated", "mixed")
_SCALES = {"plain": 1.0, "large": 1e3, "small": 1e-3, "dead": 0.0}


class Networks(Sequence[PoseEstimator]):
    """Estimators by number, each opened when it is first asked for; the files last as long as this object.

    Args:
        small: how many small graphs.
        shipped: how many variants of the models that ship; the first two are as they ship.
        further: models that were exported anew, each as bytes.
    """

    def __init__(self, small: int, shipped: int, further: Sequence[bytes] = ()):
        self._small, self._shipped, self._further = small, shipped, list(further)
        self._folder = tempfile.TemporaryDirectory()
        self._open: dict[int, PoseEstimator] = {}

    def __len__(self) -> int:
        return self._small + self._shipped + len(self._further)

    def __getitem__(self, index):
        if index not in self._open:
            path = Path(self._folder.name) / f"{index}.onnx"
            path.write_bytes(self._content(index))
            self._open[index] = PoseEstimator(path, threads=1, providers=["CPUExecutionProvider"])
        return self._open[index]

    def _content(self, index: int) -> bytes:
        if index < self._small:
            return small_network(index)
        if index < self._small + self._shipped:
            return self._shipped_variant(index - self._small)
        return self._further[index - self._small - self._shipped]

    def _shipped_variant(self, number: int) -> bytes:
        names = list(SHIPPED)
        if number < len(names):
            return resources.find(SHIPPED[names[number]]).read_bytes()
        return shaken(self._tiny, KINDS[number % len(KINDS)], number)

    @cached_property
    def _tiny(self) -> ModelProto:
        return onnx.load(str(resources.find(SHIPPED["tiny"])))


def redrawn(rng: np.random.Generator, weights: np.ndarray, kind: str) -> np.ndarray:
    """Weights of a head as one of `KINDS` has them.

    Large and small ones are a thousand times the given ones; saturated ones are all of one sign, so that what follows is as
    far out as it gets; mixed ones have rows of all these kinds.
    """
    if kind == "saturated":
        return 1e3 * abs(weights) * (1 if rng.random() < 0.5 else -1)
    if kind == "mixed":
        scale = rng.choice([0.0, 1e-3, 1.0, 1e3], size=(*weights.shape[:1], *[1] * (weights.ndim - 1)))
        return scale * rng.permutation(weights.reshape(-1)).reshape(weights.shape)
    return _SCALES[kind] * rng.permutation(weights.reshape(-1)).reshape(weights.shape)


def shaken(model: ModelProto, kind: str, seed: int) -> bytes:
    """An exported model with other weights in its heads, as `redrawn` draws them; half of the layers stay."""
    changed, rng = ModelProto(), np.random.default_rng(seed)
    changed.CopyFrom(model)
    # The exporter has turned some of the weights over and given them new names; they still are what a product takes.
    products = {name for node in changed.graph.node if node.op_type in ("MatMul", "Gemm") for name in node.input}
    for tensor in changed.graph.initializer:
        of_head = any(part in tensor.name for part in ("to_latent", "mean_head", "covariance_head"))
        # Statistics of the training data, such as positive scales, are none.
        constant = any(part in tensor.name for part in ("feature", "positions", "start_"))
        weights = not constant and (of_head or tensor.name in products)
        if tensor.data_type != TensorProto.FLOAT or not weights or not 1 <= len(tensor.dims) <= 4 or rng.random() < 0.5:
            continue
        values = numpy_helper.to_array(tensor)
        if values.shape[-1:] == (2,) and values.shape[0] > 100:
            continue  # The places of the cells are no weights.
        tensor.CopyFrom(numpy_helper.from_array(redrawn(rng, values, kind).astype(np.float32), tensor.name))
    return changed.SerializeToString()


def small_network(number: int) -> bytes:
    """A graph of a few nodes with the form of an exported one, and random weights.

    Colours averaged over a grid go through one layer to keypoints, anywhere in the crop and beyond it, a factor A and logits.
    The scatter is A A^T with the floor of `posecov.learn.covariance_head`; with exchanges the covariance is the second moment
    that `posecov.learn.export` writes into a graph.
    """
    rng = np.random.default_rng(number)
    skeleton = cases.skeleton_of(("lsp14", 1, 2, 3, 5, "coco17")[number % 6])
    exchanges = exchanges_of(skeleton) if number % 2 else ()
    nu = cases.DEGREES[number % len(cases.DEGREES)]
    metadata = ModelMetadata(f"random {number}", skeleton, SIZE, (127.0,) * 3, (64.0,) * 3, 1.1, nu, exchanges)
    joints, size, kind = len(skeleton), 2 * len(skeleton), KINDS[number % len(KINDS)]
    cells, rank = 3 * 4 * 4, min(size, 1 + number % 7)
    spread = 1.0 if np.isinf(nu) else nu / (nu - 2)
    constants: dict[str, np.ndarray] = {
        "flat": np.array([0, cells]),
        "to_points": np.array([0, joints, 2]),
        "to_column": np.array([0, size, 1]),
        "to_row": np.array([0, 1, size]),
        "to_factor": np.array([0, size, rank]),
        "points_w": redrawn(rng, rng.standard_normal((cells, size)), kind),
        "points_b": SIZE * rng.random(size),
        "factor_w": redrawn(rng, rng.standard_normal((cells, size * rank)), kind),
        "eye": np.eye(size)[None],
        "share": np.float32(1e-4 / size),
        "floor": np.float32(1e-3),
        "spread": np.float32(spread),
        "last_two": np.array([1, 2]),
    }
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[SIZE // 4] * 2, strides=[SIZE // 4] * 2),
        helper.make_node("Reshape", ["pooled", "flat"], ["seen"]),
        helper.make_node("MatMul", ["seen", "points_w"], ["moved"]),
        helper.make_node("Add", ["moved", "points_b"], ["means"]),
        helper.make_node("Reshape", ["means", "to_points"], ["keypoints"]),
        helper.make_node("MatMul", ["seen", "factor_w"], ["entries"]),
        helper.make_node("Reshape", ["entries", "to_factor"], ["factor"]),
        helper.make_node("Transpose", ["factor"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["factor", "turned"], ["gram"]),
        helper.make_node("Mul", ["gram", "eye"], ["own"]),
        helper.make_node("ReduceSum", ["own", "last_two"], ["trace"], keepdims=1),
        helper.make_node("Mul", ["trace", "share"], ["relative"]),
        helper.make_node("Add", ["relative", "floor"], ["least"]),
        helper.make_node("Mul", ["least", "eye"], ["lifting"]),
        helper.make_node("Add", ["gram", "lifting"], ["scatter"]),
    ]
    shapes = {"keypoints": [joints, 2], "covariance": [size, size]}
    if not exchanges:
        nodes.append(helper.make_node("Mul", ["scatter", "spread"], ["covariance"]))
    else:
        shapes |= {"scatter": [size, size], "weights": [len(exchanges)]}
        constants["logits_w"] = redrawn(rng, rng.standard_normal((cells, len(exchanges))), kind)
        nodes.append(helper.make_node("MatMul", ["seen", "logits_w"], ["logits"]))
        nodes.append(helper.make_node("Softmax", ["logits"], ["weights"], axis=-1))
        for k, order in enumerate(coordinate_orders(exchanges)):
            constants |= {f"order_{k}": order, f"only_{k}": np.array([k])}
            nodes += [
                helper.make_node("Gather", ["scatter", f"order_{k}"], [f"rows_{k}"], axis=1),
                helper.make_node("Gather", [f"rows_{k}", f"order_{k}"], [f"both_{k}"], axis=2),
                helper.make_node("Mul", [f"both_{k}", "spread"], [f"wide_{k}"]),
                helper.make_node("Gather", ["means", f"order_{k}"], [f"there_{k}"], axis=1),
                helper.make_node("Sub", [f"there_{k}", "means"], [f"apart_{k}"]),
                helper.make_node("Reshape", [f"apart_{k}", "to_column"], [f"column_{k}"]),
                helper.make_node("Reshape", [f"apart_{k}", "to_row"], [f"row_{k}"]),
                helper.make_node("Mul", [f"column_{k}", f"row_{k}"], [f"outer_{k}"]),
                helper.make_node("Add", [f"wide_{k}", f"outer_{k}"], [f"moment_{k}"]),
                helper.make_node("Gather", ["weights", f"only_{k}"], [f"weight_{k}"], axis=1),
                helper.make_node("Unsqueeze", [f"weight_{k}", "last_two_of_three"], [f"wide_weight_{k}"]),
                helper.make_node("Mul", [f"moment_{k}", f"wide_weight_{k}"], [f"part_{k}"]),
            ]
        constants["last_two_of_three"] = np.array([2])
        nodes.append(helper.make_node("Sum", [f"part_{k}" for k in range(len(exchanges))], ["covariance"]))
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]) for name, shape in shapes.items()],
        [numpy_helper.from_array(_single(np.asarray(value)), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _single(value: np.ndarray) -> np.ndarray:
    return value.astype(np.int64 if value.dtype.kind == "i" else np.float32)
