"""Ten UCI tables: every loss of the papers, and one fixed recipe, in the papers' protocol and on held-out rows.

The papers' protocol (TIC-TAC, arXiv 2310.18953; ToSS, arXiv 2502.10587): the whole table is standardised, a trial permutes the
columns, the first quarter are inputs and the rest targets, and the rows that were trained on are the rows that are judged.
Every method is trained on four fifths of at most 2,000 rows and judged on both parts; the recipe is also trained and judged on
whole tables. All trials of a cell are members of one stacked network.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.experiments import uci_recipe, uci_report
from posecov.learn.experiments.cells import Options, progress, run_cell
from posecov.learn.experiments.labels import neighbour_roots
from posecov.learn.experiments.uci_recipe import RecipeConfig
from posecov.learn.experiments.uci_tables import TABLES, Split, Table, read_table, split_table
from posecov.learn.losses import LOSSES
from posecov.learn.regression import RegressionConfig, evaluate, fit

# Name in tables -> settings that differ from the common ones.
METHODS: Mapping[str, Mapping[str, Any]] = {
    "mse": {"loss": "mse"},
    "nll": {"loss": "nll"},
    "nll-precision": {"loss": "nll-precision"},
    "nll-diagonal": {"loss": "nll-diagonal"},
    "beta-nll": {"loss": "beta-nll"},
    "faithful": {"loss": "faithful"},
    "nll-tic": {"loss": "nll", "tic": "exact"},
    "student-t": {"loss": "student-t"},
    "kl": {"loss": "kl"},
    "wasserstein": {"loss": "wasserstein"},
    "wasserstein-bound": {"loss": "wasserstein-bound"},
}
RECIPE = "hybrid"
# The protocols of cells, and the share of the rows that the first holds out.
HELD_OUT, SHARE, WHOLE = "held out", 0.2, "whole table"
# Trained first: what the summary needs.
_FIRST = (RECIPE, "faithful", "nll-tic", "wasserstein-bound")
_STACK = 5  # trials on whole tables are computed so many at a time
ABLATED = ("concrete", "energy", "red-wine")
# What an ablation changes in the recipe. The bound alone has all epochs.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "hybrid": {},
    "hybrid, k = D": {"neighbours": 1.0},
    "hybrid, k = 10 D": {"neighbours": 10.0},
    "hybrid, k = 100 D": {"neighbours": 100.0},
    "hybrid, random neighbours": {"shuffled": True},
    "bound alone": {"phase1_epochs": 100, "phase2_epochs": 0},
    "bound alone, k = D": {"phase1_epochs": 100, "phase2_epochs": 0, "neighbours": 1.0},
    "bound alone, k = 10 D": {"phase1_epochs": 100, "phase2_epochs": 0, "neighbours": 10.0},
    "bound alone, k = 100 D": {"phase1_epochs": 100, "phase2_epochs": 0, "neighbours": 100.0},
    "bound alone, random neighbours": {"phase1_epochs": 100, "phase2_epochs": 0, "shuffled": True},
    "likelihood alone": {"phase1_epochs": 0, "phase2_epochs": 100},
    "hybrid, phase 2 the plain NLL": {"own": 1.0},
}
WIDE_INPUTS, _WIDE_NOISE = 100, 0.1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UciOptions(Options):
    """The papers' UCI experiment.

    Attributes:
        data_root: folder that holds uci/; POSECOV_DATA when not given.
        tables: which; all ten when not given.
        losses: which of the methods; all, and the recipe (hybrid), when not given.
        rows: at most so many rows of a table take part.
        whole_rows: the same where the recipe is trained and judged on whole tables; 0 = all.
        whole_seeds: number of trials, 0, 1, ..., there.
        compared_seeds: number of trials of the recipe and what it is compared with, on held-out rows; the other methods have
            those of --seeds.
        ablations: whether to run them.
    """

    data_root: str = ""
    tables: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    rows: int = 2000
    whole_rows: int = 6000
    whole_seeds: int = 5
    compared_seeds: int = 10
    ablations: bool = True


@dataclass(frozen=True)
class UciConfig:
    """What all methods share. Chosen on validation rows, for the recipe and its rivals alike.

    Attributes:
        rows: at most so many of a table, training and held-out together.
        whole_rows: the same where the recipe is trained and judged on whole tables; 0 = all.
        epochs: of every network.
        learning_rate: of AdamW, peak of a cosine.
        steps: an epoch has about so many; batches are not below 128 and not above 512.
        warmup: share of all steps in which the rate rises.
        clip: largest norm of a member's gradient.
        jitter: added to the diagonal of every covariance at evaluation, in units of the standardised table.
        neighbours: k of the losses with pseudo-labels, in multiples of D.
        recipe: the fixed recipe; its means are trained as everything else here.
        width: of the networks; None is the papers' D^2 + 2.
    """

    rows: int = 2000
    whole_rows: int = 6000
    epochs: int = 100
    learning_rate: float = 4e-3
    steps: int = 24
    warmup: float = 0.05
    clip: float = 10.0
    jitter: float = 1e-3
    neighbours: float = 10.0
    recipe: RecipeConfig = dataclasses.field(default_factory=RecipeConfig)
    width: int | None = None

    def training(self, rows: int, **settings: Any) -> RegressionConfig:
        """Settings of a method for so many training rows. Members whose steps are not finite are counted, not stopped."""
        batch = batch_size(rows, self.steps)
        return RegressionConfig(
            epochs=self.epochs, batch=batch, learning_rate=self.learning_rate, schedule="cosine", clip=self.clip,
            warmup_steps=round(self.warmup * self.epochs * rows / batch), jitter=self.jitter, width=self.width,
            on_nonfinite="count", **settings,
        )  # fmt: skip

    def whole_recipe(self, rows: int) -> RecipeConfig:
        """The recipe for so many training rows."""
        return dataclasses.replace(self.recipe, mean=self.training(rows, loss="mse"), ridge=self.jitter)


def batch_size(rows: int, steps: int) -> int:
    """Samples a step: batches of an epoch are equally large, so that none is a remainder too small for BatchNorm."""
    wanted = min(max(rows / steps, 128), 512)
    return -(-rows // max(round(rows / wanted), 1))


def run(options: UciOptions) -> str:
    """Compute what is missing, write tables and figure, return the Markdown."""
    root = options.data_root or os.environ.get("POSECOV_DATA", "")
    if not root:
        raise PosecovError("no data: give --data-root or set POSECOV_DATA; it holds uci/")
    if options.rows < 20:
        raise PosecovError(f"--rows: {options.rows}; 20 or more are needed")
    config = UciConfig(rows=options.rows, whole_rows=options.whole_rows)
    tables, methods = options.tables or tuple(TABLES), options.losses or (*METHODS, RECIPE)
    ablated: tuple[str, ...] = ABLATED if options.ablations else ()
    whole, compared = tuple(range(options.whole_seeds)), tuple(range(options.compared_seeds))
    if options.quick:
        short = dataclasses.replace(config.recipe, folds=2, phase1_epochs=2, phase2_epochs=2)
        config = dataclasses.replace(config, rows=300, whole_rows=300, epochs=4, recipe=short)
        tables = options.tables or ("concrete", "energy")
        ablated, whole, compared = ablated[:1], whole[:3], ()
    return run_with(options.folder("uci"), Path(root), config, tables, methods, options.seeds, whole, ablated, compared)


def run_with(
    folder: Path,
    root: Path,
    config: UciConfig,
    names: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    whole: Sequence[int],
    ablated: Sequence[str],
    compared: Sequence[int] = (),
) -> str:
    """`run` for given settings.

    Args:
        folder: of the experiment.
        root: holds uci/.
        config: settings.
        names: of the tables.
        methods: keys of `METHODS`, or "hybrid".
        seeds: of the trials.
        whole: seeds of the recipe's run on whole tables; empty leaves it out.
        ablated: tables with ablations, those of ``names`` among them.
        compared: seeds of further trials of the recipe and what it is compared with, those of ``seeds`` left out.
    """
    for method in methods:
        if method not in (*METHODS, RECIPE):
            raise PosecovError(f"--losses: {method!r} is none of {', '.join((*METHODS, RECIPE))}")
    tables = {name: read_table(root, name) for name in names}
    stacks = [whole[start : start + _STACK] for start in range(0, len(whole), _STACK)] if RECIPE in methods else []
    first = [method for method in methods if method in _FIRST]
    further = [seed for seed in compared if seed not in seeds]
    stages = [
        [_job(config, table, HELD_OUT, method, seeds) for table in tables.values() for method in first],
        [_job(config, table, HELD_OUT, method, further) for table in tables.values() for method in first if further],
        [_job(config, table, WHOLE, RECIPE, stack) for table in tables.values() for stack in stacks[:1]],
        [_job(config, t, HELD_OUT, method, seeds) for t in tables.values() for method in methods if method not in first],
        [_ablation_job(config, tables[name], wide, seeds) for name in ablated if name in tables for wide in (False, True)],
        [_job(config, table, WHOLE, RECIPE, stack) for table in tables.values() for stack in stacks[1:]],
    ]
    results: list[dict[str, Any]] = []
    report = ""
    with progress(sum(map(len, stages)), "uci") as begin:
        for stage in stages:
            for key, compute in stage:
                begin(f"{key['table']}, {key['method']}, {key['protocol']}")
                results.append({**key, **run_cell(folder, key, compute)})
            report = uci_report.write(folder, config, tables, results)
    return report


def _job(
    config: UciConfig, table: Table, protocol: str, method: str, seeds: Sequence[int]
) -> tuple[dict[str, Any], Callable[[], Mapping[str, Any]]]:
    """A cell: its key, and what computes it."""
    settings = dataclasses.asdict(config)
    del settings["rows" if protocol == WHOLE else "whole_rows"]
    if method != RECIPE:
        del settings["recipe"]
    key = {"table": table.name, "method": method, "protocol": protocol, "seeds": list(seeds), "settings": settings}
    return key, lambda: compute_cell(config, table, protocol, method, seeds)


def _ablation_job(
    config: UciConfig, table: Table, wide: bool, seeds: Sequence[int]
) -> tuple[dict[str, Any], Callable[[], Mapping[str, Any]]]:
    settings = dataclasses.asdict(config) | {"variants": {name: dict(change) for name, change in VARIANTS.items()}}
    protocol = f"{HELD_OUT}, {WIDE_INPUTS} inputs" if wide else HELD_OUT
    key = {"table": table.name, "method": "ablation", "protocol": protocol, "seeds": list(seeds), "settings": settings}
    return key, lambda: compute_ablation(config, table, wide, seeds)


def trials(config: UciConfig, table: Table, protocol: str, seeds: Sequence[int]) -> Split:
    """The rows of all trials, stacked: each part (M, rows, columns)."""
    share, rows = (0.0, config.whole_rows) if protocol == WHOLE else (SHARE, config.rows)
    splits = [split_table(table, seed, share, rows) for seed in seeds]
    names = [field.name for field in dataclasses.fields(Split)]
    return Split(**{name: np.stack([getattr(split, name) for split in splits]) for name in names})


def compute_cell(config: UciConfig, table: Table, protocol: str, method: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Train and judge one method on one table.

    Returns:
        mse, nll and tac (M,) on the judged rows, the same on the training rows as train_*, and nonfinite (M,) steps left out;
        effective (M,) neighbours where there are any; rows, batch, seconds.
    """
    split = trials(config, table, protocol, seeds)
    start, rows = time.monotonic(), split.x.shape[1]
    more: dict[str, Any] = {}
    if method == RECIPE:
        recipe = config.whole_recipe(rows)
        fitted = uci_recipe.fit_recipe(recipe, split.x, split.y, seeds)
        predict, batch = fitted.predict, recipe.mean.batch
        more = {"effective": fitted.effective, "nonfinite": fitted.means.nonfinite}
    else:
        training = config.training(rows, **METHODS[method])
        roots = None
        if LOSSES[training.loss].pseudo:
            k = min(round(config.neighbours * table.targets), rows - 1)
            roots = np.stack([neighbour_roots(x, y, k) for x, y in zip(split.x, split.y, strict=True)])
        trained = fit(training, split.x, split.y, roots, seeds)
        predict, batch = trained.predict, training.batch
        more = {"nonfinite": trained.nonfinite}
    seconds = time.monotonic() - start
    return {**judge(predict, split), **more, "rows": rows, "batch": batch, "seconds": seconds}


def judge(predict: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], split: Split) -> dict[str, Any]:
    """The figures on held-out rows, or on the training rows when none are held out; train_* always on the training rows."""
    seen = evaluate(*predict(split.x), split.y)
    judged = evaluate(*predict(split.held_out_x), split.held_out_y) if split.held_out_x.shape[1] else seen
    return {**judged, **{f"train_{name}": values for name, values in seen.items()}}


def compute_ablation(config: UciConfig, table: Table, wide: bool, seeds: Sequence[int]) -> dict[str, Any]:
    """All `VARIANTS` on held-out rows, on the same means.

    Args:
        config: settings.
        table: standardised.
        wide: whether the inputs are embedded in 100 dimensions.
        seeds: of the trials.

    Returns:
        Per variant: what `judge` gives, and effective (M,).
    """
    split = trials(config, table, HELD_OUT, seeds)
    if wide:
        split = widened(split, seeds)
    recipe = config.whole_recipe(split.x.shape[1])
    means = uci_recipe.fit_means(recipe, split.x, split.y, seeds)
    result: dict[str, Any] = {}
    for name, change in VARIANTS.items():
        varied = dataclasses.replace(recipe, **_scaled(change, config.recipe))
        fitted = uci_recipe.fit_covariance(varied, means, split.x, seeds)
        result[name] = {**judge(fitted.predict, split), "effective": fitted.effective}
    return result


def widened(split: Split, seeds: Sequence[int]) -> Split:
    """Inputs (M, N, m) embedded in 100 dimensions: a random normal map of each trial, columns of variance near 1, plus normal
    noise of standard deviation 0.1 in each of the 100.
    """
    wide = []
    for values in (split.x, split.held_out_x):
        size = values.shape[-1]
        maps = np.stack([np.random.default_rng([seed, 100]).normal(size=(size, WIDE_INPUTS)) for seed in seeds])
        noise = np.stack([np.random.default_rng([seed, *value.shape]).normal(size=(len(value), WIDE_INPUTS))
                          for seed, value in zip(seeds, values, strict=True)])  # fmt: skip
        wide.append(values @ maps / np.sqrt(size) + _WIDE_NOISE * noise)
    return dataclasses.replace(split, x=wide[0], held_out_x=wide[1])


def _scaled(change: Mapping[str, Any], recipe: RecipeConfig) -> dict[str, Any]:
    """A variant's change where the recipe itself has fewer epochs, as in the quick form."""
    total = recipe.phase1_epochs + recipe.phase2_epochs
    return {name: round(value / 100 * total) if name.endswith("_epochs") else value for name, value in change.items()}
