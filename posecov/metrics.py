"""Metrics as pure functions on arrays of N people with J joints, D = 2J coordinates. Joints without a label are marginalised.

A missing label is NaN: in values (N, D), in errors (N, J) and in whatever is made from them. Lengths are pixels unless said
otherwise.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from posecov import coordinates, law
from posecov.law import Law
from posecov.mixture import Mixture


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
        (J,) share per joint (NaN for a joint never labelled), and the share over all labelled joints of all people, NaN when
        nobody has a unit.
    """
    relative = np.asarray(errors) / np.where(unit > 0, unit, np.nan)[:, None]
    counted = ~np.isnan(relative)
    hit = (relative < threshold) & counted
    with np.errstate(invalid="ignore"):
        per_joint = hit.sum(axis=0) / counted.sum(axis=0)
    return per_joint, float(hit.sum() / counted.sum()) if counted.any() else float("nan")


def head_sizes(truth: np.ndarray, labelled: np.ndarray, joints: Sequence[str], known: np.ndarray | None = None) -> np.ndarray:
    """(N,) unit of PCKh in pixels: the size that annotations give, else the distance of ``head_top`` and the neck.

    MPII's own size is 0.6 of the diagonal of its head boxes (`head_box_size`; Andriluka et al., CVPR 2014). Where there is no
    box, head top to neck (MPII's ``upper_neck``) is about as long. NaN where neither tells it: `pck` leaves such people out.

    Args:
        truth: (N, J, 2) pixels.
        labelled: (N, J).
        joints: the J names.
        known: (N,) sizes that annotations give, NaN where they do not.
    """
    ends = [joints.index(name) for name in ("head_top", "upper_neck", "neck") if name in joints][:2]
    sizes = np.full(len(truth), np.nan)
    if len(ends) == 2 and joints[ends[0]] == "head_top":
        present = np.asarray(labelled)[:, ends].all(axis=1)
        length = np.linalg.norm(np.asarray(truth)[:, ends[0]] - np.asarray(truth)[:, ends[1]], axis=-1)
        sizes = np.where(present, length, np.nan)
    return sizes if known is None else np.where(np.asarray(known) > 0, known, sizes)


def head_box_size(box: np.ndarray) -> np.ndarray:
    """(...) unit of PCKh of a head box (..., 4) x, y, width, height: 0.6 of its diagonal, as MPII's evaluation has it."""
    return 0.6 * np.hypot(np.asarray(box)[..., 2], np.asarray(box)[..., 3])


def nll_per_person(people: Law | Mixture, values: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
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


def tac_errors(people: Law | Mixture, values: np.ndarray) -> np.ndarray:
    """(N, J) error of each labelled joint once it is predicted from the true values of all other labelled joints.

    Their mean is the Task-Agnostic Correlations error (TIC-TAC, arXiv 2310.18953), with the joint as the unit and the 2-norm.
    """
    return np.linalg.norm(people.hidden_joint_residuals(values), axis=-1)


def energy_scores(
    people: Law | Mixture, values: np.ndarray, draws: int = 512, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The energy score E|X - y| - 1/2 E|X - X'|, X and X' independent draws of the law: strictly proper, lower is better.

    Gneiting and Raftery (2007), equation 22 with beta = 1, negatively oriented. Like the NLL it judges means and covariances
    together, but in units of length, and one person far out does not dominate it.

    Estimator: draws come in chunks of 32. The first expectation is the mean over a chunk's draws, the second the mean over the
    pairs of each draw with the next in its chunk, the last with the first: both unbiased. Laws that are compared must have the
    same shape and seed: they are then drawn from the same normal deviates, and much of the noise leaves their difference.

    Args:
        people: the law of N people.
        values: (N, D), NaN left out of the norm.
        draws: of every person's law, rounded up to whole chunks.
        seed: of the draws.

    Returns:
        (N,) over all labelled coordinates of a person together, (N, J) over each joint by itself, pixels, NaN where nothing is
        labelled; and (chunks, N), the chunks' own values of the first, to tell how much the draws matter.
    """
    size, labelled = 32, ~np.isnan(values)
    chunks, joints = [], []
    for chunk in range(max(1, -(-draws // size))):
        # A generator for each chunk: laws of different families take different amounts from theirs.
        drawn = people.sample(np.random.default_rng((seed, chunk)), size)
        away, apart = drawn - values, drawn - np.roll(drawn, 1, axis=0)
        squares = [np.square(coordinates.unflatten(np.where(labelled, v, 0.0))).sum(axis=-1) for v in (away, apart)]
        whole = [np.sqrt(s.sum(axis=-1)).mean(axis=0) for s in squares]
        single = [np.sqrt(s).mean(axis=0) for s in squares]
        chunks.append(whole[0] - whole[1] / 2)
        joints.append(single[0] - single[1] / 2)
    each = np.where(labelled.any(axis=-1), chunks, np.nan)
    per_joint = np.where(coordinates.unflatten(labelled).all(axis=-1), np.mean(joints, axis=0), np.nan)
    return each.mean(axis=0), per_joint, each


def limb_masses(people: Law | Mixture, values: np.ndarray, limbs: Sequence[tuple[int, int]]) -> np.ndarray:
    """(N, L) central mass at which the true vector of each limb, one joint minus the other, lies in its own law.

    Two joints may each be calibrated while the vector between them is not: it depends on their covariance. NaN where either of
    the two has no label.

    Args:
        people: the law of N people.
        values: (N, D).
        limbs: L pairs of joint indices.
    """
    masses = np.empty((len(values), len(limbs)))
    for index, (first, second) in enumerate(limbs):
        a, b = coordinates.rows([first]), coordinates.rows([second])
        masses[:, index] = people.difference(a, b).mass(values[:, a] - values[:, b])
    return masses


def risk_curve(expected: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """(K,) mean error of the k joints with the smallest expected errors, k = 1..K, over all labelled joints of all people.

    The risk-coverage curve of El-Yaniv and Wiener (2010) with the error as the loss; its mean is the area under it. Joints of
    equal expectation (to nine digits) count with their mean error, so that their order does not matter.

    Args:
        expected: (N, J) errors, or any other measure of uncertainty, in a unit that makes people comparable.
        errors: (N, J), NaN left out, in the same unit.
    """
    counted = ~np.isnan(errors) & ~np.isnan(expected)
    # Equal up to rounding in the last digits, as a constant times a person's size divided by that size is.
    with np.errstate(divide="ignore"):
        _, tie, count = np.unique(np.round(np.log(expected[counted]), 9), return_inverse=True, return_counts=True)
    level = np.bincount(tie, weights=errors[counted]) / count
    return np.cumsum(np.repeat(level, count)) / np.arange(1, len(tie) + 1)


def error_left(curve: np.ndarray, kept: float = 0.8) -> float:
    """Mean error of the surest share ``kept`` of all joints as a part of the mean error of all, from `risk_curve`."""
    if not len(curve):
        return float("nan")
    return float(curve[max(1, round(kept * len(curve))) - 1] / curve[-1])


def sigma_bins(sigmas: np.ndarray, errors: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square of sigma, and of error, in bins of equally many joints from the surest to the least sure.

    Sigma and error per axis (errors divided by sqrt 2) in the same unit; equal in every bin for a law with the right second
    moments. (N, J) each, NaN left out; fewer bins when there are fewer joints.
    """
    counted = ~np.isnan(errors) & ~np.isnan(sigmas)
    sigma, error = sigmas[counted], errors[counted] / np.sqrt(2)
    groups = [g for g in np.array_split(np.argsort(sigma, kind="stable"), bins) if len(g)]
    return tuple(np.array([np.sqrt(np.square(v[g]).mean()) for g in groups]) for v in (sigma, error))  # type: ignore[return-value]


def coverage(masses: np.ndarray, nominal: float) -> float:
    """Share of central masses (any shape, NaN left out) that the central region of mass ``nominal`` holds; NaN for none."""
    counted = masses[~np.isnan(masses)]
    return float(np.mean(counted <= nominal)) if counted.size else float("nan")


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


def sharpness(people: Law | Mixture, values: np.ndarray) -> float:
    """Mean over people of `law.log_volume` over the labelled coordinates: log of a length in pixels, lower is sharper."""
    return float(np.nanmean(law.log_volume(people.covariance, ~np.isnan(values))))


def rank_correlation(expected: np.ndarray, errors: np.ndarray) -> float:
    """Spearman's correlation of expected and found errors over people, within each joint, averaged over joints.

    Pooling joints would reward knowing that wrists are harder than necks. A joint that always expects the same counts 0.

    Args:
        expected: (N, J) errors, or any other measure of uncertainty.
        errors: (N, J), NaN left out, in the same unit.
    """
    found = []
    for guess, error in zip(np.asarray(expected).T, np.asarray(errors).T, strict=True):
        counted = ~np.isnan(error) & ~np.isnan(guess)
        if counted.sum() > 1:
            found.append(_spearman(guess[counted], error[counted]))
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
