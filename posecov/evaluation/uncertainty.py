"""The uncertainty figures of one law of labelled people, and how it differs from another."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posecov import law, metrics
from posecov.law import Law
from posecov.mixture import Mixture

MASSES = (0.5, 0.68, 0.9, 0.95)
LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Masses at which reliability is plotted, and shares of joints at which the risk-coverage curve is."""


@dataclass(frozen=True, eq=False)
class People:
    """Labelled people, as every figure needs them.

    Attributes:
        values: (N, D), NaN without a label.
        errors: (N, J) of the model's keypoints, pixels.
        sizes: (N,) pixels.
        torso: (N,) pixels, NaN where there is none.
        frame: (N,) pixels of the frame per picture pixel, or None.
        joints: the J names.
        limbs: pairs of joint indices.
    """

    values: np.ndarray
    errors: np.ndarray
    sizes: np.ndarray
    torso: np.ndarray
    frame: np.ndarray | None
    joints: Sequence[str]
    limbs: Sequence[tuple[int, int]]

    @property
    def limb_names(self) -> list[str]:
        return [f"{self.joints[a]} - {self.joints[b]}" for a, b in self.limbs]


@dataclass(frozen=True)
class Noise:
    """What the figures that are drawn by chance depend on."""

    resamples: int
    draws: int
    seed: int


def law_figures(one: Law | Mixture, people: People, scores: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[str, Any]:
    """The uncertainty figures of one law; scores are its `metrics.energy_scores`."""
    values, errors, sizes = people.values, people.errors, people.sizes[:, None]
    joint, single, limbs = one.mass(values), one.joint_masses(values), metrics.limb_masses(one, values, people.limbs)
    sigmas, torsos = law.joint_sigma(one.covariance), people.torso[:, None]
    expected = one.expected_errors()
    hidden = metrics.tac_errors(one, values)
    nll = {
        "pixels": metrics.nll_per_person(one, values).mean(),
        "person_sizes": metrics.nll_per_person(one, values, 1 / people.sizes).mean(),
    }
    if people.frame is not None:
        nll["frame"] = metrics.nll_per_person(one, values, people.frame).mean()
    by_mass: dict[str, Callable[[float], Any]] = {
        "joint": lambda mass: metrics.coverage(joint, mass),
        "per_joint": lambda mass: mean(metrics.coverage_per_joint(single, mass)),
        "per_joint_deviation": lambda mass: mean(np.abs(metrics.coverage_per_joint(single, mass) - mass)),
        "by_sigma": lambda mass: metrics.coverage_by_sigma(single, sigmas / sizes, mass),
        "by_sigma_thirds": lambda mass: metrics.coverage_by_sigma(single, sigmas / sizes, mass, bins=3),
        "limbs": lambda mass: mean(metrics.coverage_per_joint(limbs, mass)),
        "limbs_deviation": lambda mass: mean(np.abs(metrics.coverage_per_joint(limbs, mass) - mass)),
    }
    return {
        "nll": nll,
        "tac": {"pixels": mean(hidden), "person_sizes": mean(hidden / sizes)},
        "energy_score": _energy(scores, people.sizes),
        "coverage": {name: {percent(mass): share(mass) for mass in MASSES} for name, share in by_mass.items()},
        "coverage_of_joints": _coverage_of_each(single, people.joints),
        "coverage_of_limbs": _coverage_of_each(limbs, people.limb_names),
        "reliability": {
            "nominal": LEVELS,
            "joint": _digits([metrics.coverage(joint, level) for level in LEVELS]),
            "of_joints": _digits([metrics.coverage_per_joint(single, level) for level in LEVELS]).T,
            "of_limbs": _digits([metrics.coverage_per_joint(limbs, level) for level in LEVELS]).T,
        },
        "sharpness": metrics.sharpness(one, values),
        "rank_correlation": {
            "torsos": metrics.rank_correlation(expected / torsos, errors / torsos),
            "person_sizes": metrics.rank_correlation(expected / sizes, errors / sizes),
            "of_sigma": metrics.rank_correlation(sigmas / sizes, errors / sizes),
        },
        "risk_coverage": _risk(expected / sizes, errors / sizes),
        "sigma_bins": dict(
            zip(("sigma", "error"), map(_digits, metrics.sigma_bins(sigmas / sizes, errors / sizes)), strict=True)
        ),
        "degrees_of_freedom": np.unique(one.degrees_of_freedom),
    }


def _energy(scores: tuple[np.ndarray, np.ndarray, np.ndarray], sizes: np.ndarray) -> dict[str, Any]:
    """Means over people; the standard error is that of the draws alone, for the first of them."""
    person, per_joint, chunks = scores
    by_chunk = chunks.mean(axis=1)
    noise = by_chunk.std(ddof=1) / np.sqrt(len(by_chunk)) if len(by_chunk) > 1 else math.nan
    return {
        "pixels": person.mean(),
        "person_sizes": (person / sizes).mean(),
        "per_joint": {"pixels": mean(per_joint), "person_sizes": mean(per_joint / sizes[:, None])},
        "draws": 32 * len(chunks),
        "standard_error_of_draws": noise,
    }


def _coverage_of_each(masses: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    shares = {percent(mass): metrics.coverage_per_joint(masses, mass) for mass in MASSES}
    return {name: {mass: share[index] for mass, share in shares.items()} for index, name in enumerate(names)}


def _risk(expected: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """The risk-coverage curve in parts of the mean error of all joints, in person sizes; perfect: sorted by the errors."""
    curves = {"risk": metrics.risk_curve(expected, errors), "perfect": metrics.risk_curve(errors, errors)}
    whole = curves["risk"][-1]
    found: dict[str, Any] = {
        "mean_error": whole,
        "area": curves["risk"].mean(),
        "relative_area": curves["risk"].mean() / whole,
        "perfect_relative_area": curves["perfect"].mean() / whole,
        "left_at_80": metrics.error_left(curves["risk"]),
        "perfect_left_at_80": metrics.error_left(curves["perfect"]),
        "kept": (*LEVELS, 1.0),
    }
    for name, curve in curves.items():
        found[name] = _digits([metrics.error_left(curve, kept) for kept in found["kept"]])
    return found


def differences(pair: tuple[Law | Mixture, Law | Mixture], people: People, energy: np.ndarray, noise: Noise) -> dict[str, Any]:
    """Model minus rival with paired bootstrap intervals over people; energy (N,) is the difference of their energy scores."""
    model, rival = pair
    values, torso, resamples, seed = people.values, people.torso, noise.resamples, noise.seed
    nll = metrics.nll_per_person(model, values) - metrics.nll_per_person(rival, values)
    hidden = metrics.tac_errors(model, values) - metrics.tac_errors(rival, values)
    present = ~np.isnan(values)
    volume = law.log_volume(model.covariance, present) - law.log_volume(rival.covariance, present)
    terms = {
        "nll": (nll, np.ones(len(nll))),
        "tac": (np.nansum(hidden, axis=1), (~np.isnan(hidden)).sum(axis=1)),
        "energy_score": (energy, np.ones(len(energy))),
        "sharpness": (volume, np.ones(len(volume))),
    }
    found = {}
    for name, (sums, counts) in terms.items():
        interval = metrics.bootstrap_interval(sums, counts, resamples, seed)
        found[name] = {"value": sums.sum() / counts.sum(), "interval": interval}
    relative = people.errors / torso[:, None]
    ours, theirs = (one.expected_errors() / torso[:, None] for one in pair)

    def ranks(index: np.ndarray | slice) -> float:
        error = relative[index]
        return metrics.rank_correlation(ours[index], error) - metrics.rank_correlation(theirs[index], error)

    drawn = [ranks(index) for index in metrics.resampled_people(len(values), resamples, seed)]
    found["rank_correlation"] = {"value": ranks(slice(None)), "interval": metrics.percentile_interval(drawn)}
    return found


def band(count: int) -> dict[str, tuple[float, float] | None]:
    return {percent(mass): metrics.binomial_band(count, mass) if count else None for mass in MASSES}


def mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN, without a warning, when nothing is left."""
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if counted.size else math.nan


def _digits(values: Any) -> np.ndarray:
    """Rounded for plots: what a curve needs, not a row of sixteen digits for each of its points."""
    return np.round(np.asarray(values, dtype=np.float64), 5)


def percent(mass: float) -> str:
    return f"{100 * mass:.0f}"
