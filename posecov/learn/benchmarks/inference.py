"""What the covariance costs at inference: the deployed graph against the same graph with the mean alone."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from posecov.errors import PosecovError
from posecov.learn.benchmarks.measuring import alternate
from posecov.onnx_file import look_through


def measure(weights: Path, threads: int = 1, repeats: int = 150) -> dict[str, float]:
    """Milliseconds of one crop with and without the covariance, in turns, and their ratio.

    Args:
        weights: a deployed model.
        threads: of ONNX Runtime.
        repeats: medians are over so many.

    Raises:
        PosecovError: not a readable model.
    """
    try:
        look_through(weights, beside=False)
        proto = onnx.load(str(weights), load_external_data=False)
    except Exception as error:  # protobuf and the file system raise many kinds
        raise PosecovError(f"{weights}: not a readable ONNX file ({str(error).splitlines()[0][:120]})") from None
    size = next(i for i in proto.graph.input if i.name == "image").type.tensor_type.shape.dim[-1].dim_value
    both = _session(proto, threads)
    kept = [output for output in proto.graph.output if output.name == "keypoints"]
    # ONNX Runtime drops what leads to no output.
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    mean = _session(proto, threads)
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    calls = {"both": lambda: both.run(None, {"image": image}), "mean": lambda: mean.run(None, {"image": image})}
    times = alternate(calls, repeats, warmup=10)
    return {
        "inference_threads": threads,
        "inference_covariance_ms": times["both"],
        "inference_mean_ms": times["mean"],
        "inference_covariance_over_mean": times["both"] / times["mean"],
    }


def _session(proto: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
