"""What corrections are worth: true joints given, the best one chosen by the law, and whether the law stays calibrated."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from posecov import coordinates, metrics
from posecov.clicks import expected_gains
from posecov.evaluation.uncertainty import Noise, People
from posecov.law import Law
from posecov.mixture import Mixture

JUDGED = ("model", "constant_covariance")
"""Laws whose clicks are counted."""

MASSES = (0.5, 0.9)
NEAR, FAR = 0.5, 0.9
"""Evidence is near up to the first mass of its joint's region, far from the second on."""

FIRST = 0.2
"""Share of the people that are looked at when they are ranked."""

_TRUNK = ("shoulder", "hip")


def click_figures(laws: Mapping[str, Law | Mixture], people: People, noise: Noise) -> dict[str, Any] | None:
    """Clicks at true places, for people whose joints are all labelled; None when there are none, or no other joints.

    Returns:
        "people" how many; "trunk": with shoulders and hips given, the mean error in pixels of the other joints "before" and
        "after" by law, with the joints' names; "one": over all joints that could be given, of the others: for each law
        the mean error "before" and "after" a "random" click and after the "best" one, which that law expects to help most,
        and the "difference" of best and random with its paired interval; "coverage": for "near" and "far" evidence, how many
        clicks that is, and the share of people whose other joints lie within the model's region of 50 and of 90 %.
    """
    whole = np.flatnonzero(~np.isnan(people.values).any(axis=1))
    joints = len(people.joints)
    if not len(whole) or joints < 2:
        return None
    values = people.values[whole]
    chosen = {name: laws[name][whole] for name in JUDGED if name in laws}
    found: dict[str, Any] = {"people": len(whole)}
    trunk = [index for index, joint in enumerate(people.joints) if any(part in joint for part in _TRUNK)]
    rest = [joint for joint in range(joints) if joint not in trunk]
    if trunk and rest:
        after = {name: _errors(one, values, trunk)[:, rest].mean() for name, one in chosen.items()}
        names = [people.joints[joint] for joint in trunk]
        found["trunk"] = {"given": names, "before": people.errors[whole][:, rest].mean(), "after": after}
    found["one"] = {name: _one_click(one, values, noise) for name, one in chosen.items()}
    found["coverage"] = _coverage(chosen["model"], values)
    return found


def ranked_misses(people: People, scores: np.ndarray, threshold: np.ndarray, first: float = FIRST) -> float:
    """Share of all joints beyond a threshold that the people have who come first by a score.

    Args:
        people: N, the picture of each being one to label.
        scores: (N,) the least certain have the highest.
        threshold: (N,) pixels, NaN leaves a person out.
        first: share of the people.
    """
    kept = np.flatnonzero(~np.isnan(threshold))
    with np.errstate(invalid="ignore"):
        misses = (people.errors[kept] > threshold[kept, None]).sum(axis=1)
    order = np.argsort(-scores[kept], kind="stable")[: round(first * len(kept))]
    return float(misses[order].sum() / max(misses.sum(), 1))


def _one_click(one: Law | Mixture, values: np.ndarray, noise: Noise) -> dict[str, Any]:
    joints = values.shape[1] // 2
    before = np.linalg.norm(coordinates.unflatten(one.mean - values), axis=-1)
    # (N, J) mean error of the others with joint h given, and without.
    after = np.stack([_errors(one, values, [h]).sum(axis=1) / (joints - 1) for h in range(joints)], axis=1)
    without = (before.sum(axis=1, keepdims=True) - before) / (joints - 1)
    best = np.array([expected_gains(one[n]).argmax() for n in range(len(values))])
    rows = np.arange(len(values))
    gain = (without - after)[rows, best] - (without - after).mean(axis=1)
    interval = metrics.bootstrap_interval(gain, np.ones(len(gain)), noise.resamples, noise.seed)
    return {
        "random": {"before": without.mean(), "after": after.mean()},
        "best": {"before": without[rows, best].mean(), "after": after[rows, best].mean()},
        "difference": {"value": gain.mean(), "interval": interval},
    }


def _errors(one: Law | Mixture, values: np.ndarray, given: list[int]) -> np.ndarray:
    """(N, J) errors once the true places of some joints are known, 0 at these."""
    rows = coordinates.rows(given)
    rest = np.setdiff1d(np.arange(values.shape[1]), rows)
    errors = np.zeros(values.shape)
    errors[:, rest] = one.condition(rows, values[:, rows]).mean - values[:, rest]
    return np.linalg.norm(coordinates.unflatten(errors), axis=-1)


def _coverage(one: Law | Mixture, values: np.ndarray) -> dict[str, Any]:
    masses = one.joint_masses(values)
    kinds: dict[str, list[np.ndarray]] = {"near": [], "far": []}
    for joint in range(masses.shape[1]):
        rows = coordinates.rows([joint])
        rest = np.setdiff1d(np.arange(values.shape[1]), rows)
        for kind, chosen in (("near", masses[:, joint] <= NEAR), ("far", masses[:, joint] >= FAR)):
            index = np.flatnonzero(chosen)
            if len(index):
                kinds[kind].append(one[index].condition(rows, values[index][:, rows]).mass(values[index][:, rest]))
    found: dict[str, Any] = {}
    for kind, parts in kinds.items():
        reached = np.concatenate(parts) if parts else np.zeros(0)
        found[kind] = {"clicks": len(reached)}
        if len(reached):
            found[kind]["covered"] = {f"{100 * mass:.0f}": float((reached <= mass).mean()) for mass in MASSES}
    return found
