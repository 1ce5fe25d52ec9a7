"""Whether a mixture knows when left and right may be confused: its weights against what the labels say.

What the labels say about a person are *responsibilities*: the probability of each exchange once they are known
(`Mixture.responsibilities`). Under the law itself they average to the predicted weights, among all people and among those with
any one prediction. They start from those weights, so that where labels leave it open they repeat the prediction; ``decided``
tells how often they do not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from posecov import metrics
from posecov.mixture import Mixture

DECIDED = 0.9
"""Responsibility from which labels have decided for an exchange."""

_BINS = 10
_LEAST = 20  # People in a bin.


def confusion_figures(people: Mixture, values: np.ndarray, names: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    """Weights and responsibilities of N people.

    Args:
        people: their law; the first component exchanges nothing.
        values: (N, D), NaN without a label.
        names: of the K components.
        resamples: of the bootstrap over people behind the interval.
        seed: of it.

    Returns:
        ``exchanges``: by name the mean ``weight``, the mean ``responsibility``, and the share of people for whom it is the
        ``likeliest`` once the labels are known. ``exchanged``, about all but the first: the mean probability ``predicted``, the
        mean responsibility ``found``, their ``difference`` with its bootstrap interval, the share ``likeliest``, the share
        ``decided`` of people with a responsibility of `DECIDED` for one of them or for none; ``rank_correlation`` of the
        probability predicted and found. ``bins``: people in order of the probability predicted, in up to ten bins of equally
        many: how many ``people``, ``predicted``, ``found``, ``likeliest``, and the ``standard_error`` of found minus predicted
        for a law that is right (that of labels which always decide, the largest). ``calibration_error``: the mean over people
        of the bins' distance of found from predicted.
    """
    weights, found = people.weights, people.responsibilities(values)
    best = found.argmax(axis=1)
    predicted, exchanged = 1 - weights[:, 0], 1 - found[:, 0]
    gap = exchanged - predicted
    count = len(values)
    bins = []
    for members in np.array_split(np.argsort(predicted, kind="stable"), max(1, min(_BINS, count // _LEAST))):
        # Of the prediction, not of what is found: a bin of rare exchanges may hold none, which has no spread.
        spread = np.sqrt((predicted[members] * (1 - predicted[members])).sum()) / len(members)
        bins.append(
            {
                "people": len(members),
                "predicted": predicted[members].mean(),
                "found": exchanged[members].mean(),
                "standard_error": spread,
                "likeliest": (best[members] > 0).mean(),
            }
        )
    return {
        "exchanges": {
            name: {
                "weight": weights[:, k].mean(),
                "responsibility": found[:, k].mean(),
                "likeliest": (best == k).mean(),
            }
            for k, name in enumerate(names)
        },
        "exchanged": {
            "predicted": predicted.mean(),
            "found": exchanged.mean(),
            "difference": {
                "value": gap.mean(),
                "interval": metrics.bootstrap_interval(gap, np.ones(count), resamples, seed),
            },
            "likeliest": (best > 0).mean(),
            "decided": ((exchanged >= DECIDED) | (exchanged <= 1 - DECIDED)).mean(),
            "rank_correlation": metrics.rank_correlation(predicted[:, None], exchanged[:, None]),
        },
        "bins": bins,
        "calibration_error": sum(one["people"] * abs(one["found"] - one["predicted"]) for one in bins) / count,
    }
