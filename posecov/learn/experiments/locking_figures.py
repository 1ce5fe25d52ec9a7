"""Pictures of the locking experiment: film strips of the ellipses, and the way of mean and main axis over time."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecov.learn.experiments import locking
from posecov.learn.experiments.cells import save_figure

COLOURS = {"nll": "#c1272d", "kl": "#e08214", "wasserstein": "#1b7837", "wasserstein-bound": "#2166ac"}
Results = Sequence[tuple["locking.LockingConfig", Mapping[str, Any]]]


def draw(folder: Path, results: Results) -> None:
    """locking.png (tilted truth), locking-orthogonal.png: film strips; locking-curves.png. SGD without warm-up, first seed."""
    for truth in locking.TRUTHS:
        name = "locking.png" if truth == "tilted" else f"locking-{truth}.png"
        film_strip(folder / name, [(c, r) for c, r in results if c.truth == truth and not c.warmup and c.optimizer == "sgd"])
    curves(folder / "locking-curves.png", [(c, r) for c, r in results if not c.warmup and c.optimizer == "sgd"])


def film_strip(path: Path, results: Results) -> None:
    """Rows are losses, columns steps: true and predicted 2-sigma ellipse, and the way of the mean."""
    from matplotlib.figure import Figure

    steps = [step for step in locking.STRIP if step <= results[0][0].steps]
    figure = Figure(figsize=(1.75 * len(steps) + 0.4, 1.85 * len(results) + 0.6), layout="constrained")
    grid = figure.subplots(len(results), len(steps), squeeze=False, sharex=True, sharey=True)
    for number, (row, (config, result)) in enumerate(zip(grid, results, strict=True)):
        r = locking.standard_rate(config)
        mean, covariance = np.array(result["mean"][r][0], dtype=float), np.array(result["covariance"][r][0], dtype=float)
        target = locking.true_covariance(config.truth)
        for axes, step in zip(row, steps, strict=True):
            t = result["step"].index(step)
            axes.add_patch(_ellipse(np.array(locking.TRUE_MEAN), target, facecolor="0.8", edgecolor="0.5", lw=0.8))
            axes.plot(*mean[: t + 1].T, color=COLOURS[config.loss], lw=0.8, alpha=0.6)
            axes.plot(*mean[t], ".", color=COLOURS[config.loss], ms=4)
            axes.add_patch(_ellipse(mean[t], covariance[t], facecolor="none", edgecolor=COLOURS[config.loss], lw=1.5))
            axes.set(xlim=(-8.5, 8.5), ylim=(-8.5, 8.5), aspect="equal", xticks=[], yticks=[])
            if number == 0:
                axes.set_title("start" if step == 0 else f"step {step}", fontsize=10)
        row[0].set_ylabel(locking.METHODS[config.loss], fontsize=9)
    config = results[0][0]
    figure.suptitle(
        f"2-sigma ellipses: truth (grey) and prediction, SGD at {config.rates[locking.standard_rate(config)]}, "
        f"true main axis {abs(locking.TRUTHS[config.truth] - 45):.0f} degrees off the first residual",
        fontsize=10,
    )
    save_figure(path, figure)


def curves(path: Path, results: Results) -> None:
    """Distance of the mean, angle between main axis and residual, and angle to the true main axis over steps, every seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.subplots(len(locking.TRUTHS), 3, squeeze=False, sharex=True)
    panels = {
        "distance": "distance of the mean",
        "residual_angle": "main axis to residual, deg",
        "axis_error": "main axis to true main axis, deg",
    }
    for row, truth in zip(grid, locking.TRUTHS, strict=True):
        for config, result in results:
            if config.truth != truth:
                continue
            r = locking.standard_rate(config)
            facts = locking.describe(np.array(result["mean"][r], float), np.array(result["covariance"][r], float), truth)
            for axes, name in zip(row, panels, strict=True):
                for seed, values in enumerate(facts[name]):
                    label = locking.METHODS[config.loss] if seed == 0 else None
                    style = {"color": COLOURS[config.loss], "lw": 3.0 if config.loss == "wasserstein" else 1.2, "label": label}
                    # Bound and exact distance lie on each other.
                    axes.plot(np.array(result["step"]) + 1, values, ls="--" if "bound" in config.loss else "-", **style)
        for axes, (name, title) in zip(row, panels.items(), strict=True):
            axes.set_xscale("log")
            axes.grid(alpha=0.3)
            axes.set_title(f"{truth}: {title}", fontsize=10)
            if name != "distance":
                axes.set_ylim(-3, 93)
    for axes in grid[-1]:
        axes.set_xlabel("step + 1")
    grid[0, 1].legend(fontsize=8, loc="upper right")
    save_figure(path, figure)


def _ellipse(mean: np.ndarray, covariance: np.ndarray, **style: Any) -> Any:
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(covariance)
    width, height = 4 * np.sqrt(np.maximum(values[::-1], 0))
    angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))
    return Ellipse((float(mean[0]), float(mean[1])), width, height, angle=angle, **style)
