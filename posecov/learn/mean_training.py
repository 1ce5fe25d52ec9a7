"""The first part of training: backbone and mean head, on pictures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posecov.evaluation.figures import BOX_THRESHOLD
from posecov.learn import processes
from posecov.learn.backbone import normalisation
from posecov.learn.checkpoint import Average, flatten_state, optimizer_tensors, part, restore_optimizer, save_checkpoint
from posecov.learn.config import MeanConfig, TrainConfig
from posecov.learn.datasets import Record
from posecov.learn.mean_step import MeanStep
from posecov.learn.model import PoseModel, load_mean, mean_weights, normalise
from posecov.learn.run import Clock, Run, of_this_recipe, progress
from posecov.learn.samples import CropDataset, Share, batches, epoch_order, training_batches
from posecov.learn.schedule import warm_cosine
from posecov.learn.teacher import Teacher
from posecov.metrics import keypoint_errors, pck
from posecov.skeleton import Skeleton


def train_mean(
    run: Run,
    model: PoseModel,
    skeleton: Skeleton,
    train: Sequence[Record],
    validation: Sequence[Record],
    resumed: tuple[dict[str, Tensor], dict[str, Any]] | None,
    device: torch.device,
) -> None:
    """Train the mean; leaves the averaged weights in ``model`` and a checkpoint of part ``mean`` behind.

    Args:
        run: folder and settings.
        model: changed in place.
        train: people, in blocks of the data sets' order.
        validation: people that train nothing.
        resumed: tensors and facts of a checkpoint of this part, or None to start afresh.

    Raises:
        PosecovError: the checkpoint is of another recipe, a picture cannot be read, the loss is not finite, or another process
            is gone.
    """
    config, settings = run.config, run.config.mean
    model.to(device).to(memory_format=torch.channels_last)
    optimizer = mean_optimizer(model, settings)
    teacher = Teacher(Path(settings.teacher), config, len(skeleton), device) if settings.teacher else None
    take_step = MeanStep(model, optimizer, settings, normalisation(config.model.backbone), device, teacher)
    average = Average(mean_weights(model.state_dict()), settings.ema)
    start_epoch, start_step, sums = 0, 0, [0.0, 0.0, 0]
    if resumed is not None:
        tensors, facts = resumed
        with of_this_recipe(run.last):
            load_mean(model, part("model", tensors))
            average.state = {name: value.to(device) for name, value in part("average", tensors).items()}
            average.steps = facts["average_steps"]
            restore_optimizer(optimizer, tensors)
            take_step.restore(facts.get("scaler", {}))
            start_epoch, start_step, sums = facts["epoch"], facts["step"], facts["sums"]

    counts = [sum(r.name.startswith(name + "/") for r in train) for name in config.data.datasets]
    shown = sum(c * times for c, times in zip(counts, config.data.repeats, strict=True))
    steps = math.ceil(shown / settings.batch)
    share = Share(processes.rank(), processes.count(), settings.accumulate)

    def order(epoch: int) -> np.ndarray:
        return epoch_order(counts, config.data.repeats, config.seed, epoch)

    def save(epoch: int, step: int, finished: bool = False) -> None:
        if not processes.is_main():
            return
        tensors = flatten_state("model", mean_weights(model.state_dict())) | flatten_state("average", average.state)
        facts = {
            "part": "mean", "epoch": epoch, "step": step, "sums": sums, "average_steps": average.steps,
            "scaler": take_step.state(), "finished": finished, "config": config.to_dict(), "history": run.history,
        }  # fmt: skip
        save_checkpoint(run.last, tensors | optimizer_tensors(optimizer), facts)

    dataset = CropDataset(train, skeleton, config.model.input_size, config.model.padding, config.augment, config.seed)
    epochs = range(start_epoch, settings.epochs)
    stream = training_batches(dataset, order, settings.batch, epochs, config.workers, start_step, share)
    for epoch in epochs:
        clock = Clock(config.checkpoint_minutes)
        take_step.begin()
        with progress() as bar:
            task = bar.add_task(f"mean {epoch + 1}/{settings.epochs}", total=steps, completed=start_step, status="")
            for step in range(start_step, steps):
                batch, people = next(stream), min(settings.batch, shown - step * settings.batch)
                rate = warm_cosine(epoch * steps + step, settings.epochs * steps, settings.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * group["factor"] * rate
                loss, error, moved = take_step(batch, share.sizes(people), f"mean, epoch {epoch + 1}, step {step}")
                if moved:
                    average.update(model.state_dict())
                sums = [sums[0] + loss, sums[1] + error, sums[2] + 1]
                speed = clock.count(people)
                bar.update(task, advance=1, status=f"loss {sums[0] / sums[2]:.3f}  {speed:.0f} images/s")
                if clock.due():
                    save(epoch, step + 1)
        row = {
            "part": "mean",
            "epoch": epoch + 1,
            "loss": sums[0] / sums[2],
            "error_px": sums[1] / sums[2],
            "learning_rate": settings.lr * warm_cosine((epoch + 1) * steps - 1, settings.epochs * steps, settings.warmup),
            "images_per_second": clock.images / clock.seconds,
            "seconds": clock.seconds,
        }
        row |= validate_mean(average.state, config, skeleton, validation, device)
        run.record(row)
        start_step, sums = 0, [0.0, 0.0, 0]
        save(epoch + 1, 0, finished=epoch + 1 == settings.epochs)
    load_mean(model, average.state)


def validate_mean(
    state: dict[str, Tensor], config: TrainConfig, skeleton: Skeleton, records: Sequence[Record], device: torch.device
) -> dict[str, float]:
    """PCK@0.2 and mean error on plain crops, crop pixels. The processes share the work; the main one has the figures.

    Where nobody's torso is known, PCK takes the person's box, as in `posecov.evaluation`.
    """
    model = PoseModel(config.model, len(skeleton), pretrained=False)
    load_mean(model, state)
    model.to(device).to(memory_format=torch.channels_last).eval()
    dataset = CropDataset(records, skeleton, config.model.input_size, config.model.padding)
    pixel = normalisation(config.model.backbone)
    means, points, labelled = [], [], []
    with torch.inference_mode():
        for batch in batches(dataset, processes.own_range(len(records)), 50, config.workers):
            images = normalise(batch.crops.to(device), *pixel).contiguous(memory_format=torch.channels_last)
            means.append(model.mean(images).mean.unflatten(1, (-1, 2)).cpu())
            points.append(batch.points)
            labelled.append(batch.labelled)
    mean, truth, mask = (processes.collect(torch.cat(rows), len(records)).numpy() for rows in (means, points, labelled))
    if not processes.is_main():
        return {}
    unit, threshold = np.full(len(truth), np.nan), 0.2
    if skeleton.torso is not None:
        a, b = skeleton.torso_indices
        unit = np.where(mask[:, a] & mask[:, b], np.linalg.norm(truth[:, a] - truth[:, b], axis=-1), np.nan)
    if np.isnan(unit).all():
        unit, threshold = np.full(len(truth), config.model.input_size / config.model.padding), BOX_THRESHOLD
    errors = keypoint_errors(mean, truth, mask)
    return {"validation_pck": float(pck(errors, unit, threshold)[1]), "validation_error_px": float(np.nanmean(errors))}


def mean_optimizer(model: PoseModel, settings: MeanConfig) -> torch.optim.Optimizer:
    """AdamW; the backbone learns slower, and only matrices decay. The covariance head is not trained here."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or name.startswith("covariance_head."):
            continue
        factor = settings.backbone_lr if name.startswith("backbone.") else 1.0
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    options = [{"params": p, "factor": f, "weight_decay": d, "lr": settings.lr * f} for (f, d), p in groups.items()]
    return torch.optim.AdamW(options, lr=settings.lr)
