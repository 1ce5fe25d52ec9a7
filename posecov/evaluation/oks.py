"""Average precision at COCO's object keypoint similarity, through pycocotools (an optional package).

OKS of one person is the mean over labelled joints of exp(-d^2 / (2 area (2 sigma)^2)): d the joint's error, area that of the
person in square pixels, sigma COCO's falloff for the joint. COCO's average precision is the mean over thresholds 0.5, 0.55 ...
0.95 of the area under the precision-recall curve of predictions in order of their score.

The score here is no detector's: it is the OKS that the law itself expects, so that the precision-recall curve rewards a law
that knows its errors.
"""

import contextlib
import importlib.util
import io
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from posecov import coordinates, metrics
from posecov.errors import PosecovError
from posecov.law import Law
from posecov.mixture import Mixture
from posecov.skeleton import Skeleton, load_skeleton

BOX_TO_AREA = 0.53
"""Area of a person as a part of its box where no outline was drawn: what MMPose and others take for such data sets."""

# CrowdPose (Li et al., CVPR 2019) has LSP's 14 joints with COCO's sigmas and these two beside them.
_MORE_SIGMAS = {"neck": 0.079, "head_top": 0.079}
_STATISTICS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")


def available() -> bool:
    """Whether pycocotools is installed."""
    return importlib.util.find_spec("pycocotools") is not None


def joint_sigmas(skeleton: Skeleton) -> np.ndarray:
    """(J,) COCO's falloff of each joint, NaN for those that have none.

    They are the skeleton's own; else COCO's for joints that COCO has too, and CrowdPose's for the neck and the top of the head.
    """
    if skeleton.oks_sigmas is not None:
        return np.array(skeleton.oks_sigmas, dtype=np.float64)
    coco = load_skeleton("coco17")
    known = {**dict(zip(coco.keypoints, coco.oks_sigmas or (), strict=True)), **_MORE_SIGMAS}
    return np.array([known.get(name, np.nan) for name in skeleton.keypoints])


def similarity(errors: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(N,) OKS from errors (N, J) in pixels, NaN without a label; NaN for people without a labelled joint that has a sigma."""
    with np.errstate(divide="ignore"):
        close = np.exp(-np.square(errors) / (2 * np.square(2 * sigmas) * areas[:, None]))
    counted = ~np.isnan(close)
    with np.errstate(invalid="ignore"):
        return np.where(counted, close, 0.0).sum(axis=1) / counted.sum(axis=1)


def expected_similarity(
    people: Law | Mixture, labelled: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, draws: int = 256, seed: int = 0
) -> np.ndarray:
    """(N,) OKS that the law of N people expects for its own mean, from draws, over the joints that are ``labelled`` (N, J)."""
    rng, total, size = np.random.default_rng(seed), np.zeros(len(areas)), 32
    chunks = max(1, -(-draws // size))
    for _ in range(chunks):
        for drawn in people.sample(rng, size):
            distances = np.linalg.norm(coordinates.unflatten(drawn - people.mean), axis=-1)
            total += similarity(np.where(labelled, distances, np.nan), areas, sigmas)
    return total / (chunks * size)


def figures(
    people: Law | Mixture,
    skeleton: Skeleton,
    truth: np.ndarray,
    labelled: np.ndarray,
    boxes: np.ndarray,
    pictures: Sequence[Hashable],
    areas: np.ndarray | None = None,
) -> dict[str, Any]:
    """What goes into a report: ``oks``, or None there and the reason as ``oks_missing``.

    Args:
        people: the law of N people about their keypoints, pixels.
        skeleton: of the J joints.
        truth: (N, J, 2).
        labelled: (N, J).
        boxes: (N, 4) x, y, width, height that the model was given: scores may not know more.
        pictures: N names.
        areas: (N,) as annotated, square pixels; NaN, or None for all: `BOX_TO_AREA` of the box.

    Returns:
        Under ``oks`` those of `average_precision`, the ``mean`` OKS and the one that the law had ``expected``, which ``areas``
        were taken, and the joints ``without_sigma``.
    """
    sigmas = joint_sigmas(skeleton)
    if not available():
        return {"oks": None, "oks_missing": "pycocotools is not installed"}
    if not np.asarray(labelled)[:, ~np.isnan(sigmas)].any():
        return {"oks": None, "oks_missing": f"no labelled joint of skeleton {skeleton.name} has a COCO sigma"}
    boxed = BOX_TO_AREA * boxes[:, 2] * boxes[:, 3]
    annotated = np.zeros(len(boxes), dtype=bool) if areas is None else np.asarray(areas) > 0
    taken = np.where(annotated, 0.0 if areas is None else areas, boxed)
    means = coordinates.unflatten(people.mean)
    expected = expected_similarity(people, labelled, boxed, sigmas)
    found = similarity(metrics.keypoint_errors(means, truth, labelled), taken, sigmas)
    share = f"{BOX_TO_AREA:g} of the boxes'"
    return {
        "oks": {
            **average_precision(means, np.nan_to_num(expected), truth, labelled, taken, pictures, sigmas),
            "mean": float(np.nanmean(found)),
            "expected": float(np.nanmean(expected)),
            "areas": f"those annotated, else {share}" if annotated.any() else share,
            "without_sigma": [name for name, sigma in zip(skeleton.keypoints, sigmas, strict=True) if np.isnan(sigma)],
        }
    }


def average_precision(
    means: np.ndarray,
    scores: np.ndarray,
    truth: np.ndarray,
    labelled: np.ndarray,
    areas: np.ndarray,
    pictures: Sequence[Hashable],
    sigmas: np.ndarray,
) -> dict[str, Any]:
    """COCO's figures for one prediction per labelled person.

    Args:
        means: (N, J, 2) predicted keypoints, pixels.
        scores: (N,) by which predictions are sorted.
        truth: (N, J, 2).
        labelled: (N, J).
        areas: (N,) of the people, square pixels. Medium is 32^2 to 96^2, large above, as in COCO.
        pictures: N names: predictions are matched with people of the same picture only.
        sigmas: (J,), NaN for joints that do not count.

    Returns:
        ap, ap50, ap75, ap_medium, ap_large, ar, ... (None where nobody is of that size) and ``people``, how many counted.

    Raises:
        PosecovError: pycocotools is not installed, or nobody has a labelled joint with a sigma.
    """
    if not available():
        raise PosecovError('OKS AP needs pycocotools; run pip install -e ".[evaluate]"')
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    used = ~np.isnan(sigmas)
    visible = np.asarray(labelled, dtype=bool)[:, used]
    people = np.flatnonzero(visible.any(axis=1)).tolist()
    if not people:
        raise PosecovError("OKS AP: nobody has a labelled joint with a COCO sigma")
    numbers = {name: index + 1 for index, name in enumerate(dict.fromkeys(pictures))}
    targets, predictions = [], []
    for person in people:
        flags = visible[person]
        place = {"image_id": numbers[pictures[person]], "category_id": 1}
        points = np.where(flags[:, None], np.asarray(truth)[person, used], 0.0)
        targets.append(
            {
                **place,
                "id": person + 1,
                "keypoints": _triples(points, 2.0 * flags),
                "num_keypoints": int(flags.sum()),
                "area": float(areas[person]),
                "bbox": [*points[flags].min(axis=0).tolist(), *np.ptp(points[flags], axis=0).tolist()],
                "iscrowd": 0,
            }
        )
        found = np.asarray(means, dtype=np.float64)[person, used]
        predictions.append({**place, "keypoints": _triples(found, np.ones(len(found))), "score": float(scores[person])})
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on stdout, where our own table goes.
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": number} for number in numbers.values()],
            "annotations": targets,
            "categories": [{"id": 1, "name": "person"}],
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(predictions), "keypoints")
        judge.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)[used]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    statistics = dict(zip(_STATISTICS, judge.stats.tolist(), strict=True))
    return {**{name: None if value < 0 else value for name, value in statistics.items()}, "people": len(people)}


def _triples(points: np.ndarray, third: np.ndarray) -> list[float]:
    return np.column_stack([points, third]).reshape(-1).tolist()
