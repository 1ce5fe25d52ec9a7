"""Locking (ToSS, arXiv 2502.10587): a wrong mean turns the covariance of NLL and KL along the residual; that holds it back.

The truth is an elongated, tilted normal in two dimensions about (-3, -3); the prediction starts isotropic, N((3, 3), I). Its
mean and its factor A, with covariance A A^T, are free parameters that gradient descent moves; each step sees one batch of
samples, and where a loss wants a pseudo-label, it gets the true covariance. From an isotropic start A and the root of the
pseudo-label commute and go on commuting, so that here the bound *is* the exact distance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posecov.learn.experiments.cells import Options, markdown_table, number, progress, run_cell, spread, write_report
from posecov.learn.losses import LOSSES, Prediction, Target
from posecov.learn.regression import member_losses

METHODS: Mapping[str, str] = {
    "nll": "NLL", "kl": "KL", "wasserstein": "exact 2-Wasserstein", "wasserstein-bound": "2-Wasserstein bound",
}  # fmt: skip
TRUE_MEAN, START = (-3.0, -3.0), (3.0, 3.0)
SIGMAS = (1.5, 0.4)
# Angle of the true main axis to x; the first residual lies at 45 degrees.
TRUTHS: Mapping[str, float] = {"tilted": 15.0, "orthogonal": 135.0}
STRIP = (0, 3, 10, 30, 100, 300, 1000, 3000)
_FLOOR, _ARRIVED, _BATCH = 1e-6, 0.3, 32


@dataclass(frozen=True)
class LockingConfig:
    """One cell: a loss on a truth.

    Attributes:
        loss: a key of `METHODS`.
        truth: a key of `TRUTHS`.
        warmup: steps of squared error on the mean alone, counted among ``steps``.
        optimizer: "sgd", which shows how large the gradients are, or "adam", which hides it.
        rates: learning rates, each a run of its own.
        steps: of gradient descent.
        seeds: of the samples.
    """

    loss: str
    truth: str = "tilted"
    warmup: int = 0
    optimizer: str = "sgd"
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    steps: int = 3000
    seeds: tuple[int, ...] = (0, 1, 2)


def true_covariance(truth: str) -> np.ndarray:
    """(2, 2) of a key of `TRUTHS`."""
    angle = math.radians(TRUTHS[truth])
    axes = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (axes * np.square(SIGMAS)) @ axes.T


def descend(config: LockingConfig) -> dict[str, np.ndarray]:
    """Gradient descent from the start, all learning rates and seeds at once.

    Returns:
        step (T,), recorded more and more seldom; mean (R, S, T, 2) and covariance (R, S, T, 2, 2) before that step, for R
        rates and S seeds; nonfinite (R, S), whether loss or gradient ever was not finite: the run stands still from there.
    """
    rates, seeds, covariance = config.rates, config.seeds, true_covariance(config.truth)
    members = len(rates) * len(seeds)
    values, vectors = np.linalg.eigh(covariance)
    root = torch.from_numpy((vectors * np.sqrt(values)) @ vectors.T)
    generators = [np.random.default_rng((20, seed)) for seed in seeds]
    mean = torch.tensor(START, dtype=torch.float64).repeat(members, 1)
    factor = torch.eye(2, dtype=torch.float64).repeat(members, 1, 1)
    rate = torch.tensor(rates, dtype=torch.float64).repeat_interleave(len(seeds))
    parameters = [mean, factor]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    alive = torch.ones(members, dtype=torch.bool)
    recorded = sorted({0, config.steps, *(round(1.12**i) for i in range(200) if 1.12**i < config.steps), *STRIP})
    steps, means, factors = [], [], []
    for step in range(config.steps + 1):
        if step in recorded:
            steps.append(step)
            means.append(mean.clone())
            factors.append(factor.clone())
        noise = np.stack([generator.standard_normal((_BATCH, 2)) for generator in generators])
        samples = torch.from_numpy(noise @ root.numpy() + TRUE_MEAN).repeat(len(rates), 1, 1)
        name = "mse" if step < config.warmup else config.loss
        gradients, sound = _gradients(name, mean, factor, samples, root)
        alive &= sound
        for p, gradient, (first, second) in zip(parameters, gradients, moments, strict=True):
            direction = torch.where(alive.view(-1, *[1] * (p.ndim - 1)), gradient, 0.0)
            if config.optimizer == "adam":
                first.lerp_(direction, 0.1)
                second.lerp_(direction.square(), 0.001)
                unbiased = second / (1 - 0.999 ** (step + 1))
                direction = first / (1 - 0.9 ** (step + 1)) / (unbiased.sqrt() + 1e-8)
                direction = torch.where(alive.view(-1, *[1] * (p.ndim - 1)), direction, 0.0)
            p -= rate.view(-1, *[1] * (p.ndim - 1)) * direction
    shape = (len(rates), len(seeds))
    predicted = torch.stack([f @ f.mT for f in factors], dim=1)
    return {
        "step": np.array(steps),
        "mean": torch.stack(means, dim=1).view(*shape, -1, 2).numpy(),
        "covariance": predicted.view(*shape, -1, 2, 2).numpy(),
        "nonfinite": (~alive).view(shape).numpy(),
    }


def _gradients(name: str, mean: Tensor, factor: Tensor, samples: Tensor, root: Tensor) -> tuple[list[Tensor], Tensor]:
    """Gradients by mean (M, 2) and factor (M, 2, 2), and which members' are finite."""
    mean, factor = mean.clone().requires_grad_(), factor.clone().requires_grad_()
    spread_mean, spread_factor = mean.unsqueeze(1).expand_as(samples), factor.unsqueeze(1).expand(*samples.shape, 2)
    covariance = spread_factor @ spread_factor.mT + _FLOOR * torch.eye(2, dtype=torch.float64)
    losses, _ = member_losses(
        LOSSES[name],
        Prediction(spread_mean, covariance, spread_factor),
        Target(samples, None, root.expand(*samples.shape, 2)),
    )
    sound = torch.isfinite(losses)
    if not sound.any():
        return [torch.zeros_like(mean), torch.zeros_like(factor)], sound
    found = torch.autograd.grad(losses[sound].sum(), [mean, factor], allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip((mean, factor), found, strict=True)]
    return gradients, sound & torch.stack([torch.isfinite(g).flatten(1).all(1) for g in gradients]).all(0)


def describe(mean: np.ndarray, covariance: np.ndarray, truth: str) -> dict[str, np.ndarray]:
    """How far a prediction, (..., 2) and (..., 2, 2), is from the truth.

    Returns:
        Each (...): distance of the means; residual_angle, degrees in [0, 90] between main axis and residual (45 for one
        without a main axis, NaN once the mean has arrived); axis_error, the same to the true main axis; elongation, the
        ratio of the sigmas; along, sigma along the residual's first direction, and wasserstein, squared.
    """
    residual = np.array(TRUE_MEAN) - mean
    distance = np.linalg.norm(residual, axis=-1)
    bad = ~np.isfinite(covariance).all(axis=(-1, -2))
    safe = np.where(bad[..., None, None], np.eye(2), covariance)
    values, vectors = np.linalg.eigh(safe)
    main = vectors[..., 1]
    round_ = values[..., 1] - values[..., 0] <= 1e-9 * values[..., 1]
    with np.errstate(all="ignore"):
        cosine = np.abs((main * residual).sum(-1)) / distance
        angle = np.where(round_, 45.0, np.degrees(np.arccos(np.clip(cosine, 0, 1))))
        elongation = np.sqrt(values[..., 1] / np.maximum(values[..., 0], 1e-300))
    target = true_covariance(truth)
    axis = np.linalg.eigh(target)[1][:, 1]
    error = np.where(round_, 45.0, np.degrees(np.arccos(np.clip(np.abs(main @ axis), 0, 1))))
    across = np.array(START) - np.array(TRUE_MEAN)
    across = across / np.linalg.norm(across)
    # For 2 x 2 matrices tr (A B)^1/2 = (tr A B + 2 sqrt(det A det B))^1/2.
    inner = np.einsum("...ij,ji->...", safe, target) + 2 * np.sqrt(np.maximum(np.linalg.det(safe), 0) * np.linalg.det(target))
    wasserstein = distance**2 + np.trace(safe, axis1=-2, axis2=-1) + np.trace(target) - 2 * np.sqrt(np.maximum(inner, 0))
    return {
        "distance": distance,
        "residual_angle": np.where(bad | (distance < _ARRIVED), np.nan, angle),
        "axis_error": np.where(bad, np.nan, error),
        "elongation": np.where(bad, np.nan, elongation),
        "along": np.where(bad, np.nan, np.sqrt(np.maximum(np.einsum("i,...ij,j->...", across, safe, across), 0))),
        "wasserstein": np.where(bad, np.nan, wasserstein),
    }


def summary(config: LockingConfig, found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What a cell keeps: per rate and seed the figures of the table, and the path to draw."""
    facts = describe(found["mean"], found["covariance"], config.truth)
    diverged = found["nonfinite"] | ~(facts["distance"][..., -1] < 2 * facts["distance"][..., 0])
    arrived = np.where(facts["distance"] < _ARRIVED, found["step"], np.inf).min(axis=-1)
    # Until the first step with the loss itself there is no main axis.
    after = found["step"] > config.warmup
    with np.errstate(all="ignore"):
        return {
            "rates": list(config.rates),
            "step": found["step"],
            "arrival": np.where(diverged, np.inf, arrived),
            "smallest_angle": _least(np.where(after, facts["residual_angle"], np.nan)),
            "largest_along": np.nanmax(np.where(np.isfinite(facts["along"]), facts["along"], 0), axis=-1),
            "final": {name: values[..., -1] for name, values in facts.items()},
            "diverged": diverged,
            "mean": found["mean"].astype(np.float32),
            "covariance": found["covariance"].astype(np.float32),
        }


def _least(values: np.ndarray) -> np.ndarray:
    """Smallest of the last axis without NaN; NaN where there is nothing."""
    least = np.where(np.isnan(values), np.inf, values).min(axis=-1)
    return np.where(np.isinf(least), np.nan, least)


def cells(options: Options) -> list[LockingConfig]:
    """All cells of the experiment."""
    steps = 300 if options.quick else STRIP[-1]
    # 30 steps bring the mean part of the way, 300 all of it (at the learning rate of the table).
    settings = (
        [("sgd", 0), ("sgd", 30)] if options.quick else [("sgd", 0), ("sgd", 30), ("sgd", 300), ("adam", 0), ("adam", 30)]
    )
    return [
        LockingConfig(loss, truth, warmup, optimizer, steps=steps, seeds=tuple(options.seeds))
        for optimizer, warmup in settings
        for truth in TRUTHS
        for loss in METHODS
    ]


def run(options: Options) -> str:
    """Compute what is missing, write tables and figures, return the Markdown."""
    folder = options.folder("locking")
    wanted = cells(options)
    results: list[tuple[LockingConfig, dict[str, Any]]] = []
    with progress(len(wanted), "locking") as begin:
        for config in wanted:
            begin(f"{config.loss}, {config.truth}, {config.optimizer}, warm-up {config.warmup}")
            key = {"experiment": "locking", "version": 1, **vars(config), "covariance": true_covariance(config.truth)}
            key |= {"true_mean": TRUE_MEAN, "start": START, "batch": _BATCH, "floor": _FLOOR, "arrived": _ARRIVED}
            results.append((config, run_cell(folder, key, lambda c=config: summary(c, descend(c)))))  # type: ignore[misc]
    from posecov.learn.experiments.locking_figures import draw

    draw(folder, results)
    return write_report(folder, "locking", report(results), rows(results))


def rows(results: Sequence[tuple[LockingConfig, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A row per optimiser, truth, warm-up, loss, rate and seed."""
    made = []
    for config, result in results:
        for r, rate in enumerate(config.rates):
            for s, seed in enumerate(config.seeds):
                head = {
                    "optimizer": config.optimizer, "truth": config.truth, "warmup": config.warmup, "loss": config.loss,
                    "rate": rate, "seed": seed, "diverged": int(result["diverged"][r][s]),
                }  # fmt: skip
                figures = {name: result[name][r][s] for name in ("arrival", "smallest_angle", "largest_along")}
                made.append(head | figures | {f"final_{k}": v[r][s] for k, v in result["final"].items()})
    return made


def standard_rate(config: LockingConfig) -> int:
    """Index of the learning rate that table and film strip show; all of them are in the CSV."""
    return config.rates.index(0.03) if 0.03 in config.rates else 0


def report(results: Sequence[tuple[LockingConfig, Mapping[str, Any]]]) -> str:
    """The Markdown table."""
    first = results[0][0]
    text = (
        f"Truth N((-3, -3), S), sigmas {SIGMAS[0]} and {SIGMAS[1]}, main axis {abs(TRUTHS['tilted'] - 45):.0f} (tilted) or "
        f"{abs(TRUTHS['orthogonal'] - 45):.0f} degrees (orthogonal) off the first residual; start N((3, 3), I); mean and "
        f"factor are free; {first.steps} steps of {_BATCH} samples, {len(first.seeds)} seeds; pseudo-labels are the true "
        f"covariance. At learning rate {first.rates[standard_rate(first)]}: steps until the mean is within {_ARRIVED} (to "
        "12 %); "
        "smallest angle between main axis and residual on the way (0: the covariance has turned along the residual); largest "
        "sigma along the first residual; squared 2-Wasserstein distance to the truth at the end. Diverged: runs that ended "
        "farther than twice the start or became non-finite, over learning rates "
        f"{', '.join(map(str, first.rates))}. Starting isotropic, factor and pseudo-label commute, so that bound and exact "
        "distance take the same way.\n\n"
    )
    table = []
    for config, result in results:
        r = standard_rate(config)
        arrival = [a for a in result["arrival"][r] if a is not None]
        arrived = number(float(np.mean(arrival)), 0) if arrival else "never"
        if arrival and len(arrival) < len(config.seeds):
            arrived += f" ({len(arrival)} of {len(config.seeds)})"
        diverged = sum(map(sum, result["diverged"]))
        # None: the warm-up alone has brought the mean there.
        angles = [a for a in result["smallest_angle"][r] if a is not None]
        truth = f"{config.truth}, {'warm-up ' + str(config.warmup) if config.warmup else 'no warm-up'}"
        table.append(
            [
                f"{config.optimizer}, {truth}", METHODS[config.loss], arrived, spread(angles, 1),
                spread(result["largest_along"][r], 2), spread(result["final"]["wasserstein"][r], 3),
                f"{diverged} of {len(config.rates) * len(config.seeds)}",
            ]
        )  # fmt: skip
    header = ("setting", "loss", "steps to arrive", "smallest angle, deg", "largest sigma along", "final W2", "diverged")
    return text + markdown_table(table, header)
