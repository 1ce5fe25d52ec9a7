"""From features and values to roots of pseudo-covariances, in memory, or streamed to disk for tables of any size."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecov.errors import PosecovError
from posecov.files import reason, write_atomic
from posecov.learn.config import PseudoLabelConfig
from posecov.learn.pseudo_labels.approximate import make_search
from posecov.learn.pseudo_labels.covariance import Everybody, chunks, definite, root_of, weighted_covariance
from posecov.learn.pseudo_labels.neighbours import check_table, find_neighbours, report, shuffled, softmax, temperature_for
from posecov.learn.pseudo_labels.rowfile import RowFile, map_rows, read_rows
from posecov.learn.pseudo_labels.search import QUERIES
from posecov.learn.pseudo_labels.whitening import check_finite, fit_whitening
from posecov.learn.run import progress

_FACTS = "facts.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How pseudo-labels are made of features and values.

    Attributes:
        k: neighbours.
        dimensions: of the whitened PCA of the features; None: every direction in which they differ.
        effective: the temperature gives, on average, this fraction of k effective neighbours; None: temperature 1.
        centred: covariance about the neighbours' mean, for targets; otherwise second moments, for residuals of a mean.
        shrinkage: of each pseudo-covariance.
        pooled: shrink towards everybody's correlation around the same variances, instead of towards the diagonal.
        plain: no correction of the bias, no floor under the eigenvalues, and a sample is its own neighbour.
    """

    k: int
    dimensions: int | None
    effective: float | None
    centred: bool
    shrinkage: float
    plain: bool = False
    pooled: bool = False


def paper_recipe(k: int) -> Recipe:
    """ToSS (arXiv 2502.10587), algorithm 1, as printed but for the sign of the softmax: d the squared Mahalanobis distance over
    all dimensions, weights softmax(-d), the sample among its neighbours, covariance about the neighbours' weighted mean. The
    values are targets in the paper; of residuals, too, the covariance is taken about their mean.
    """
    return Recipe(k, None, None, centred=True, shrinkage=0.0, plain=True)


def recipe_of(config: PseudoLabelConfig) -> Recipe:
    """The recipe that the settings ask for. Raises PosecovError on one that is not known."""
    if config.recipe == "paper":
        return paper_recipe(config.neighbours)
    if config.recipe != "ours":
        raise PosecovError(f"setting pseudo_labels.recipe: {config.recipe!r} must be ours or paper")
    return Recipe(
        config.neighbours, config.dimensions, config.effective, config.source == "targets", config.shrinkage,
        pooled=config.towards == "pooled",
    )  # fmt: skip


def pseudo_label_roots(features: np.ndarray, values: np.ndarray, config: PseudoLabelConfig, seed: int) -> np.ndarray:
    """The whole recipe in memory.

    Args:
        features: (N, M) of whatever space neighbours are to be near in: the latent, features of the backbone, or pixels.
        values: (N, D) targets or residuals, NaN where there is no label.
        config: settings.
        seed: of shuffled neighbours.

    Returns:
        (N, D, D) float32 symmetric roots.

    Raises:
        PosecovError: tables or settings that make no sense.
    """
    recipe = recipe_of(config)
    check_finite(features, "features")
    _same_rows(features, values)
    table = np.asarray(features, dtype=np.float64)
    points = fit_whitening(table, recipe.dimensions).apply(table)
    k = min(recipe.k, len(points) - (not recipe.plain))
    if 0 < k < recipe.k:  # as in a small trial run
        log.warning("pseudo-labels: %d neighbours asked for among %d people; taking %d", recipe.k, len(points), k)
    neighbours = find_neighbours(points, k, recipe.effective, own=recipe.plain)
    if config.shuffled:
        neighbours = shuffled(neighbours, seed)
    everybody = Everybody(values, recipe.centred, recipe.pooled)
    result = np.empty((len(points), everybody.size, everybody.size), dtype=np.float32)
    for rows in chunks(len(points), k, everybody.size):
        result[rows] = _roots(everybody, neighbours.index[rows], neighbours.weight[rows], recipe)
    return result


@dataclass(frozen=True)
class Streamed:
    """Pseudo-labels on disk.

    Attributes:
        folder: holds ``index.npy`` (N, k) int32, ``weight.npy`` (N, k) float32, ``roots.npy`` (N, D, D) float32 and
            ``facts.json``.
        facts: temperature, effective neighbours (median and 10th percentile), recall, and what they were made of.
    """

    folder: Path
    facts: dict[str, Any]

    def open(self, name: str) -> np.ndarray:
        """``index``, ``weight`` or ``roots``, mapped into memory, read only."""
        return map_rows(self.folder / f"{name}.npy")


def stream_pseudo_labels(
    folder: Path | str,
    features: np.ndarray,
    values: np.ndarray,
    recipe: Recipe,
    queries: np.ndarray | None = None,
    approximate: bool = True,
    store_roots: bool = True,
) -> Streamed:
    """The whole recipe with bounded memory: a chunk of samples at a time, and everything of their number on disk.

    Work is done in ``folder.part``, which becomes ``folder`` when all is there; a run that was stopped is continued, and a
    finished one of the same tables and recipe is taken as it is.

    Args:
        folder: where the results go.
        features: (N, M); may be mapped from disk.
        values: (N, D) targets or residuals, NaN where there is no label.
        recipe: how.
        queries: (Q, M) features of other samples than the table's, whose pseudo-labels are wanted; None: the table's own.
        approximate: whether a very large table may be searched with faiss.
        store_roots: False leaves the neighbours and their weights only.

    Raises:
        PosecovError: tables or a recipe that make no sense, a folder that holds something else, or a full disk.
    """
    folder = Path(folder)
    check_finite(features, "features")
    _same_rows(features, values)
    key = {"recipe": recipe.__dict__, "roots": store_roots, "approximate": approximate}
    key |= {"features": _digest(features), "values": _digest(values)}
    key |= {"queries": None if queries is None else _digest(queries)}
    if (finished := _facts(folder)) and finished["key"] == key:
        return Streamed(folder, finished)
    if folder.exists() and not finished and (not folder.is_dir() or any(folder.iterdir())):
        raise PosecovError(f"{folder}: holds something else than pseudo-labels; give another folder")
    part = folder.with_name(folder.name + ".part")
    try:
        if (_facts(part) or {}).get("key") != key:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            write_atomic(part / _FACTS, json.dumps({"key": key}).encode())
        facts = {"key": key} | _search(part, features, recipe, queries, approximate)
        facts |= _weigh(part, values, recipe, facts["rows"], store_roots)
        (part / "squared.npy").unlink()
        write_atomic(part / _FACTS, json.dumps(facts, indent=1).encode())
        if finished:
            shutil.rmtree(folder)
        elif folder.exists():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        raise PosecovError(f"{folder}: pseudo-labels cannot be written ({reason(error)})") from None
    return Streamed(folder, facts)


def _search(part: Path, features: np.ndarray, recipe: Recipe, queries: np.ndarray | None, approximate: bool) -> dict[str, Any]:
    """``index.npy`` and ``squared.npy``: neighbours and their squared distances."""
    whitening = fit_whitening(features, recipe.dimensions)
    points = whitening.apply(features)
    asked = points if queries is None else whitening.apply(queries, "queries")
    check_table(points, recipe.k, None if queries is None else asked, recipe.plain)
    rows = len(asked)
    with (
        RowFile(part / "index.npy", (rows, recipe.k), np.int32) as index,
        RowFile(part / "squared.npy", (rows, recipe.k), np.float32) as squared,
    ):
        done = RowFile.align(index, squared)
        search, recall = make_search(points, recipe.k, approximate)

        def some(start: int, stop: int) -> None:
            mine = np.arange(start, stop) if queries is None and not recipe.plain else None
            found, distance = search.search(asked[start:stop], recipe.k, mine)
            index.append(found)
            squared.append(distance)

        _run("neighbours", rows, done, QUERIES, some)
    return {"rows": rows, "recall": recall}


def _weigh(part: Path, values: np.ndarray, recipe: Recipe, rows: int, store_roots: bool) -> dict[str, Any]:
    """``weight.npy`` and ``roots.npy`` from the neighbours."""
    temperature = temperature_for(map_rows(part / "squared.npy"), recipe.effective)
    table = Everybody(values, recipe.centred, recipe.pooled)
    step = next(chunks(rows, recipe.k, table.size)).stop
    with RowFile(part / "weight.npy", (rows, recipe.k), np.float32) as weights:
        if store_roots:
            with RowFile(part / "roots.npy", (rows, table.size, table.size), np.float32) as roots:

                def label(start: int, stop: int) -> None:
                    weight = softmax(-read_rows(part / "squared.npy", start, stop).astype(np.float64) / temperature)
                    roots.append(_roots(table, read_rows(part / "index.npy", start, stop), weight, recipe))
                    weights.append(weight)

                _run("pseudo-labels", rows, RowFile.align(weights, roots), step, label)
        else:

            def weigh(start: int, stop: int) -> None:
                weights.append(softmax(-read_rows(part / "squared.npy", start, stop).astype(np.float64) / temperature))

            _run("weights", rows, RowFile.align(weights), step, weigh)
    effective = np.empty(rows)
    for start in range(0, rows, 65536):
        weight = read_rows(part / "weight.npy", start, min(start + 65536, rows)).astype(np.float64)
        effective[start : start + 65536] = 1 / np.square(weight).sum(axis=1)
    median, low = report(effective, recipe.k, temperature)
    return {"temperature": temperature, "effective_median": median, "effective_p10": low}


def _roots(everybody: Everybody, index: np.ndarray, weight: np.ndarray, recipe: Recipe) -> np.ndarray:
    covariance = weighted_covariance(everybody, index, weight, recipe.plain)
    return root_of(*definite(covariance, recipe.shrinkage, recipe.plain, everybody.correlation))


def _run(what: str, rows: int, done: int, step: int, work: Callable[[int, int], None]) -> None:
    """``work`` on runs of rows from ``done`` on, with a progress bar."""
    with progress() as bar:
        task = bar.add_task(what, total=rows, completed=done, status="")
        for start in range(done, rows, step):
            stop = min(start + step, rows)
            work(start, stop)
            bar.update(task, completed=stop)


def _same_rows(features: np.ndarray, values: np.ndarray) -> None:
    if len(features) != len(values):
        raise PosecovError(f"pseudo-labels: values have {len(values)} rows, the features {len(features)}")


def _digest(table: np.ndarray) -> str:
    """Tells one table from another by its shape and up to 10,000 of its rows."""
    some = np.linspace(0, len(table) - 1, min(len(table), 10_000)).astype(np.int64)
    content = np.ascontiguousarray(table[some])
    return hashlib.sha256(f"{table.shape} {table.dtype}".encode() + content.tobytes()).hexdigest()


def _facts(folder: Path) -> dict[str, Any] | None:
    """What a folder says about itself; None when it does not."""
    try:
        facts = json.loads((folder / _FACTS).read_text())
        return facts if isinstance(facts, dict) and "key" in facts else None
    except (OSError, ValueError, RecursionError):
        return None
