"""The figures of a model: keypoints, uncertainty, and the uncertainty figures of its rivals (`rivals`)."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from posecov import coordinates, law, metrics, ranking
from posecov.errors import PosecovError
from posecov.evaluation.clicking import FIRST, click_figures, ranked_misses
from posecov.evaluation.conditioning import conditioning_figures
from posecov.evaluation.confusion import confusion_figures
from posecov.evaluation.rivals import (
    MIXTURE_RIVALS,
    RIVALS,
    average_weights_rival,
    constant_correlation_rival,
    constant_covariance_rival,
    mixture_constant_correlation_rival,
)
from posecov.evaluation.uncertainty import Noise, People, band, differences, law_figures, mean
from posecov.law import Law
from posecov.mixture import Mixture
from posecov.skeleton import Skeleton

log = logging.getLogger(__name__)


BOX_THRESHOLD = 0.1
"""Of the longer side of a person's box, for PCK where nobody has a torso: that of Yang and Ramanan (2013) for whole people."""


def evaluate(
    people: Law | Mixture,
    truth: np.ndarray,
    labelled: np.ndarray,
    sizes: np.ndarray,
    torso: np.ndarray,
    skeleton: Skeleton,
    *,
    scale: np.ndarray | float | None = None,
    head: np.ndarray | None = None,
    exchanges: Sequence[str] = (),
    folds: int = 2,
    resamples: int = 1000,
    draws: int = 512,
    seed: int = 0,
) -> dict[str, Any]:
    """The report on a model.

    Args:
        people: the model's law of N people, picture pixels, with more than 2 degrees of freedom.
        truth: (N, J, 2) true keypoints; what stands at joints without a label does not matter.
        labelled: (N, J) bool.
        sizes: (N,) size of each person in pixels: the longer side of the box.
        torso: (N,) the unit of PCK in pixels; NaN leaves a person out of PCK and of the rank correlation in torsos. Where it is
            NaN for everybody, PCK takes the size of the person instead (`BOX_THRESHOLD`).
        skeleton: of the J joints; its limbs' vectors are covered or not, and its limb pairs conditioned.
        scale: (N,) or a number: pixels of some other frame per picture pixel, to report the NLL there too.
        head: (N,) sizes of heads that annotations give, pixels, NaN where they do not (`metrics.head_sizes`).
        exchanges: names of the components of a mixture.
        folds: at least 2, across which the rivals' constants are fitted.
        resamples: of the bootstrap over people behind each interval.
        draws: of each person's law behind the energy score.
        seed: of the bootstrap and of the draws.

    Returns:
        Nested dictionaries of plain numbers, strings and lists, ready for strict JSON (no number: None). Under "laws" the
        figures of the model and the rivals, with "difference" = model minus rival and its paired 95 % bootstrap interval:
        NLL, TAC, energy score and sharpness are better below 0, rank correlation above. No rivals, and the reason as
        "rivals_missing", when fewer than 4 D people have one of the joints, D the coordinates that are labelled at all. Rank
        correlations are within joints, of expected and found error in torsos or in person sizes. Torsos come from
        the labels and shrink when seen end on, for sigma and error alike, which gives even a constant covariance some
        correlation. "confusion" (`confusion`) is about a mixture's exchanges and None for a single law; "conditioning"
        (`conditioning`) is empty for a skeleton without flip pairs. "clicks" (`clicking`) is None where nobody has all joints
        labelled; "ranking" tells how many misses the people have whom `posecov rank` would put first.

    Raises:
        PosecovError: nobody has a label, a covariance is not positive definite, or there are fewer than 2 folds.
    """
    labelled = np.asarray(labelled, dtype=bool)
    kept = labelled.any(axis=1)
    if not kept.any():
        raise PosecovError("none of these people has a labelled joint")
    joints, model = skeleton.keypoints, people[np.flatnonzero(kept)]
    labelled, sizes = labelled[kept], np.asarray(sizes, dtype=np.float64)[kept]
    torso = _positive(np.asarray(torso, dtype=np.float64)[kept])
    frame = None if scale is None else np.broadcast_to(scale, kept.shape)[kept]
    truth = np.asarray(truth)[kept]
    errors = metrics.keypoint_errors(coordinates.unflatten(model.mean), truth, labelled)
    values = metrics.label_values(truth, labelled)
    seen = People(values, errors, sizes, torso, frame, joints, skeleton.limb_indices)
    few = _few(labelled)
    laws = {"model": model, **({} if few else _rivals(model, values, sizes, folds))}
    noise = Noise(resamples, draws, seed)

    heads = metrics.head_sizes(truth, labelled, joints, None if head is None else np.asarray(head)[kept])
    scores = {name: metrics.energy_scores(one, values, draws, seed) for name, one in laws.items()}
    figures = {name: law_figures(one, seen, scores[name]) for name, one in laws.items()}
    for name in list(laws)[1:]:
        energy = scores["model"][0] - scores[name][0]
        figures[name]["difference"] = differences((model, laws[name]), seen, energy, noise)
    gaussians = Law(model.mean, model.covariance, math.inf)
    gaussian_laws = {"model": gaussians, **({} if few else _rivals(gaussians, values, sizes, folds))}
    report = {
        "people": len(values),
        "labelled_joints": int(labelled.sum()),
        "degrees_of_freedom": _one_or_all(model.degrees_of_freedom),
        "pck": _pck(errors, torso, sizes, joints),
        "pckh": _pckh(errors, heads, joints),
        "mean_error": {"pixels": metrics.mean_error(errors), "person_sizes": metrics.mean_error(errors / sizes[:, None])},
        "coverage_band": band(len(values)),
        "joints": _joints(seen, law.joint_sigma(model.covariance), model.expected_errors()),
        "limbs": _limbs(seen),
        "laws": figures,
        "gaussian_nll": {name: float(metrics.nll_per_person(one, values).mean()) for name, one in gaussian_laws.items()},
        "confusion": _confusion(model, values, exchanges, noise),
        "conditioning": conditioning_figures(laws, seen, skeleton, noise),
        "clicks": click_figures(laws, seen, noise),
        "ranking": _ranking(seen, model, skeleton),
        "folds": folds,
        "bootstrap": {"resamples": resamples, "seed": seed, "confidence": 0.95},
    }
    return _plain(report | ({"rivals_missing": few} if few else {}))


def _ranking(people: People, model: Law | Mixture, skeleton: Skeleton) -> dict[str, float]:
    """Of all joints that PCK misses, how many belong to the first fifth of the people as `posecov rank` orders them."""
    unit = ranking.units(coordinates.unflatten(model.mean), people.sizes, skeleton)
    seen = np.where(np.isnan(people.errors), np.nan, model.expected_errors())
    alone = np.isnan(people.torso).all()
    threshold = BOX_THRESHOLD * people.sizes if alone else 0.2 * people.torso
    return {"first": FIRST, "misses": ranked_misses(people, np.nanmean(seen, axis=1) / unit, threshold, FIRST)}


def _few(labelled: np.ndarray) -> str:
    """Why the rivals' constants cannot be fitted; an empty string when they can."""
    counts = labelled.sum(axis=0)
    needed, least = 8 * int((counts > 0).sum()), int(counts[counts > 0].min())
    if len(labelled) < needed:
        few = f"{len(labelled)} people are too few to fit the rivals' constants, which takes {needed}"
    elif least < needed:
        few = f"a joint that only {least} people have is too rare to fit the rivals' constants, which takes {needed}"
    else:
        return ""
    log.warning("%s; they are left out", few)
    return few


def _rivals(people: Law | Mixture, values: np.ndarray, sizes: np.ndarray, folds: int) -> dict[str, Law | Mixture]:
    found = (constant_covariance_rival(people, values, sizes, folds), constant_correlation_rival(people, values, folds))
    rivals: dict[str, Law | Mixture] = dict(zip(RIVALS, found, strict=True))
    if isinstance(people, Mixture) and people.components > 1:
        rivals[MIXTURE_RIVALS[0]] = average_weights_rival(people)
        if people.orders is not None:
            rivals[MIXTURE_RIVALS[1]] = mixture_constant_correlation_rival(people, values, folds)
    return rivals


def _confusion(people: Law | Mixture, values: np.ndarray, names: Sequence[str], noise: Noise) -> dict[str, Any] | None:
    if not isinstance(people, Mixture) or people.components == 1:
        return None
    names = names or ["none", *(f"exchange {k}" for k in range(1, people.components))]
    return confusion_figures(people, values, names, noise.resamples, noise.seed)


def _pck(errors: np.ndarray, torso: np.ndarray, sizes: np.ndarray, joints: Sequence[str]) -> dict[str, Any]:
    """At 0.2 of the torso, over people who have one; where nobody has, at `BOX_THRESHOLD` of the person's size."""
    alone = np.isnan(torso).all()
    threshold, unit, name = (BOX_THRESHOLD, sizes, "box") if alone else (0.2, torso, "torso")
    per_joint, mean_pck = metrics.pck(errors, unit, threshold)
    return {
        "threshold": threshold,
        "unit": name,
        "people": int((~np.isnan(unit)).sum()),
        "mean": mean_pck,
        "per_joint": dict(zip(joints, per_joint, strict=True)),
    }


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


def _joints(people: People, sigmas: np.ndarray, expected: np.ndarray) -> dict[str, dict[str, Any]]:
    """What is to know about each joint beside its coverage: sigmas and expected errors (N, J) of the model, pixels."""
    found = {}
    for index, name in enumerate(people.joints):
        error, sigma = people.errors[:, index], sigmas[:, index] / people.sizes
        counted = ~np.isnan(error)
        found[name] = {
            "labelled": int(counted.sum()),
            "mean_error": {"pixels": mean(error), "person_sizes": mean(error / people.sizes)},
            "mean_sigma": {"pixels": mean(sigmas[counted, index]), "person_sizes": mean(sigma[counted])},
            "rank_correlation": metrics.rank_correlation(
                (expected[:, index] / people.sizes)[:, None], (error / people.sizes)[:, None]
            ),
            "coverage_band": band(int(counted.sum())),
        }
    return found


def _limbs(people: People) -> dict[str, dict[str, Any]]:
    counts = [int((~np.isnan(people.errors[:, [a, b]])).all(axis=1).sum()) for a, b in people.limbs]
    return {name: {"labelled": n, "coverage_band": band(n)} for name, n in zip(people.limb_names, counts, strict=True)}


def _one_or_all(degrees_of_freedom: float | np.ndarray) -> Any:
    """The number that people share, or each person's."""
    distinct = np.unique(degrees_of_freedom)
    return distinct[0] if len(distinct) == 1 else degrees_of_freedom


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
