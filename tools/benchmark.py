"""What things cost here, each against the naive way in the same run.

    python tools/benchmark.py tic|pseudo-labels|train-step|loader|inference|video|serve [...] [--json OUT]

tic: Taylor terms of the papers' own network, closed form and randomised, against autograd. pseudo-labels: neighbour search
against the bare matrix product it contains. train-step: a pose training step with and without TIC. loader: reading pictures,
the training step, and both together. inference: the deployed model with and without its covariance, one box through
`PoseEstimator`, and importing the package. video: `posecov video` from file to file against the network alone, and its memory
over time. serve: `posecov serve` with eight clients against the bare session, waiting times, memory over good and bad requests.
OUT holds one flat object of numbers. Exit code 2 when something is missing.
"""

import logging
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from posecov import PosecovError, PoseEstimator
from posecov.commands.memory import keep_freed_memory
from posecov.commands.terminal import needs_training_packages
from posecov.model import PoseModel
from posecov.output import write_json

Name = Literal["tic", "pseudo-labels", "train-step", "loader", "inference", "video", "serve"]


@dataclass(frozen=True)
class Options:
    """What things cost here."""

    names: Annotated[tuple[Name, ...], tyro.conf.Positional]
    """Which benchmarks."""
    json: Path | None = None
    """Where to write the figures."""
    weights: Path = Path("weights/posecov-lsp14-small.onnx")
    """The model of `inference`, `video` and `serve`."""
    threads: int = 1
    """CPU threads."""
    input_size: int = 192
    """Side of the crops of `train-step` and `loader`."""
    batch: int = 32
    """People a step of `train-step` and `loader`."""
    recipe: Path = Path("configs/lsp14-half.yaml")
    """Network, data and augmentation of `loader`."""
    data_root: str = ""
    """Folder of the data sets of `loader`; POSECOV_DATA when not given."""
    workers: int = 1
    """Reading processes of the loop of `loader`."""
    device: str = "cpu"
    """Of the network of `loader`."""
    film: Path | None = None
    """Of `video`; made of a free photo when not given."""
    frames: int = 300
    """Of the film that `video` makes."""
    requests: int = 2000
    """Good and bad ones over which `serve` watches the memory."""


def tic(options: Options) -> Mapping[str, float]:
    """Taylor terms of the papers' network."""
    from posecov.learn.benchmarks.tic import measure

    return measure()


def pseudo_labels(options: Options) -> Mapping[str, float]:
    """Neighbour search."""
    from posecov.learn.benchmarks.pseudo_labels import measure

    return measure()


def train_step(options: Options) -> Mapping[str, float]:
    """A pose training step, whole and heads alone, everything in the backbone learning."""
    from posecov.learn.benchmarks.train_step import measure
    from posecov.learn.model import ModelConfig

    return measure(ModelConfig(input_size=options.input_size, frozen_stages=-1), options.batch)


def loader(options: Options) -> Mapping[str, float]:
    """Pictures, the training step, and both."""
    from posecov.learn.benchmarks.loader import measure
    from posecov.learn.config import load_config
    from posecov.learn.training import load_people, prepare

    recipe = load_config(options.recipe)
    config = replace(
        recipe,
        model=replace(recipe.model, input_size=options.input_size, pretrained=False),
        mean=replace(recipe.mean, batch=options.batch),
        workers=options.workers,
        threads=options.threads,
    )
    device = prepare(config, options.device)
    return measure(config, load_people(config, options.data_root).mean, device)


def inference(options: Options) -> Mapping[str, float]:
    """The deployed model."""
    from posecov.learn.benchmarks.inference import measure
    from posecov.learn.benchmarks.measuring import alternate

    network = PoseModel(options.weights, threads=options.threads)
    estimator = PoseEstimator(options.weights, threads=options.threads)
    size = network.metadata.input_size
    noise = np.random.default_rng(0).integers(0, 256, size=(480, 640, 3), dtype=np.uint8)
    crop = np.ascontiguousarray(noise[:size, :size][None])
    calls = {"crop": lambda: network.predict(crop), "box": lambda: estimator(noise, boxes=[[200, 100, 160, 320]])}
    times = alternate(calls, repeats=100, warmup=10)
    return {
        "threads": options.threads,
        "crop_ms": times["crop"],
        "box_ms": times["box"],
        "import_s": import_seconds(),
        "file_mb": options.weights.stat().st_size / 1e6,
        **measure(options.weights, options.threads),
    }


def video(options: Options) -> Mapping[str, float]:
    """A film."""
    from posecov.learn.benchmarks.video import measure

    return measure(options.weights, options.film, options.frames, options.threads)


def serve(options: Options) -> Mapping[str, float]:
    """The server."""
    from posecov.learn.benchmarks.serve import measure

    return measure(options.weights, options.threads, long=options.requests)


def import_seconds(repeats: int = 5) -> float:
    """Median time of `from posecov import PoseEstimator` in a fresh interpreter, without the interpreter's own start."""
    code = "import time; t = time.perf_counter(); from posecov import PoseEstimator; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(repeats)
    ]
    return statistics.median(times)


BENCHMARKS: Mapping[Name, Callable[[Options], Mapping[str, float]]] = {
    "tic": tic,
    "pseudo-labels": pseudo_labels,
    "train-step": train_step,
    "loader": loader,
    "inference": inference,
    "video": video,
    "serve": serve,
}


def main(options: Options) -> None:
    """Measure, print, write. Raises PosecovError."""
    if not options.names:
        raise PosecovError(f"name at least one of {', '.join(BENCHMARKS)}")
    if {"tic", "pseudo-labels", "train-step", "loader"} & set(options.names):
        import torch

        torch.set_num_threads(options.threads)
    figures: dict[str, float] = {}
    for name in options.names:
        found = BENCHMARKS[name](options)
        for key, value in found.items():
            print(f"{key:45s} {value:.4g}")
        figures |= found
    if options.json is not None:
        write_json(options.json, figures)
        print(options.json)


if __name__ == "__main__":
    needs_training_packages("benchmark")
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        main(tyro.cli(Options, prog="tools/benchmark.py"))
    except PosecovError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        sys.exit(2)
