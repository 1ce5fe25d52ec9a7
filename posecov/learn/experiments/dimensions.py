"""Error and cost from D = 4 to 32 (ToSS, arXiv 2502.10587, figure 5 and table 1), on data whose law is known.

Our reading of the papers' recipe: (X, Y) jointly normal with D + D dimensions, means U(-D, D), covariance D times a random
correlation; the network sees X through a Gaussian copula with uniform marginals of the same mean and variance, so that E[Y | x]
is not linear; to the conditional covariance of Y comes noise with covariance Q(x) = a random correlation +
diag(|x - mu_x|^1/2). Inputs and targets are standardised; distances are in those units.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from posecov.learn.experiments import dimension_checks, dimension_costs
from posecov.learn.experiments.cells import Options, progress, run_cell, write_report
from posecov.learn.experiments.labels import neighbour_roots
from posecov.learn.regression import RegressionConfig, evaluate, fit

METHODS: Mapping[str, Mapping[str, Any]] = {
    "NLL": {"loss": "nll"},
    "NLL:TIC": {"loss": "nll", "tic": "exact"},
    "KL": {"loss": "kl"},
    "2-W": {"loss": "wasserstein"},
    "2-W bound": {"loss": "wasserstein-bound"},
    "hybrid": {"loss": "nll", "pretrain_loss": "wasserstein-bound"},
    "hybrid, finetuned": {"loss": "nll", "pretrain_loss": "wasserstein-bound", "finetuning": 0.1},
    "Faithful": {"loss": "faithful"},
}
# What one CPU thread allows; the papers train every D alike, with width D^2 + 2 and batches of 32.
EPOCHS: Mapping[int, int] = {4: 20, 8: 10, 12: 5, 16: 4, 20: 3, 24: 2, 28: 2, 32: 2}
WIDEST, _TEST = 146, 1000


@dataclass(frozen=True)
class DimensionConfig:
    """Training at one D.

    Attributes:
        dimensions: D.
        samples: for training.
        epochs: of every method; the hybrid's phases share them.
        batch: samples a step.
        width: of the networks.
        neighbours: k of the pseudo-labels.
        learning_rate: of AdamW, with a cosine.
        data_seed: of the problem.
    """

    dimensions: int
    samples: int
    epochs: int
    batch: int
    width: int
    neighbours: int
    learning_rate: float = 1e-3
    data_seed: int = 0

    @classmethod
    def standard(cls, dimensions: int, quick: bool = False) -> "DimensionConfig":
        """The setting of the tables."""
        return cls(
            dimensions, (60 if quick else 1000) * dimensions, 3 if quick else EPOCHS[dimensions],
            32 if dimensions <= 8 else 128, min(dimensions**2 + 2, WIDEST), 10 * dimensions,
        )  # fmt: skip


class Problem(NamedTuple):
    """Samples and their law, standardised: x (N, D), y (N, D), mean (N, D) and covariance (N, D, D) of y given x."""

    x: np.ndarray
    y: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


def random_correlation(size: int, rng: np.random.Generator) -> np.ndarray:
    """(size, size) correlation of a Wishart matrix with as many degrees of freedom."""
    factor = rng.standard_normal((size, size))
    covariance = factor @ factor.T
    scale = np.sqrt(np.diag(covariance))
    return covariance / np.outer(scale, scale)


def make_problem(dimensions: int, samples: int, seed: int) -> tuple[Problem, Problem]:
    """Training samples, and 1000 more for judging."""
    rng = np.random.default_rng((40, dimensions, seed))
    correlation, noise = random_correlation(2 * dimensions, rng), random_correlation(dimensions, rng)
    means = rng.uniform(-dimensions, dimensions, size=2 * dimensions)
    xx, yx = correlation[:dimensions, :dimensions], correlation[dimensions:, :dimensions]
    gain = np.linalg.solve(xx, yx.T).T
    rest = dimensions * (correlation[dimensions:, dimensions:] - gain @ yx.T)
    normal = rng.multivariate_normal(np.zeros(dimensions), xx, size=samples + _TEST, method="cholesky")
    # Uniform with mean 0 and variance 1.
    uniform = math.sqrt(3) * (2 * stats.norm.cdf(normal) - 1)
    mean = means[dimensions:] + math.sqrt(dimensions) * normal @ gain.T
    spread = np.sqrt(np.abs(math.sqrt(dimensions) * uniform))
    covariance = rest + noise + spread[:, :, None] * np.eye(dimensions)
    errors = np.linalg.cholesky(covariance) @ rng.standard_normal((samples + _TEST, dimensions, 1))
    y = mean + errors[..., 0]
    centre, scale = y[:samples].mean(axis=0), y[:samples].std(axis=0)
    whole = Problem(uniform, (y - centre) / scale, (mean - centre) / scale, covariance / np.outer(scale, scale))
    return Problem(*(part[:samples] for part in whole)), Problem(*(part[samples:] for part in whole))


def compare(mean: np.ndarray, covariance: np.ndarray, truth: Problem) -> dict[str, np.ndarray]:
    """Figures per member of predictions (M, N, D) and (M, N, D, D), averaged over samples.

    Returns:
        Each (M,): mean_error, squared distance of the means per dimension; kl, of the prediction from the true law, in nats;
        wasserstein, squared, of the laws; wasserstein_covariance, its covariance part; trace, of the covariance over the true
        one's; and `evaluate`'s nll and tac. NaN where a covariance is not positive definite.
    """
    figures = evaluate(mean, covariance, truth.y)
    made: dict[str, list[float]] = {"mean_error": [], "kl": [], "wasserstein": [], "wasserstein_covariance": [], "trace": []}
    root = _root(truth.covariance)
    true_log_det = np.linalg.slogdet(truth.covariance)[1]
    for m, s in zip(mean, covariance, strict=True):
        residual = m - truth.mean
        made["mean_error"].append(float(np.square(residual).mean()))
        if not np.isfinite(s).all() or np.linalg.eigvalsh(s)[:, 0].min() <= 0:
            for name in ("kl", "wasserstein", "wasserstein_covariance", "trace"):
                made[name].append(math.nan)
            continue
        inner = truth.covariance + residual[:, :, None] * residual[:, None]
        # Trace of S^-1 times the true second moments about the predicted mean.
        quadratic = np.trace(np.linalg.solve(s, inner), axis1=1, axis2=2)
        made["kl"].append(float(0.5 * (quadratic - m.shape[-1] + np.linalg.slogdet(s)[1] - true_log_det).mean()))
        overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ s @ root), 0)).sum(axis=1)
        traces = np.trace(s, axis1=1, axis2=2), np.trace(truth.covariance, axis1=1, axis2=2)
        bures = traces[0] + traces[1] - 2 * overlap
        made["wasserstein_covariance"].append(float(bures.mean()))
        made["wasserstein"].append(float((bures + np.square(residual).sum(axis=1)).mean()))
        made["trace"].append(float((traces[0] / traces[1]).mean()))
    return {name: np.array(values) for name, values in made.items()} | {name: figures[name] for name in ("nll", "tac")}


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def recipe(config: DimensionConfig, method: str, **changes: Any) -> RegressionConfig:
    """Settings of a key of `METHODS`. Members that fail are counted."""
    settings = dict(METHODS[method])
    epochs = config.epochs
    if "pretrain_loss" in settings:
        settings["pretrain_epochs"] = epochs // 2
        epochs -= epochs // 2
    if settings.get("tic") == "exact" and config.dimensions > 8:
        settings["tic"] = "estimated"
    common: dict[str, Any] = {
        "epochs": epochs,
        "batch": config.batch,
        "width": config.width,
        "learning_rate": config.learning_rate,
    }
    common |= {"schedule": "cosine", "floor": 1e-3, "jitter": 0.0, "clip": 1.0, "on_nonfinite": "count"}
    return RegressionConfig(**(common | settings | changes))


def compute(config: DimensionConfig, regression: RegressionConfig, seeds: Sequence[int]) -> dict[str, Any]:
    """One cell: all seeds on one problem. Returns `compare` on new samples, the truth's own NLL, and failed steps."""
    train, test = make_problem(config.dimensions, config.samples, config.data_seed)
    roots = neighbour_roots(train.x, train.y, min(config.neighbours, config.samples - 1)) if _wants_roots(regression) else None
    fitted = fit(regression, train.x, train.y, roots, seeds)
    figures: dict[str, Any] = compare(*fitted.predict(test.x), test)
    true_nll = evaluate(test.mean[None], test.covariance[None], test.y)["nll"][0]
    return figures | {
        "true_nll": float(true_nll), "nonfinite": fitted.nonfinite, "largest_gradient": fitted.largest_gradient,
    }  # fmt: skip


def _wants_roots(regression: RegressionConfig) -> bool:
    from posecov.learn.losses import LOSSES

    return any(LOSSES[loss].pseudo for loss, _ in regression.phases())


def dimensions_of(quick: bool) -> tuple[int, ...]:
    """Every D of the experiment."""
    return (4, 8) if quick else tuple(EPOCHS)


def run(options: Options) -> str:
    """Compute what is missing, write tables and figures, return the Markdown."""
    folder = options.folder("dimensions")
    return run_with(folder, dimensions_of(options.quick), tuple(options.seeds), options.quick)


def run_with(folder: Path, wanted: Sequence[int], seeds: tuple[int, ...], quick: bool) -> str:
    """`run` for given dimensions."""
    from posecov.learn.experiments.dimension_report import Results, picture, report, rows

    fits: dict[tuple[int, str], dict[str, Any]] = {}
    checks: dict[tuple[str, str, str], dict[str, Any]] = {}
    middle = 4 if quick else 8
    trials = dimension_checks.trials(DimensionConfig.standard(middle, quick), quick)
    total = len(wanted) * (len(METHODS) + len(dimension_costs.METHODS)) + len(trials) + len(dimension_checks.GRADIENTS)
    with progress(total, "dimensions") as begin:
        for d in wanted:
            config = DimensionConfig.standard(d, quick)
            for method in METHODS:
                begin(f"D = {d}, {method}")
                fits[d, method] = _cell(folder, "fit", config, recipe(config, method), seeds)
        for (kind, setting, method), (config, regression) in trials.items():
            begin(f"{kind}: {setting}, {method}")
            checks[kind, setting, method] = _cell(folder, kind, config, regression, seeds)
        costs = dimension_costs.measure(folder, wanted, begin)
        gradients = dimension_checks.count_gradients(folder, (2, 8) if quick else (2, 8, 28), begin)
    results = Results(tuple(wanted), seeds, fits, checks, costs, gradients, quick)
    picture(folder / "dimensions.png", results)
    return write_report(folder, "dimensions", report(results), rows(results))


def _cell(
    folder: Path, kind: str, config: DimensionConfig, regression: RegressionConfig, seeds: tuple[int, ...]
) -> dict[str, Any]:
    key = {"experiment": "dimensions", "kind": kind, "D": config.dimensions, "loss": regression.loss, "seeds": seeds}
    key |= {"version": 1, "config": vars(config), "regression": vars(regression)}
    return run_cell(folder, key, lambda: compute(config, regression, seeds))
