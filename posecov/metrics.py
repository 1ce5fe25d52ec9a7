"""Metrics as pure functions on arrays of N people with J joints, D = 2J coordinates. Joints without a label are marginalised.

A missing label is NaN: in values (N, D), in errors (N, J) and in whatever is made from them. Lengths are pixels unless said
otherwise.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from posecov import coordinates, law
from posecov.law import Law


def label_values(truth: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """True keypoints (N, J, 2) as coordinate vectors (N, D), NaN where ``labelled`` (N, J) is false."""
    return coordinates.flatten(np.where(labelled[..., None], np.asarray(truth, dtype=np.float64), np.nan))


def keypoint_errors(means: np.ndarray, truth: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """(N, J) distance of keypoints (N, J, 2) from the true ones, NaN where ``labelled`` (N, J) is false."""
    distance = np.linalg.norm(np.asarray(means, dtype=np.float64) - truth, axis=-1)
    return np.where(labelled, distance, np.nan)


def mean_error(errors: np.ndarray) -> float:
    """Mean of errors (N, J) over the labelled joints of all people."""
    return float(np.nanmean(errors))


def pck(errors: np.ndarray, unit: np.ndarray, threshold: float = 0.2) -> tuple[np.ndarray, float]:
    """Share of keypoints closer to the truth than ``threshold`` units.

    Args:
        errors: (N, J).
        unit: (N,) length of each person's unit, such as the torso; NaN or 0 leaves the person out.
        threshold: in units; LSP takes 0.2 of the torso.

    Returns:
        (J,) share per joint (NaN for a joint never labelled), and the share over all labelled joints of all people.
    """
    relative = np.asarray(errors) / np.where(unit > 0, unit, np.nan)[:, None]
    counted = ~np.isnan(relative)
    hit = (relative < threshold) & counted
    with np.errstate(invalid="ignore"):
        per_joint = hit.sum(axis=0) / counted.sum(axis=0)
    return per_joint, float(hit.sum() / max(counted.sum(), 1))


def nll_per_person(people: Law, values: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """(N,) negative log likelihood of values (N, D) over the labelled coordinates, in nats; NaN for people without any label.

    Args:
        people: the law of N people.
        values: (N, D).
        scale: (N,) or one number, units per pixel: the density in those units is s^-d times that in pixels, d the labelled
            coordinates.
    """
    dimension = (~np.isnan(values)).sum(axis=-1)
    nll = people.negative_log_likelihood(values) + dimension * np.log(scale)
    return np.where(dimension > 0, nll, np.nan)


def tac_errors(people: Law, values: np.ndarray) -> np.ndarray:
    """(N, J) error of each labelled joint once it is predicted from the true values of all other labelled joints.

    Their mean is the Task-Agnostic Correlations error (TIC-TAC, arXiv 2310.18953), with the joint as the unit and the 2-norm.
    """
    return np.linalg.norm(people.hidden_joint_residuals(values), axis=-1)


def coverage(masses: np.ndarray, nominal: float) -> float:
    """Share of central masses (any shape, NaN left out) that the central region of mass ``nominal`` holds."""
    return float(np.mean(masses[~np.isnan(masses)] <= nominal))


def coverage_per_joint(joint_masses: np.ndarray, nominal: float) -> np.ndarray:
    """(J,) coverage of each joint's own central region from masses (N, J); NaN for a joint never labelled."""
    counted = ~np.isnan(joint_masses)
    with np.errstate(invalid="ignore"):
        return ((joint_masses <= nominal) & counted).sum(axis=0) / counted.sum(axis=0)


def coverage_by_sigma(joint_masses: np.ndarray, sigmas: np.ndarray, nominal: float, bins: int = 4) -> np.ndarray:
    """(bins,) coverage from the surest to the least sure people, the bins taken within each joint, then joints pooled.

    Args:
        joint_masses: (N, J).
        sigmas: (N, J) in any unit that makes people comparable.
        nominal: mass of the regions.
        bins: how many.
    """
    place = stats.rankdata(np.where(np.isnan(joint_masses), np.nan, sigmas), axis=0, nan_policy="omit")
    counted = np.maximum((~np.isnan(joint_masses)).sum(axis=0), 1)
    with np.errstate(invalid="ignore"):
        index = np.ceil(place / counted * bins) - 1
    return np.array([coverage(joint_masses[index == b], nominal) if (index == b).any() else np.nan for b in range(bins)])


def binomial_band(count: int, nominal: float, confidence: float = 0.95) -> tuple[float, float]:
    """Where the coverage of ``count`` independent people of a calibrated law lies with probability ``confidence``."""
    low, high = stats.binom.interval(confidence, count, nominal)
    return float(low / count), float(high / count)


def sharpness(people: Law, values: np.ndarray) -> float:
    """Mean over people of `law.log_volume` over the labelled coordinates: log of a length in pixels, lower is sharper."""
    return float(np.nanmean(law.log_volume(people.covariance, ~np.isnan(values))))


def rank_correlation(sigmas: np.ndarray, errors: np.ndarray) -> float:
    """Spearman's correlation of sigma and error over people, within each joint, averaged over joints.

    Pooling joints would reward knowing that wrists are harder than necks. A joint whose sigma is one constant counts 0.

    Args:
        sigmas: (N, J).
        errors: (N, J), NaN left out, in the same units as the sigmas.
    """
    found = []
    for sigma, error in zip(np.asarray(sigmas).T, np.asarray(errors).T, strict=True):
        counted = ~np.isnan(error) & ~np.isnan(sigma)
        if counted.sum() > 1:
            found.append(_spearman(sigma[counted], error[counted]))
    return float(np.mean(found)) if found else float("nan")


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    # A constant that went through a product and a quotient differs in its last digits, which rank nothing.
    if any(np.ptp(values) <= 1e-9 * np.abs(values).max() for values in (first, second)):
        return 0.0
    ranks = [stats.rankdata(values) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def bootstrap_interval(
    sums: np.ndarray, counts: np.ndarray, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(sums) / sum(counts) when people are drawn again with replacement.

    Args:
        sums: (N,) each person's contribution, such as the sum over labelled joints of a difference of errors.
        counts: (N,) how many terms it has.
        resamples: how often people are drawn.
        seed: of the draws: the same people for the same N and seed, so that intervals are paired.
        confidence: of the interval.
    """
    draws = resampled_people(len(sums), resamples, seed)
    ratios = np.array([sums[people].sum() / max(counts[people].sum(), 1) for people in draws])
    return percentile_interval(ratios, confidence)


def resampled_people(count: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, count) indices of people drawn with replacement."""
    return np.random.default_rng(seed).integers(count, size=(resamples, count))


def percentile_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The central interval of bootstrap values."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
