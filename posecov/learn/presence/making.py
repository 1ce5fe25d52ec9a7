"""From an exported model to the same model with a judge: looked through, learned, calibrated, measured on others."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from posecov import search
from posecov.errors import PosecovError
from posecov.evaluation import searching
from posecov.images import read_image
from posecov.learn.augment import generator
from posecov.learn.datasets import Record
from posecov.learn.presence import places
from posecov.learn.presence.graph import with_features, with_judge
from posecov.learn.presence.judge import Judge, Settings, fit_logistic, probability_of, train
from posecov.learn.presence.looking import Eye, Recorder
from posecov.learn.presence.places import Place
from posecov.learn.variants.graph import read_model
from posecov.search import EVEN, SLOPE, overlap

FOLDS = 3
"""Parts of scenes and pictures, each judged by a judge that has learned from the others."""

FACTOR = 3.0
"""Side of a scene over that of the held person's picture on it."""

_TURNS = 4  # Of `fit_together`.
_VIEWS = 4  # Of every scene to judge by, the first the whole.

Progress = Callable[[Sequence[int]], Iterable[int]]
"""Wraps a long loop's steps."""


@dataclass(frozen=True)
class Job:
    """What to learn from.

    Attributes:
        training: people, all that are labelled in their pictures.
        held: others, to calibrate and measure on, one each in their pictures.
        scenes: pictures without people.
        found: pictures of people, most of them on scenes, in which the search is let loose.
        empty: the same for scenes without people.
        boxed: pictures of people of which only crops near their boxes are looked at.
        complete: pictures in which everybody has a box, with the boxes (N, 4) of people and those (M, 4) of groups.
        beside: searches in parts of these.
        settings: of the judge.
        seed: of everything.
    """

    training: Sequence[Record]
    held: Sequence[Record]
    scenes: Sequence[Path]
    found: int = 300
    empty: int = 120
    boxed: int = 1000
    complete: Sequence[tuple[Path, np.ndarray, np.ndarray]] = ()
    beside: int = 120
    settings: Settings = field(default_factory=Settings)
    seed: int = 0


@dataclass(frozen=True)
class Rows:
    """Crops of pictures to learn from.

    Attributes:
        features: (N, F) float32.
        present: (N,) 1 or 0, `places.shown`.
        scene: (N,) fold of the scene, -1 without one.
        picture: (N,) fold of the people's picture, -1 without one.
        source: (N,) 0 ``found``, 1 ``empty``, 2 ``boxed``, 3 ``beside``, as in `Job`.
    """

    features: np.ndarray
    present: np.ndarray
    scene: np.ndarray
    picture: np.ndarray
    source: np.ndarray

    def without(self, fold: int) -> np.ndarray:
        """(N,) which are of neither scenes nor pictures of a fold."""
        return (self.scene != fold) & (self.picture != fold)


@dataclass(frozen=True)
class Candidates:
    """Where the search ended up in one held picture.

    Attributes:
        fold: of its scene.
        somebody: whether a person is there.
        features: (N, F).
        consistency: (N,) `search.consistency_of`.
        size: (N,) longer sides over the picture's shorter one.
        right: (N,) which are the person's.
    """

    fold: int
    somebody: bool
    features: np.ndarray
    consistency: np.ndarray
    size: np.ndarray
    right: np.ndarray


def add_presence(path: Path, job: Job, look: Progress = iter) -> tuple[bytes, dict]:
    """A model's file with a judge in it, and figures.

    Args:
        path: float32 model that posecov exported; a judge that it has goes.
        job: what to learn from.
        look: a progress bar.

    Raises:
        PosecovError: not such a model, or too few people or scenes.
    """
    for what, things, least in (("people to learn from", job.training, 10), ("held-out people", job.held, 10)):
        if len(things) < least:
            raise PosecovError(f"{len(things)} {what}: at least {least} are needed")
    if len(job.scenes) < FOLDS:
        raise PosecovError(
            f"{len(job.scenes)} pictures without people: at least {FOLDS} are needed; give a folder with --scenes"
        )
    model = read_model(path)
    eye = Eye(with_features(model, str(path)))
    rows = collect(eye, job, look)
    held = candidates(eye, job, look)
    found = [one for one in held if one.somebody and one.right.any()]
    if not found or all(one.somebody for one in held):
        raise PosecovError(f"{path}: the search ends up at none of the held people, or nowhere in the scenes without people")
    judge, figures = learn(rows, held, job)
    facts = {"scenes": len(job.scenes), "crops": len(rows.present), "prior": 0.5}
    return with_judge(model, judge, facts, str(path)).SerializeToString(), figures


def collect(eye: Eye, job: Job, look: Progress = iter) -> Rows:
    """Look into crops of the training pictures: those that the search looks into, and those near people's boxes."""
    by_picture: dict[Path, list[Record]] = {}
    for record in job.training:
        by_picture.setdefault(record.image, []).append(record)
    # Data sets take turns, so that a few everyday pictures are not lost among thousands of others.
    sets: dict[str, list[tuple[int, list[Record]]]] = {}
    for number, (_, records) in enumerate(sorted(by_picture.items())):
        sets.setdefault(records[0].name.rsplit("/", 1)[0], []).append((number % FOLDS, records))
    groups = list(sets.values())
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("features", "present", "scene", "picture", "source")}
    sources = np.repeat(np.arange(4), [job.found, job.empty, job.boxed, job.beside if job.complete else 0])
    for step in look(range(len(sources))):
        rng, source = generator(job.seed, 0, step), int(sources[step])
        scene, picture = int(rng.integers(len(job.scenes))), -1
        if source == 1:
            place = places.scene_alone(job.scenes[scene], rng)
        elif source == 3:
            place = places.everyday(*job.complete[step % len(job.complete)], rng)
        else:
            group = groups[step % len(groups)]
            picture, records = group[int(rng.integers(len(group)))]
            place = places.with_people(records, job.scenes[scene] if source == 0 else None, rng)
        recorder = Recorder(eye, place.image)
        if source != 2:
            search.settle(recorder, place.image.shape[1], place.image.shape[0], eye.metadata.padding)
        if len(place.people):
            recorder(places.near(place.people, rng))
        boxes, features = recorder.seen()
        present = places.shown(place, boxes)
        known = np.isfinite(present)
        folds = (scene % FOLDS if source < 2 and not place.alone else -1, picture, source)
        found["features"].append(features[known])
        found["present"].append(present[known])
        for name, value in zip(("scene", "picture", "source"), folds, strict=True):
            found[name].append(np.full(known.sum(), value))
    return Rows(**{name: np.concatenate(parts) for name, parts in found.items()})


def candidates(eye: Eye, job: Job, look: Progress = iter) -> list[Candidates]:
    """Search in pictures to judge by: held people on scenes, and scenes alone."""
    rng = np.random.default_rng(job.seed)
    found = []
    for step in look(range(len(job.held) + _VIEWS * len(job.scenes))):
        if step < len(job.held):
            scene = int(rng.integers(len(job.scenes)))
            place = places.on_scene(job.held[step], job.scenes[scene], FACTOR, rng)
        else:
            view, scene = divmod(step - len(job.held), len(job.scenes))
            if view:
                place = places.scene_alone(job.scenes[scene], generator(job.seed, 1, step), changed=False)
            else:
                place = Place(read_image(job.scenes[scene]), np.zeros((0, 4)), np.zeros((0, 4)))
        recorder, (height, width) = Recorder(eye, place.image), place.image.shape[:2]
        boxes = search.settle(recorder, width, height, eye.metadata.padding)
        if not len(boxes):
            continue
        right = np.zeros(len(boxes), dtype=bool)
        for person in place.people:
            right |= overlap(boxes, person) >= searching.SAME
        found.append(
            Candidates(
                scene % FOLDS,
                bool(len(place.people)),
                eye(place.image, boxes)[2],
                search.consistency_of(recorder, boxes),
                boxes[:, 2:].max(axis=1) / min(width, height),
                right,
            )
        )
    return found


def learn(rows: Rows, held: Sequence[Candidates], job: Job) -> tuple[Judge, dict[str, Any]]:
    """The judge that has learned from all rows, calibrated, and figures of judges that have not seen what they judge.

    Calibration makes the best place's probability that of a person being there, where every other picture has one.
    """
    weight = _weights(rows)

    def fit(chosen: np.ndarray) -> Judge:
        return train(rows.features[chosen], rows.present[chosen], weight[chosen], job.settings, job.seed)

    judges = [fit(rows.without(fold)) for fold in range(FOLDS)]
    logits = [judges[one.fold].logits(one.features) for one in held]
    best = [int(np.argmax(values)) for values in logits]
    top = np.array([values[index] for values, index in zip(logits, best, strict=True)])
    there = np.array([one.right[index] for one, index in zip(held, best, strict=True)])
    share = searching.even_weights(np.array([one.somebody for one in held], dtype=bool))
    folds = np.array([one.fold for one in held])
    by_fold = [fit_logistic(top[folds != fold], there[folds != fold], share[folds != fold]) for fold in range(FOLDS)]
    curves = [by_fold[fold] for fold in folds]
    probability = np.array([probability_of(s * value + o) for value, (s, o) in zip(top, curves, strict=True)])
    old_best = [int(np.argmax(one.consistency)) for one in held]
    old = np.array([one.consistency[index] for one, index in zip(held, old_best, strict=True)])
    old_there = np.array([one.right[index] for one, index in zip(held, old_best, strict=True)])
    old_probability = expit(SLOPE * (old - EVEN))
    # Both, of judges and weights that have not seen the picture.
    evidence = [
        search.evidence(probability_of(slope * values + offset), one.consistency)
        for values, one, (slope, offset) in zip(logits, held, curves, strict=True)
    ]
    fitted = [fit_together(evidence, held, share * (folds != fold)) for fold in range(FOLDS)]
    sums = [rows @ fitted[fold] for rows, fold in zip(evidence, folds, strict=True)]
    both = probability_of(np.array([values.max() for values in sums]))
    both_there = np.array([one.right[values.argmax()] for one, values in zip(held, sums, strict=True)])
    right = np.concatenate([one.right for one in held])
    figures = {
        "crops": len(rows.present),
        "pictures": {
            "with_a_person": int(sum(one.somebody for one in held)),
            "without": int(sum(not o.somebody for o in held)),
        },
        "candidates": {"right": int(right.sum()), "wrong": int((~right).sum())},
        "area_under_roc": {
            "presence": searching.area_under_roc(np.concatenate(logits), right),
            "consistency": searching.area_under_roc(np.concatenate([one.consistency for one in held]), right),
            "together": searching.area_under_roc(np.concatenate(sums), right),
        },
        "log_loss_of_the_best": {
            "presence": searching.log_loss(probability, there, share),
            "consistency": searching.log_loss(old_probability, old_there, share),
            "together": searching.log_loss(both, both_there, share),
        },
        "reliability": {
            "presence": searching.reliability(probability, there, share),
            "consistency": searching.reliability(old_probability, old_there, share),
            "together": searching.reliability(both, both_there, share),
        },
        "together": dict(zip(("1", "presence", "consistency"), fit_together(evidence, held, share).tolist(), strict=True)),
    }
    return fit(np.ones(len(rows.present), bool)).calibrated(*fit_logistic(top, there, share)), figures


def fit_together(evidence: Sequence[np.ndarray], held: Sequence[Candidates], share: np.ndarray) -> np.ndarray:
    """Weights (3,) of `search.together` under which the best places of the pictures are the likeliest to be what they are.

    Which place is the best depends on the weights in turn, so that both are found by turns.

    Args:
        evidence: (N, 3) `search.evidence` of each picture's candidates. held: the M pictures. share: (M,) their weights.
    """
    weights = np.array([0.0, 1.0, 0.0])
    for _ in range(_TURNS):
        best = [int(np.argmax(rows @ weights)) for rows in evidence]
        rows = np.stack([rows[index] for rows, index in zip(evidence, best, strict=True)])
        sign = np.array([1.0 if one.right[index] else -1.0 for one, index in zip(held, best, strict=True)])

        def loss(w: np.ndarray, rows=rows, sign=sign) -> float:
            return float(np.average(np.logaddexp(0, -sign * (rows @ w)), weights=share))

        weights = minimize(loss, weights).x
    return weights


def _weights(rows: Rows) -> np.ndarray:
    """Crops with and without somebody count the same in all."""
    share = rows.present.mean()
    return np.where(rows.present > 0.5, 0.5 / share, 0.5 / (1 - share))
