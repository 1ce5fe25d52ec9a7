"""Univariate heteroscedastic regression (ToSS, arXiv 2502.10587; TIC-TAC, arXiv 2310.18953): sigma = |x|, three sinusoids.

The sinusoids oscillate fast, so the mean is hard: a loss that lets the variance explain what the mean has not learnt yet stays
there. The truth is known, so fitted mean and sigma are compared with it directly.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecov.learn.experiments.cells import Options, markdown_table, progress, run_cell, save_figure, spread, write_report
from posecov.learn.experiments.labels import neighbour_roots
from posecov.learn.regression import RegressionConfig, fit

FUNCTIONS: Mapping[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "growing": ("|x| sin(2 pi x)", lambda x: np.abs(x) * np.sin(2 * np.pi * x)),
    "shrinking": ("(5 - |x|) sin(2 pi x)", lambda x: (5 - np.abs(x)) * np.sin(2 * np.pi * x)),
    "constant": ("5 sin(2 pi x)", lambda x: 5 * np.sin(2 * np.pi * x)),
}
# Name in tables -> settings that differ from the common ones. Phases of the hybrid share the epochs of the others.
METHODS: Mapping[str, Mapping[str, Any]] = {
    "NLL": {"loss": "nll"},
    "NLL, unclipped": {"loss": "nll", "clip": math.inf},
    "NLL:TIC": {"loss": "nll", "tic": "exact"},
    "KL": {"loss": "kl"},
    "2-W bound": {"loss": "wasserstein-bound"},
    "hybrid": {"loss": "nll", "pretrain_loss": "wasserstein-bound"},
    "hybrid:TIC": {"loss": "nll", "pretrain_loss": "wasserstein-bound", "tic": "exact"},
    "beta-NLL": {"loss": "beta-nll"},
    "Faithful": {"loss": "faithful"},
}


@dataclass(frozen=True)
class UnivariateConfig:
    """What all methods share.

    Attributes:
        samples: for training; as many are drawn for the held-out NLL.
        epochs: of every method.
        batch: samples a step.
        width: of the networks; D^2 + 2 = 3 units could not follow ten periods.
        neighbours: k of the pseudo-labels.
        learning_rate: of AdamW, with a cosine.
    """

    samples: int = 4000
    epochs: int = 100
    batch: int = 128
    width: int = 64
    neighbours: int = 50
    learning_rate: float = 3e-3


def draw(function: str, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x (N, 1) uniform in [-5, 5] and y (N, 1) around a key of `FUNCTIONS` with sigma |x|."""
    rng = np.random.default_rng((30, seed))
    x = rng.uniform(-5, 5, size=(samples, 1))
    return x, FUNCTIONS[function][1](x) + np.abs(x) * rng.standard_normal(x.shape)


def recipe(config: UnivariateConfig, method: str) -> RegressionConfig:
    """Settings of a key of `METHODS`. Members that fail are counted."""
    settings = dict(METHODS[method])
    epochs = config.epochs
    if "pretrain_loss" in settings:
        settings["pretrain_epochs"] = epochs // 2
        epochs -= epochs // 2
    # The raw factor can pass through 0, where the likelihood's gradient is huge: unclipped, it fills Adam's second moments,
    # and sigma stays where it was thrown.
    settings = {"clip": 1.0} | settings
    return RegressionConfig(
        **settings, epochs=epochs, batch=config.batch, width=config.width, learning_rate=config.learning_rate,
        schedule="cosine", floor=1e-3, jitter=0.0, on_nonfinite="count",
    )  # fmt: skip


def compute(config: UnivariateConfig, function: str, method: str, seeds: Sequence[int]) -> dict[str, Any]:
    """One cell: fit all seeds to the same samples and compare with the truth on a grid.

    Returns:
        sigma_error and mean_error (S,): mean absolute error on the grid; nll (S,): held out; nonfinite (S,) steps;
        mean and sigma (S, G) on the grid (G,); label_sigma_error, of the pseudo-labels at x; best_nll, held out, of the truth.
    """
    x, y = draw(function, config.samples, 0)
    roots = neighbour_roots(x, y, min(config.neighbours, len(x) - 1))
    fitted = fit(recipe(config, method), x, y, roots, seeds)
    grid = np.linspace(-5, 5, 501)
    mean, covariance = fitted.predict(grid[:, None])
    mean, sigma = mean[..., 0], np.sqrt(covariance[..., 0, 0])
    test_x, test_y = draw(function, config.samples, 1)
    test_mean, test_covariance = fitted.predict(test_x)
    variance = test_covariance[..., 0]
    nll = 0.5 * (math.log(2 * math.pi) + np.log(variance) + np.square(test_y - test_mean) / variance)
    return {
        "sigma_error": np.abs(sigma - np.abs(grid)).mean(axis=1),
        "mean_error": np.abs(mean - FUNCTIONS[function][1](grid)).mean(axis=1),
        "nll": nll.mean(axis=(1, 2)),
        "nonfinite": fitted.nonfinite,
        "grid": grid,
        "mean": mean.astype(np.float32),
        "sigma": sigma.astype(np.float32),
        "label_sigma_error": float(np.abs(roots[:, 0, 0] - np.abs(x[:, 0])).mean()),
        "best_nll": float(np.mean(0.5 * math.log(2 * math.pi) + np.log(np.abs(test_x)) + 0.5 * np.square(
            (test_y - FUNCTIONS[function][1](test_x)) / test_x))),
    }  # fmt: skip


def run(options: Options) -> str:
    """Compute what is missing, write tables and figure, return the Markdown."""
    config = UnivariateConfig(samples=500, epochs=10) if options.quick else UnivariateConfig()
    return run_with(options.folder("univariate"), config, tuple(options.seeds))


def run_with(folder: Path, config: UnivariateConfig, seeds: tuple[int, ...]) -> str:
    """`run` for given settings."""
    results: dict[tuple[str, str], dict[str, Any]] = {}
    with progress(len(FUNCTIONS) * len(METHODS), "univariate") as begin:
        for function in FUNCTIONS:
            for method in METHODS:
                begin(f"{function}, {method}")
                key = {
                    "experiment": "univariate", "function": function, "method": method, "seeds": seeds,
                    "samples": config.samples, "neighbours": config.neighbours, "version": 1,
                    "regression": vars(recipe(config, method)),
                }  # fmt: skip
                results[function, method] = run_cell(
                    folder,
                    key,
                    lambda f=function, m=method: compute(config, f, m, seeds),  # type: ignore[misc]
                )
    picture(folder / "univariate.png", config, results)
    return write_report(folder, "univariate", report(config, seeds, results), rows(seeds, results))


def rows(seeds: Sequence[int], results: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per function, method and seed."""
    names = ("sigma_error", "mean_error", "nll", "nonfinite")
    return [
        {"function": function, "method": method, "seed": seed} | {name: result[name][s] for name in names}
        for (function, method), result in results.items()
        for s, seed in enumerate(seeds)
    ]


def report(config: UnivariateConfig, seeds: Sequence[int], results: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """The Markdown tables: error of sigma, error of the mean, held-out NLL."""
    text = (
        f"y = f(x) + |x| e, x uniform in [-5, 5]; {config.samples} samples, {len(seeds)} seeds of the networks (width "
        f"{config.width}), {config.epochs} epochs of batches of {config.batch} at {config.learning_rate} with a cosine; "
        f"pseudo-labels from {config.neighbours} neighbours in x. Errors are means of the absolute error on [-5, 5]; NLL is "
        "held out. Gradients are clipped to length 1, but for `NLL, unclipped`. The last rows are what the pseudo-labels "
        "themselves say, and the true law's NLL. In parentheses: seeds with "
        "steps left out because loss or gradient was not finite.\n"
    )
    names = {"sigma_error": "Error of sigma", "mean_error": "Error of the mean", "nll": "Held-out NLL"}
    for name, title in names.items():
        table = []
        for method in METHODS:
            line = [method]
            for function in FUNCTIONS:
                result = results[function, method]
                failed = sum(1 for count in result["nonfinite"] if count)
                line.append(spread(result[name]) + (f" ({failed})" if failed else ""))
            table.append(line)
        extra = {"sigma_error": ("pseudo-labels", "label_sigma_error"), "nll": ("truth", "best_nll")}.get(name)
        if extra:
            table.append([extra[0], *(spread([results[function, "NLL"][extra[1]]]) for function in FUNCTIONS)])
        header = [title, *(f"{formula}" for formula, _ in FUNCTIONS.values())]
        text += "\n" + markdown_table(table, [cell.replace("|", "\\|") for cell in header])
    return text


def picture(path: Path, config: UnivariateConfig, results: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    """Fits of the first seed: rows are methods, columns functions; true and fitted mean with a band of one sigma."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 1.75 * len(METHODS)), layout="constrained")
    grid_axes = figure.subplots(len(METHODS), len(FUNCTIONS), sharex=True, sharey="col", squeeze=False)
    for column, (function, (formula, f)) in enumerate(FUNCTIONS.items()):
        x, y = draw(function, config.samples, 0)
        for row, method in enumerate(METHODS):
            axes, result = grid_axes[row, column], results[function, method]
            grid, mean, sigma = (
                np.array(values, dtype=float) for values in (result["grid"], result["mean"][0], result["sigma"][0])
            )
            axes.plot(x[:1000, 0], y[:1000, 0], ".", color="0.8", ms=2, zorder=0)
            axes.plot(grid, f(grid), color="k", lw=0.6, label="true mean")
            axes.fill_between(grid, mean - sigma, mean + sigma, color="#2166ac", alpha=0.3, lw=0, label="fit, one sigma")
            axes.plot(grid, mean, color="#2166ac", lw=1, label="fit")
            for sign in (-1, 1):
                label = "true sigma about the fit" if sign > 0 else None
                axes.plot(grid, mean + sign * np.abs(grid), color="#c1272d", lw=0.7, ls=":", label=label)
            axes.set(xlim=(-5, 5), ylim=(-14, 14))
            axes.text(
                0.5, 0.02, f"error of sigma {np.mean([v for v in result['sigma_error'] if v is not None] or [np.nan]):.2f}",
                transform=axes.transAxes, ha="center", fontsize=8,
            )  # fmt: skip
            if row == 0:
                axes.set_title(f"y = {formula}", fontsize=10)
            if column == 0:
                axes.set_ylabel(method)
    handles, labels = grid_axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=4, fontsize=9)
    save_figure(path, figure, dpi=75)
