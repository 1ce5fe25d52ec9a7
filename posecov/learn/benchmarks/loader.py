"""Whether reading pictures keeps up with the network: the loader alone, a step alone, and both as training runs them.

Step and loop take turns in one run, a few steps each, so that a busy machine slows both alike. What a step of the loop costs
beyond the step alone is waiting for pictures, what the readers take from the step's processor, and the average of the weights.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch

from posecov.learn.backbone import normalisation
from posecov.learn.benchmarks.measuring import peak_bytes
from posecov.learn.checkpoint import Average
from posecov.learn.config import TrainConfig
from posecov.learn.datasets import Record
from posecov.learn.mean_step import MeanStep
from posecov.learn.mean_training import mean_optimizer
from posecov.learn.model import PoseModel, mean_weights
from posecov.learn.samples import Batch, CropDataset, training_batches
from posecov.skeleton import load_skeleton

_TURN = 8  # steps


def measure(
    config: TrainConfig, records: Sequence[Record], device: torch.device, workers: Sequence[int] = (1, 2), turns: int = 6
) -> dict[str, float]:
    """Images per second of the loader, of the step and of the loop, and what the loop has of the step's.

    Args:
        config: recipe: network, batch, augmentation.
        records: people with pictures.
        device: of the network.
        workers: numbers of reading processes for the loader alone; the loop has the recipe's.
        turns: of step and loop; medians are over so many.

    Returns:
        Flat names to numbers: ``loader_images_per_second_2w``, ``model_images_per_second``, ``loop_images_per_second``,
        ``loop_over_model``; on a CPU ``step_mb_per_image``: what a step's peak grows by with every person more.
    """
    figures: dict[str, float] = {"loader_input_size": config.model.input_size, "loader_batch": config.mean.batch}
    skeleton, settings = load_skeleton(config.skeleton), config.mean
    dataset = CropDataset(records, skeleton, config.model.input_size, config.model.padding, config.augment, config.seed)

    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng(epoch).permutation(len(records))

    for count in workers:
        stream = training_batches(dataset, order, settings.batch, range(10**6), count)
        first = [next(stream) for _ in range(2 * max(count, 1) + 2)]  # What was read ahead does not count.
        start, some = time.perf_counter(), list(itertools.islice(stream, 2 * len(first)))
        figures[f"loader_images_per_second_{count}w"] = _people(some) / (time.perf_counter() - start)

    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    model = PoseModel(config.model, len(skeleton), pretrained=False).to(device).to(memory_format=torch.channels_last)
    optimizer = mean_optimizer(model, settings)
    for group in optimizer.param_groups:
        group["lr"] = 1e-6
    take_step = MeanStep(model, optimizer, settings, normalisation(config.model.backbone), device)
    average = Average(mean_weights(model.state_dict()), settings.ema)
    take_step.begin()
    stream = training_batches(dataset, order, settings.batch, range(10**6), config.workers)
    held = [next(stream) for _ in range(_TURN)]
    rates: dict[str, list[float]] = {"model": [], "loop": []}
    for turn in range(turns + 1):
        for name in rates:
            if name == "loop":
                # While the model ran alone, the readers went on until their queue was full: use that up unmeasured.
                for batch in itertools.islice(stream, 2 * config.workers):
                    take_step(batch, [len(batch.crops)], "benchmark")
            start, people = time.perf_counter(), 0
            for batch in held if name == "model" else itertools.islice(stream, _TURN):
                take_step(batch, [len(batch.crops)], "benchmark")
                if name == "loop":
                    average.update(model.state_dict())
                people += len(batch.crops)
            if turn:
                rates[name].append(people / (time.perf_counter() - start))
    figures |= {f"{name}_images_per_second": statistics.median(values) for name, values in rates.items()}
    ratios = [loop / alone for loop, alone in zip(rates["loop"], rates["model"], strict=True)]
    figures["loop_over_model"] = statistics.median(ratios)
    if device.type == "cpu":
        whole, half = held[0], _first(held[0], settings.batch // 2)
        peaks = [peak_bytes(lambda batch=batch: take_step(batch, [len(batch.crops)], "memory")) for batch in (whole, half)]  # type: ignore[misc]
        figures["step_mb_per_image"] = (peaks[0] - peaks[1]) / (len(whole.crops) - len(half.crops)) / 1e6
    return figures


def _people(some: Sequence[Batch]) -> int:
    return sum(len(batch.crops) for batch in some)


def _first(batch: Batch, count: int) -> Batch:
    return Batch(*(getattr(batch, field.name)[:count] for field in dataclasses.fields(batch)))
