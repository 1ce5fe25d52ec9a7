"""What the pose experiment found, as tables, paired comparisons and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecov import metrics
from posecov.learn.experiments.cells import markdown_table, save_figure, spread, write_report
from posecov.learn.experiments.pose import MASSES, VARIANTS, PoseOptions
from posecov.output import write_json

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]
# Each pair asks one question: is the first better than the second?
PAIRS = (
    ("hybrid", "NLL-TIC"),
    ("hybrid", "NLL-TIC from the constant covariance"),
    ("hybrid", "hybrid, shuffled neighbours"),
    ("hybrid", "hybrid, targets"),
    ("hybrid", "Faithful"),
    ("hybrid", "hybrid without J J^T"),
    ("hybrid", "hybrid without curvature"),
    ("smoothed hybrid", "NLL-TIC"),
    ("smoothed hybrid", "NLL-TIC from the constant covariance"),
    ("smoothed hybrid", "hybrid"),
    ("smoothed hybrid", "smoothed hybrid, shuffled neighbours"),
    ("smoothed hybrid", "smoothed hybrid, targets"),
    ("smoothed hybrid", "Faithful"),
    ("smoothed hybrid", "smoothed hybrid without J J^T"),
    ("smoothed hybrid", "smoothed hybrid without curvature"),
    ("hybrid by KL", "KL"),
    ("ours", "ours without phase 1"),
    ("ours", "ours, shuffled neighbours"),
    ("ours", "ours, targets"),
    ("ours", "Faithful"),
    ("ours", "ours without J J^T"),
    ("ours", "ours without curvature"),
    ("ours", "ours without both"),
)
_RESAMPLES = 2000


def report(options: PoseOptions, results: Results) -> str:
    """Write pose.md, pose.csv and pose.png into ``--out``; returns the Markdown."""
    folder = options.folder("pose")
    pairs = compare(results)
    save_figure(folder / "pose.png", _figure(results, pairs))
    rows = [
        {"variant": name, "seed": seed} | {k: v for k, v in found.items() if isinstance(v, float | int)}
        for name, seeds in results.items()
        for seed, found in seeds.items()
    ]
    if options.json:
        variants = {
            name: {seed: {key: found[key] for key in ("nll", "tac", "k1_share", "k2_share")} for seed, found in seeds.items()}
            for name, seeds in results.items()
        }
        command = f"python tools/experiments/pose.py --run {options.run} --mean-head {options.mean_head} --json {options.json}"
        epochs = {"phase1": options.phase1_epochs, "phase2": options.phase2_epochs}
        write_json(Path(options.json), {"command": command, "epochs": epochs, "variants": variants})
    return write_report(folder, "pose", _markdown(options, results, pairs), rows)


def compare(results: Results) -> list[dict[str, Any]]:
    """Paired comparisons on the same people, per seed: difference first minus second and its 95 % bootstrap interval."""
    found = []
    for first, second in PAIRS:
        if first not in results or second not in results:
            continue
        pair: dict[str, Any] = {"first": first, "second": second}
        for what in ("nll", "nll_calibrated", "tac"):
            pair[what] = []
            for seed in results[first]:
                if any(f"{what}_people" not in results[name].get(seed, {}) for name in (first, second)):
                    continue
                one, two = (np.array(results[name][seed][f"{what}_people"], dtype=float) for name in (first, second))
                difference = one - two
                samples = difference[metrics.resampled_people(len(difference), _RESAMPLES, 0)].mean(axis=1)
                pair[what].append((float(difference.mean()), *metrics.percentile_interval(samples)))
        found.append(pair)
    return found


def verdict(intervals: Sequence[tuple[float, float, float]]) -> str:
    """``better`` when every seed's interval lies below 0, ``worse`` when above, else how many do."""
    below, above = sum(high < 0 for _, _, high in intervals), sum(low > 0 for _, low, _ in intervals)
    if below == len(intervals):
        return "better in every seed"
    if above == len(intervals):
        return "worse in every seed"
    return f"better in {below}, worse in {above} of {len(intervals)}"


def _markdown(options: PoseOptions, results: Results, pairs: Sequence[Mapping[str, Any]]) -> str:
    seeds = next(iter(results.values()))
    head = {"frozen": "is frozen too", "trained": "goes on learning", "fresh": "starts from new weights"}[options.mean_head]
    people = len(next(iter(seeds.values()))["nll_people"])
    lines = [
        f"{people} LSP test people; backbone frozen (features of the run `{Path(options.run).name}`), the mean head {head}. "
        f"{f'{options.people} people train. ' if options.people else ''}"
        f"Every row has {options.phase1_epochs + options.phase2_epochs} epochs (hybrids {options.phase1_epochs} + "
        f"{options.phase2_epochs}); the epoch is chosen on validation people; {len(seeds)} seeds, mean ± standard deviation. "
        "NLL in nats per person and picture pixels under each model's own law, as trained and after calibration on the "
        "validation people; TAC in pixels; MSE per coordinate in pixels². Coverage after calibration.",
        "",
    ]
    header = ["variant", "NLL", "calibrated", "TAC", "MSE", "Spearman", "coverage 50 / 68 / 90 / 95 %", "J J^T", "curvature"]
    table = []
    for name, found in results.items():
        figures = list(found.values())
        covered = " / ".join(f"{100 * np.mean([f['coverage'][str(level)] for f in figures]):.0f}" for level in MASSES)
        table.append(
            [name]
            + [spread([f[key] for f in figures], digits) for key, digits in (("nll", 2), ("nll_calibrated", 2), ("tac", 3))]
            + [spread([f["mse"] for f in figures], 1), spread([f["rank_correlation"] for f in figures], 3), covered]
            + [f"{100 * np.mean([f[key] for f in figures]):.1f} %" for key in ("k1_share", "k2_share")]
        )
    lines += [
        markdown_table(table, header),
        "Paired over people, first minus second, 95 % bootstrap interval for each seed:",
        "",
    ]
    compared = [
        [f"{pair['first']} − {pair['second']}"]
        + [
            f"{_intervals(pair[what], digits)}: {verdict(pair[what])}" if pair[what] else "not compared"
            for what, digits in (("nll", 2), ("nll_calibrated", 2), ("tac", 3))
        ]
        for pair in pairs
    ]
    return "\n".join(lines) + "\n" + markdown_table(compared, ["pair", "NLL", "NLL, calibrated", "TAC, px"])


def _intervals(intervals: Sequence[tuple[float, float, float]], digits: int) -> str:
    return "; ".join(f"{d:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" for d, low, high in intervals)


def _figure(results: Results, pairs: Sequence[Mapping[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    names = [name for name in VARIANTS if name in results]
    figure = Figure(figsize=(13, 0.28 * max(len(names), len(pairs)) + 1.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for axes, key, title in ((left, "nll_calibrated", "NLL, calibrated"), (middle, "tac", "TAC, px")):
        for place, name in enumerate(names):
            values = [found[key] for found in results[name].values()]
            axes.plot(
                values, [place] * len(values), "o", color="tab:blue" if name.startswith("ours") else "tab:orange", alpha=0.7
            )
        axes.set_yticks(range(len(names)), names if axes is left else [""] * len(names))
        axes.set_title(title)
        axes.invert_yaxis()
        axes.grid(alpha=0.3)
    for place, pair in enumerate(pairs):
        for shift, (middle_value, low, high) in enumerate(pair["nll_calibrated"]):
            right.plot([low, high], [place + 0.18 * (shift - 1)] * 2, color="tab:green", lw=2)
            right.plot([middle_value], [place + 0.18 * (shift - 1)], "|", color="black")
    right.axvline(0.0, color="black", lw=0.8)
    right.set_yticks(range(len(pairs)), [f"{pair['first']} − {pair['second']}" for pair in pairs], fontsize=8)
    right.yaxis.tick_right()
    right.set_title("NLL difference, calibrated, 95 % per seed\n(below 0: first is better)")
    right.invert_yaxis()
    right.grid(alpha=0.3)
    return figure
