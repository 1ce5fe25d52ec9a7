"""What one true joint tells about the others of its limb and the mirror limb: the gain of a click at an ankle or a wrist."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from posecov import coordinates, metrics
from posecov.evaluation.uncertainty import Noise, People
from posecov.exchanges import limb_pairs
from posecov.law import Law
from posecov.mixture import Mixture
from posecov.skeleton import Skeleton

_CHUNK = 256  # People that are conditioned at once.


def conditioning_figures(
    laws: Mapping[str, Law | Mixture], people: People, skeleton: Skeleton, noise: Noise
) -> dict[str, dict[str, Any]]:
    """Errors before and after the true place of each end of a limb is given, for a skeleton with flip pairs.

    Args:
        laws: by name, the model's first. Their means are the same.
        people: N labelled ones.
        skeleton: whose limb pairs (`exchanges.limb_pairs`) and ends are taken.
        noise: of the bootstrap.

    Returns:
        By the name of the joint that is given: ``limbs`` the pair's name, ``joints`` the others of it, whose errors count;
        ``people`` how many have it and another one labelled; the mean error ``before`` and ``after``, the latter by law, over
        those joints of those people, in pixels and person sizes. With ``difference`` for the rivals: model minus rival after,
        in pixels, with its paired interval. The place of a joint is the mean of the conditional law, for a mixture that of
        its likeliest component. Joints that nobody has are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for pair in limb_pairs(skeleton):
        for end in pair.ends:
            others = [joint for joint in pair.joints if joint != end]
            given = ~np.isnan(people.errors[:, end])
            before = np.where(given[:, None], people.errors[:, others], np.nan)
            counts = (~np.isnan(before)).sum(axis=1)
            if not counts.any():
                continue
            after = {name: np.where(np.isnan(before), np.nan, _errors(one, people, end, others)) for name, one in laws.items()}
            model = next(iter(after.values()))
            entries = {name: _means(errors, people.sizes) for name, errors in after.items()}
            for name in list(laws)[1:]:
                sums = np.nansum(model - after[name], axis=1)
                interval = metrics.bootstrap_interval(sums, counts, noise.resamples, noise.seed)
                entries[name]["difference"] = {"value": sums.sum() / counts.sum(), "interval": interval}
            found[skeleton.keypoints[end]] = {
                "limbs": pair.name,
                "joints": [skeleton.keypoints[joint] for joint in others],
                "people": int((counts > 0).sum()),
                "before": _means(before, people.sizes),
                "after": entries,
            }
    return found


def _errors(one: Law | Mixture, people: People, end: int, others: list[int]) -> np.ndarray:
    """(N, joints) errors of others once the true place of an end is known; where it is not, its own mean stands for it."""
    rows, kept = coordinates.rows([end]), np.setdiff1d(np.arange(people.values.shape[1]), coordinates.rows([end]))
    wanted = np.searchsorted(kept, coordinates.rows(others))
    places = np.where(np.isnan(people.values[:, rows]), one.mean[:, rows], people.values[:, rows])
    means = np.empty((len(places), len(wanted)))
    for start in range(0, len(places), _CHUNK):
        part = slice(start, start + _CHUNK)
        means[part] = one[part].condition(rows, places[part]).mean[:, wanted]
    return np.linalg.norm(coordinates.unflatten(means - people.values[:, coordinates.rows(others)]), axis=-1)


def _means(errors: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    return {"pixels": metrics.mean_error(errors), "person_sizes": metrics.mean_error(errors / sizes[:, None])}
