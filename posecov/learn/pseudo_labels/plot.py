"""Do pseudo-labels mean anything? Pictures that answer: pseudo spread against actual errors, and neighbours side by side."""

import io
from collections.abc import Sequence

import numpy as np
from scipy import stats

from posecov import metrics
from posecov.errors import PosecovError

_BINS = 12


def pseudo_spread(covariances: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo standard deviation and actual error of each person: root mean squares over the labelled coordinates.

    Args:
        covariances: (N, D, D) pseudo-covariances of people whose residuals made none of them.
        residuals: (N, D), NaN without a label.

    Returns:
        (N,) and (N,), in the units of the residuals; NaN for a person without any label.
    """
    labelled = ~np.isnan(residuals)
    count = np.where(labelled.any(axis=1), labelled.sum(axis=1), np.nan)
    variance = np.einsum("ndd->nd", covariances)
    sigma = np.sqrt(np.where(labelled, variance, 0.0).sum(axis=1) / count)
    return sigma, np.sqrt(np.square(np.where(labelled, residuals, 0.0)).sum(axis=1) / count)


def joint_spread(covariances: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo standard deviation and actual error of each joint, two coordinates each; as `pseudo_spread`, but (N, J)."""
    variance = np.einsum("ndd->nd", covariances)
    sigma = np.sqrt(variance.reshape(len(variance), -1, 2).mean(axis=2))
    return sigma, np.sqrt(np.square(residuals).reshape(len(residuals), -1, 2).mean(axis=2))


def spread_correlations(covariances: np.ndarray, residuals: np.ndarray, joints: bool = True) -> dict[str, float]:
    """Spearman correlations of pseudo standard deviation and actual error: ``spearman_person`` over people, and, when
    coordinates are joints, ``spearman_joint`` within each joint, averaged. 0: the pseudo-labels say nothing.
    """
    sigma, error = pseudo_spread(covariances, residuals)
    known = ~np.isnan(error)
    if known.sum() < 3:
        raise PosecovError("pseudo-labels: residuals of fewer than three labelled people; no correlation can be told")
    found = {"spearman_person": float(stats.spearmanr(sigma[known], error[known]).statistic)}
    if joints:
        found["spearman_joint"] = float(metrics.rank_correlation(*joint_spread(covariances, residuals)))
    return found


def spread_plot(
    covariances: np.ndarray, residuals: np.ndarray, control: np.ndarray | None = None, unit: str = "crop px"
) -> bytes:
    """A PNG: actual errors of people and joints, binned by their pseudo standard deviation, with Spearman's correlation.

    A pseudo-covariance that means what it says lies on the diagonal; one that says nothing gives a level line.

    Args:
        covariances: (N, D, D) pseudo-covariances of held-out people.
        residuals: (N, D) of the same people, NaN without a label; D even: x and y of each joint.
        control: (N, D, D) pseudo-covariances from shuffled neighbours, whose correlation is stated beside.
        unit: of the residuals.
    """
    from matplotlib.figure import Figure

    found = spread_correlations(covariances, residuals)
    shuffled = {} if control is None else spread_correlations(control, residuals)
    titles = {"person": "each person", "joint": "each joint (correlation within a joint, averaged)"}
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = {"person": pseudo_spread(covariances, residuals), "joint": joint_spread(covariances, residuals)}
    for axes, (name, (sigma, error)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        known = ~np.isnan(error)
        sigma, error = sigma[known], error[known]
        axes.scatter(sigma, error, s=4, alpha=min(1.0, 300 / len(sigma) + 0.1), color="0.4", linewidths=0)
        groups = np.array_split(np.argsort(sigma), min(_BINS, len(sigma)))
        centre = [np.sqrt(np.square(sigma[group]).mean()) for group in groups]
        actual = [np.sqrt(np.square(error[group]).mean()) for group in groups]
        axes.plot(centre, actual, marker="o", label="actual, root mean square of a bin")
        axes.plot(centre, [np.median(error[group]) for group in groups], marker=".", label="actual, median of a bin")
        ends = [min(centre), max(centre)]
        axes.plot(ends, ends, color="black", linestyle=":", label="pseudo = actual")
        beside = f", shuffled neighbours {shuffled[f'spearman_{name}']:.2f}" if shuffled else ""
        axes.set_title(f"{titles[name]}\nSpearman {found[f'spearman_{name}']:.2f}{beside}", fontsize=11)
        axes.set_xlabel(f"pseudo standard deviation, {unit}")
        axes.set_ylabel(f"actual error, {unit}")
        axes.set_ylim(0, 1.2 * max(np.quantile(error, 0.98), *actual))
        axes.legend(loc="upper left", fontsize=9)
    return _png(figure)


def neighbours_plot(queries: np.ndarray, neighbours: np.ndarray, weights: np.ndarray, names: Sequence[str] = ()) -> bytes:
    """A PNG with one row for each query: its crop, and those of its neighbours with their weights.

    Args:
        queries: (Q, S, S, 3) uint8 BGR.
        neighbours: (Q, K, S, S, 3) uint8 BGR, nearest first.
        weights: (Q, K).
        names: of the queries.
    """
    from matplotlib.figure import Figure

    count, shown = weights.shape
    figure = Figure(figsize=(1.5 * (shown + 1), 1.7 * count + 0.4), layout="constrained")
    figure.suptitle("query | its nearest neighbours and their weights", fontsize=10)
    for row, axes in enumerate(figure.subplots(count, shown + 1, squeeze=False)):
        axes[0].imshow(queries[row, :, :, ::-1])
        axes[0].set_title(names[row] if names else "query", fontsize=8, fontweight="bold")
        for place in range(shown):
            axes[place + 1].imshow(neighbours[row, place, :, :, ::-1])
            axes[place + 1].set_title(f"{weights[row, place]:.3f}", fontsize=8)
        for each in axes:
            each.set_axis_off()
    return _png(figure)


def _png(figure: object) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)  # type: ignore[attr-defined]
    return buffer.getvalue()
