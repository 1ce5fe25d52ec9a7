"""The figures of a model: keypoints, uncertainty, and the uncertainty figures of the two rivals (`rivals`)."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from posecov import coordinates, law, metrics
from posecov.errors import PosecovError
from posecov.evaluation.rivals import RIVALS, constant_correlation_rival, constant_covariance_rival
from posecov.evaluation.uncertainty import Noise, People, band, differences, law_figures, mean
from posecov.law import Law

log = logging.getLogger(__name__)


def evaluate(
    means: np.ndarray,
    covariances: np.ndarray,
    truth: np.ndarray,
    labelled: np.ndarray,
    sizes: np.ndarray,
    torso: np.ndarray,
    degrees_of_freedom: float,
    joints: Sequence[str],
    *,
    scale: np.ndarray | float | None = None,
    limbs: Sequence[tuple[int, int]] = (),
    head: np.ndarray | None = None,
    folds: int = 2,
    resamples: int = 1000,
    draws: int = 512,
    seed: int = 0,
) -> dict[str, Any]:
    """The report on a model.

    Args:
        means: (N, J, 2) keypoints, picture pixels.
        covariances: (N, D, D) second moments, pixels^2.
        truth: (N, J, 2) true keypoints; what stands at joints without a label does not matter.
        labelled: (N, J) bool.
        sizes: (N,) size of each person in pixels: the longer side of the box.
        torso: (N,) the unit of PCK in pixels; NaN leaves a person out of PCK and of the rank correlation in torsos.
        degrees_of_freedom: of the model's law, more than 2.
        joints: the J names.
        scale: (N,) or a number: pixels of some other frame per picture pixel, to report the NLL there too.
        limbs: pairs of joint indices whose vectors' coverage is reported.
        head: (N,) sizes of heads that annotations give, pixels, NaN where they do not (`metrics.head_sizes`).
        folds: at least 2, across which the rivals' constants are fitted.
        resamples: of the bootstrap over people behind each interval.
        draws: of each person's law behind the energy score.
        seed: of the bootstrap and of the draws.

    Returns:
        Nested dictionaries of plain numbers, strings and lists, ready for strict JSON (no number: None). Under "laws" the
        figures of the model and the rivals, with "difference" = model minus rival and its paired 95 % bootstrap interval:
        NLL, TAC, energy score and sharpness are better below 0, rank correlation above. No rivals when there are fewer than
        4 D people. Rank correlations are within joints, with sigma and error in torsos or in person sizes. Torsos come from
        the labels and shrink when seen end on, for sigma and error alike, which gives even a constant covariance some
        correlation.

    Raises:
        PosecovError: nobody has a label, a covariance is not positive definite, or there are fewer than 2 folds.
    """
    labelled = np.asarray(labelled, dtype=bool)
    kept = labelled.any(axis=1)
    if not kept.any():
        raise PosecovError("none of these people has a labelled joint")
    labelled, sizes = labelled[kept], np.asarray(sizes, dtype=np.float64)[kept]
    torso = _positive(np.asarray(torso, dtype=np.float64)[kept])
    frame = None if scale is None else np.broadcast_to(scale, kept.shape)[kept]
    means, truth, covariances = np.asarray(means)[kept], np.asarray(truth)[kept], np.asarray(covariances)[kept]
    values, errors = metrics.label_values(truth, labelled), metrics.keypoint_errors(means, truth, labelled)
    people = People(values, errors, sizes, torso, frame, joints, limbs)
    model = Law.from_covariance(coordinates.flatten(means), covariances, degrees_of_freedom)
    laws = {"model": model, **_rivals(model, values, sizes, folds)}
    noise = Noise(resamples, draws, seed)

    per_joint, mean_pck = metrics.pck(errors, torso)
    heads = metrics.head_sizes(truth, labelled, joints, None if head is None else np.asarray(head)[kept])
    scores = {name: metrics.energy_scores(one, values, draws, seed) for name, one in laws.items()}
    figures = {name: law_figures(one, people, scores[name]) for name, one in laws.items()}
    for name in list(laws)[1:]:
        energy = scores["model"][0] - scores[name][0]
        figures[name]["difference"] = differences((model, laws[name]), people, energy, noise)
    gaussians = Law(model.mean, model.covariance, math.inf)
    gaussian_laws = {"model": gaussians, **_rivals(gaussians, values, sizes, folds)}
    report = {
        "people": len(values),
        "labelled_joints": int(labelled.sum()),
        "degrees_of_freedom": degrees_of_freedom,
        "pck": {"threshold": 0.2, "unit": "torso", "mean": mean_pck, "per_joint": dict(zip(joints, per_joint, strict=True))},
        "pckh": _pckh(errors, heads, joints),
        "mean_error": {"pixels": metrics.mean_error(errors), "person_sizes": metrics.mean_error(errors / sizes[:, None])},
        "coverage_band": band(len(values)),
        "joints": _joints(people, law.joint_sigma(model.covariance)),
        "limbs": _limbs(people),
        "laws": figures,
        "gaussian_nll": {name: float(metrics.nll_per_person(one, values).mean()) for name, one in gaussian_laws.items()},
        "folds": folds,
        "bootstrap": {"resamples": resamples, "seed": seed, "confidence": 0.95},
    }
    return _plain(report)


def _rivals(people: Law, values: np.ndarray, sizes: np.ndarray, folds: int) -> dict[str, Law]:
    if len(values) < 4 * values.shape[1]:
        log.warning("%d people are too few to fit the rivals' constants; they are left out", len(values))
        return {}
    found = (constant_covariance_rival(people, values, sizes, folds), constant_correlation_rival(people, values, folds))
    return dict(zip(RIVALS, found, strict=True))


def _pckh(errors: np.ndarray, heads: np.ndarray, joints: Sequence[str]) -> dict[str, Any] | None:
    """PCKh at 0.5 and 0.1 of the head, over people whose head is known; None when nobody's is."""
    people = int((np.isfinite(heads) & (heads > 0)).sum())
    if not people:
        return None
    found: dict[str, Any] = {"unit": "head", "people": people}
    for threshold in (0.5, 0.1):
        per_joint, mean = metrics.pck(errors, heads, threshold)
        found[f"{threshold:g}"] = {"mean": mean, "per_joint": dict(zip(joints, per_joint, strict=True))}
    return found


def _joints(people: People, sigmas: np.ndarray) -> dict[str, dict[str, Any]]:
    """What is to know about each joint beside its coverage: sigmas (N, J) of the model, pixels."""
    found = {}
    for index, name in enumerate(people.joints):
        error, sigma = people.errors[:, index], sigmas[:, index] / people.sizes
        counted = ~np.isnan(error)
        found[name] = {
            "labelled": int(counted.sum()),
            "mean_error": {"pixels": mean(error), "person_sizes": mean(error / people.sizes)},
            "mean_sigma": {"pixels": mean(sigmas[counted, index]), "person_sizes": mean(sigma[counted])},
            "rank_correlation": metrics.rank_correlation(sigma[:, None], (error / people.sizes)[:, None]),
            "coverage_band": band(int(counted.sum())),
        }
    return found


def _limbs(people: People) -> dict[str, dict[str, Any]]:
    counts = [int((~np.isnan(people.errors[:, [a, b]])).all(axis=1).sum()) for a, b in people.limbs]
    return {name: {"labelled": n, "coverage_band": band(n)} for name, n in zip(people.limb_names, counts, strict=True)}


def _positive(lengths: np.ndarray) -> np.ndarray:
    return np.where(lengths > 0, lengths, np.nan)


def _plain(value: Any) -> Any:
    """Plain Python types; what is not a finite number becomes None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
