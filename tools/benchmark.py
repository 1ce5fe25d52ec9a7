"""How fast a model is here: one crop in the network, one box through `PoseEstimator`, and importing the package.

python tools/benchmark.py --weights weights/posecov-lsp14-small.onnx --json benchmark.json [--threads 1]
"""

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from posecov import PosecovError, PoseEstimator
from posecov.model import PoseModel
from posecov.output import write_json


@dataclass(frozen=True)
class Options:
    """How fast a model is here."""

    weights: Path
    """The .onnx file of a model."""
    json: Path | None = None
    """Where to write the figures."""
    threads: int = 1
    """CPU threads of the network."""
    repeats: int = 100
    """Timed calls, after ten that are not; medians are reported."""


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Median time of a call."""
    for _ in range(10):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def import_seconds(repeats: int = 5) -> float:
    """Median time of `from posecov import PoseEstimator` in a fresh interpreter, without the interpreter's own start."""
    code = "import time; t = time.perf_counter(); from posecov import PoseEstimator; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(repeats)
    ]
    return statistics.median(times)


def main(options: Options) -> None:
    """Measure, print, write. Raises PosecovError."""
    network = PoseModel(options.weights, threads=options.threads)
    estimator = PoseEstimator(options.weights, threads=options.threads)
    size = network.metadata.input_size
    noise = np.random.default_rng(0).integers(0, 256, size=(480, 640, 3), dtype=np.uint8)
    crop = np.ascontiguousarray(noise[:size, :size][None])
    figures = {
        "threads": options.threads,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "crop_ms": milliseconds(lambda: network.predict(crop), options.repeats),
        "box_ms": milliseconds(lambda: estimator(noise, boxes=[[200, 100, 160, 320]]), options.repeats),
        "import_s": import_seconds(),
        "file_mb": options.weights.stat().st_size / 1e6,
    }
    print(
        f"one crop in the network {figures['crop_ms']:.1f} ms, one box of a 640 x 480 picture {figures['box_ms']:.1f} ms "
        f"({options.threads} thread); import {figures['import_s']:.2f} s; file {figures['file_mb']:.1f} MB"
    )
    if options.json is not None:
        write_json(options.json, figures)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, prog="tools/benchmark.py"))
    except PosecovError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        sys.exit(2)
