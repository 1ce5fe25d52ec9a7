"""Tables and picture of the dimensions experiment."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from posecov.learn.experiments import dimension_checks, dimension_costs, dimensions
from posecov.learn.experiments.cells import markdown_table, number, save_figure, spread
from posecov.learn.regression import RegressionConfig

COLOURS = {
    "NLL": "#c1272d", "NLL:TIC": "#762a83", "KL": "#e08214", "2-W": "#1b7837", "2-W bound": "#2166ac", "hybrid": "k",
    "hybrid, finetuned": "#8c510a",
    "Faithful": "0.55", "MSE": "0.8", "NLL:TIC, naive autograd": "#af8dc3", "NLL:TIC, exact": "#762a83",
    "NLL:TIC, estimated": "#c2a5cf",
}  # fmt: skip
FIGURES = {
    "kl": "KL from the truth, nats", "wasserstein": "squared 2-Wasserstein distance to the truth",
    "mean_error": "squared error of the mean, per dimension", "nll": "held-out NLL minus the true law's, nats",
}  # fmt: skip


class Results(NamedTuple):
    """All cells. fits: (D, method); checks: (kind, setting, method); costs: (D, method); gradients: (D, loss)."""

    dimensions: tuple[int, ...]
    seeds: tuple[int, ...]
    fits: Mapping[tuple[int, str], Mapping[str, Any]]
    checks: Mapping[tuple[str, str, str], Mapping[str, Any]]
    costs: Mapping[tuple[int, str], Mapping[str, Any]]
    gradients: Mapping[tuple[int, str], Mapping[str, Any]]
    quick: bool


def rows(results: Results) -> list[dict[str, Any]]:
    """CSV: a row per kind, D, method and seed (fits and checks), per D and method (cost), per D, loss and place (gradients)."""
    made: list[dict[str, Any]] = []
    names = (
        "mean_error", "kl", "wasserstein", "wasserstein_covariance", "trace", "nll", "tac", "nonfinite", "largest_gradient",
    )  # fmt: skip
    fits = {("fit", "", method, d): result for (d, method), result in results.fits.items()}
    middle = 4 if results.quick else 8
    checks = {
        (kind, setting, method, int(setting.removeprefix("D = ")) if kind == "estimator" else middle): result
        for (kind, setting, method), result in results.checks.items()
    }
    for (kind, setting, method, d), result in (fits | checks).items():
        for s, seed in enumerate(results.seeds):
            head = {"kind": kind, "setting": setting, "D": d, "method": method, "seed": seed, "true_nll": result["true_nll"]}
            made.append(head | {name: result[name][s] for name in names})
    made += [{"kind": "cost", "D": d, "method": method} | dict(cost) for (d, method), cost in results.costs.items()]
    for (d, method), places in results.gradients.items():
        made += [{"kind": "gradients", "setting": place, "D": d, "method": method} | dict(c) for place, c in places.items()]
    return made


def report(results: Results) -> str:
    """The Markdown."""
    return "\n".join([_quality(results), _costs(results), _estimator(results), _checks(results), _gradients(results)])


def _figure(result: Mapping[str, Any], name: str) -> list[float | None]:
    shift = result["true_nll"] if name == "nll" else 0.0
    return [None if value is None else value - shift for value in result[name]]


def _quality(results: Results) -> str:
    text = (
        f"### Error against D\n\nNew samples of a known law, {len(results.seeds)} seeds of the networks, learning rate 1e-3 "
        "with a cosine, floor of the covariance 1e-3 (standardised units), no further jitter. Unlike the paper, for one CPU "
        f"thread: epochs fall and batches grow with D, and networks are no wider than {dimensions.WIDEST}, as the table says; "
        "NLL:TIC is exact up to D = 8, with few probes (see below) beyond. Gradients are clipped to length 1; what that "
        "does stands below. The hybrid is half bound, half NLL; `finetuned`: NLL at a tenth of the rate. In parentheses: "
        "seeds with steps left out because loss or gradient was not finite.\n\n"
    )
    settings = [dimensions.DimensionConfig.standard(d, results.quick) for d in results.dimensions]
    header = ["D", *map(str, results.dimensions)]
    table = [[name, *(str(getattr(setting, name)) for setting in settings)] for name in ("samples", "epochs", "batch", "width")]
    table.append(["papers' width", *(str(d**2 + 2) for d in results.dimensions)])
    text += markdown_table(table, header)
    for name, title in FIGURES.items():
        table = []
        for method in dimensions.METHODS:
            line = [method]
            for d in results.dimensions:
                result = results.fits[d, method]
                failed = sum(1 for count in result["nonfinite"] if count)
                line.append(spread(_figure(result, name)) + (f" ({failed})" if failed else ""))
            table.append(line)
        text += f"\n{title[0].upper()}{title[1:]}:\n\n" + markdown_table(table, header)
    return text


def _costs(results: Results) -> str:
    ds = results.dimensions
    text = (
        f"### Cost of a training step against D\n\nNetworks of the papers' width D^2 + 2, batch {dimension_costs.BATCH}, one "
        "step: forward, loss, backward, AdamW. Milliseconds are CPU time (median); MiB are what the step's tensors hold at "
        "once beyond weights and optimizer state. Exponent: slope of the logarithms from D = 12 on. The naive form is left out "
        "at the D that follow one where a step took more than 8 s or 2,000 MiB. The estimate takes "
        f"{RegressionConfig.probes} probes.\n"
    )
    for name, unit in (("ms", "ms"), ("mb", "MiB")):
        table = []
        for method in dimension_costs.METHODS:
            values = [results.costs[d, method][name] for d in ds]
            last = max((i for i, v in enumerate(values) if v), default=None)
            ratio = "-"
            if last is not None and values[last]:
                ratio = f"{values[last] / results.costs[ds[last], 'NLL'][name]:.2f} at {ds[last]}"
            table.append([method, *(number(v, 1) for v in values), number(dimension_costs.exponent(ds, values)), ratio])
        text += "\n" + markdown_table(table, [f"{unit} at D =", *map(str, ds), "exponent", "over NLL"])
    return text


def _estimator(results: Results) -> str:
    text = (
        f"### Estimated against exact Taylor terms\n\nNLL:TIC with {RegressionConfig.probes} probes and exactly, the same "
        "seeds, samples and order, trained longer than above. Held-out NLL minus the true law's, nats; the difference is "
        "paired by seed.\n\n"
    )
    table = []
    for setting in dict.fromkeys(setting for kind, setting, _ in results.checks if kind == "estimator"):
        pair = [results.checks["estimator", setting, method] for method in ("exact", "estimated")]
        exact, estimated = (_figure(result, "nll") for result in pair)
        differences = [None if None in (e, x) else e - x for e, x in zip(estimated, exact, strict=True)]  # type: ignore[operator]
        table.append([setting, spread(exact, 3), spread(estimated, 3), spread(differences, 3)])
    return text + markdown_table(table, ["", "exact", "estimated", "difference"])


def _checks(results: Results) -> str:
    middle = 4 if results.quick else 8
    base = {method: results.fits.get((middle, method)) for method in dimensions.METHODS}
    text = (
        f"### A wrong mean, D = {middle}\n\nThe mean is trained by squared error, then frozen with an offset (in standard "
        "deviations of y) on every coordinate; then the covariance is trained. Squared 2-Wasserstein distance of the "
        "covariance to the true one, and its trace over the true one's.\n\n"
    )
    table = []
    methods = list(dict.fromkeys(method for kind, _, method in results.checks if kind == "wrong mean"))
    for method in methods:
        line = [method]
        for name in ("wasserstein_covariance", "trace"):
            line += [spread(results.checks["wrong mean", f"{offset:g}", method][name]) for offset in dimension_checks.OFFSETS]
        table.append(line)
    header = ["offset"] + [f"{what}, {o:g}" for what in ("distance", "trace") for o in dimension_checks.OFFSETS]
    text += markdown_table(table, header)
    text += f"\n### Shared against separate networks, D = {middle}\n\n"
    table = []
    for kind, setting, method in results.checks:
        if kind == "shared":
            pair = (base[method], results.checks[kind, setting, method])
            table.append([method] + [spread(_figure(r, name)) if r else "-" for name in ("kl", "mean_error") for r in pair])
    text += markdown_table(table, ["loss", "KL, separate", "KL, shared", "error of mean, separate", "error of mean, shared"])
    text += (
        f"\n### Warm-up of the mean, and clipping, D = {middle}\n\nThe same epochs in all; with warm-up the first half are "
        "squared error of the mean. Plain is as everywhere above: clipped, without warm-up. Largest gradient: the longest of "
        "any step before clipping, the worst seed.\n\n"
    )
    table = []
    changed = {key: r for key, r in results.checks.items() if key[0] in ("warm-up", "clipping")}
    for method in dict.fromkeys(method for _, _, method in changed):
        found = [(f"{kind} of {s}" if kind == "warm-up" else s, r) for (kind, s, m), r in changed.items() if m == method]
        for label, r in (("plain", base[method]), *found):
            if r:
                worst = max((v for v in r["largest_gradient"] if v is not None), default=math.nan)
                line = [f"{method}, {label}", spread(_figure(r, "kl")), spread(_figure(r, "mean_error"))]
                table.append([*line, f"{worst:.2g}", str(sum(r["nonfinite"]))])
    header = ["loss, change", "KL", "error of mean", "largest gradient", "steps not finite"]
    return text + markdown_table(table, header)


def _gradients(results: Results) -> str:
    text = (
        "### Gradients at repeated eigenvalues\n\nGradient by the predicted factor, float64; of each loss, not finite + "
        f"exploding (longer than {dimension_checks.EXPLODING:.0f} times the loss's median at generic predictions) of the "
        "draws, and the largest over that median. `2-W by autograd` differentiates through the eigendecomposition.\n\n"
    )
    table = []
    for (d, name), places in results.gradients.items():
        line = [f"{name}, D = {d}"]
        for place in dimension_checks.PLACES:
            counts = places[place]
            largest = "" if counts["largest"] is None else f", x{counts['largest']:.2g}"
            line.append(f"{counts['nonfinite']} + {counts['exploding']} of {counts['draws']}{largest}")
        table.append(line)
    return text + markdown_table(table, ["loss", *dimension_checks.PLACES])


def picture(path: Path, results: Results) -> None:
    """Error of every loss, time and memory of a step, against D."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    grid = figure.subplots(2, 3)
    for axes, name in zip(grid.flat, ("kl", "wasserstein", "mean_error"), strict=False):
        for method in dimensions.METHODS:
            values = np.array([_figure(results.fits[d, method], name) for d in results.dimensions], dtype=float)
            with np.errstate(all="ignore"):
                middle, low, high = np.nanmean(values, axis=1), np.nanmin(values, axis=1), np.nanmax(values, axis=1)
            axes.plot(results.dimensions, middle, marker=".", color=COLOURS[method], label=method)
            axes.fill_between(results.dimensions, low, high, color=COLOURS[method], alpha=0.12, lw=0)
        axes.set(title=FIGURES[name], yscale="log", xlabel="D", xticks=results.dimensions)
        axes.grid(alpha=0.3, which="both")
    grid[0, 0].legend(fontsize=8)
    shown = ("2-W bound", "NLL", "2-W", "NLL:TIC, estimated", "NLL:TIC, exact", "NLL:TIC, naive autograd")
    for axes, name, title in ((grid[1, 0], "ms", "CPU ms a step"), (grid[1, 1], "mb", "MiB a step")):
        for method in shown:
            pairs = [(d, results.costs[d, method][name]) for d in results.dimensions if results.costs[d, method][name]]
            if pairs:
                axes.plot(*zip(*pairs, strict=True), marker=".", color=COLOURS[method], label=method)
        axes.set(title=title, xscale="log", yscale="log", xlabel="D")
        axes.set_xticks(results.dimensions, [str(d) for d in results.dimensions])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    grid[1, 0].legend(fontsize=8)
    _wrong_mean(grid[1, 2], results)
    save_figure(path, figure, dpi=80)


def _wrong_mean(axes: Any, results: Results) -> None:
    methods: Sequence[str] = list(dict.fromkeys(method for kind, _, method in results.checks if kind == "wrong mean"))
    for method in methods:
        values = [results.checks["wrong mean", f"{o:g}", method]["trace"] for o in dimension_checks.OFFSETS]
        means = [np.nanmean(np.array(value, dtype=float)) for value in values]
        axes.plot(dimension_checks.OFFSETS, means, marker=".", color=COLOURS[method], label=method)
    axes.axhline(1, color="k", lw=0.8, ls=":")
    axes.set(title="a wrong mean: trace of the covariance / true", xlabel="offset of the mean, sd of y", yscale="log")
    axes.grid(alpha=0.3)
