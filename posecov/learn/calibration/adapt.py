"""The covariance head learns on from people that the mean has never seen.

What it learned from are errors that the mean makes on its own training people, of data sets whose labels may be worse than
those that count. The validation people have errors as new people have them, but are few. Folds of them tell how long to learn
from them, and what is left to calibrate, so that nobody is judged by a head that has seen them.
"""

import copy
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posecov.errors import PosecovError
from posecov.law import Law
from posecov.learn.checkpoint import Average
from posecov.learn.config import CovarianceConfig
from posecov.learn.covariance_training import (
    LIKELIHOODS,
    Cached,
    averaged_model,
    decay_groups,
    law_of,
    learning_parameters,
    losses_of,
    pick_views,
    predict,
)
from posecov.learn.features import FeatureSet
from posecov.learn.losses import LossError
from posecov.learn.model import PoseModel
from posecov.learn.run import progress
from posecov.learn.steps import guarded_step
from posecov.mixture import Mixture

FOLDS = 5
_WARMUP = 20  # steps
_DECAY = 0.95  # of the averaged weights
_BATCH = 50

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapted:
    """A head that has learned on.

    Attributes:
        model: the whole network; only its covariance head differs. It has learned from all of the people.
        people: law of the people (N), each as a head predicts it that has not seen them.
        epochs: for how many epochs it was best to go on; 0 when it was not worth it, and the model is the old one.
        nll: (1 + epochs tried) NLL per person by epochs, of people that the head has not seen, crop pixels.
    """

    model: PoseModel
    people: Law | Mixture
    epochs: int
    nll: tuple[float, ...]


def adapt(
    model: PoseModel,
    views: Sequence[FeatureSet],
    settings: CovarianceConfig,
    permutation: Tensor,
    epochs: int = 100,
    lr: float = 3e-4,
    seed: int = 0,
) -> Adapted:
    """Learn on from people that the mean has not seen, for as many epochs as pay in cross-validation.

    Degrees of freedom stay: calibration sets them.

    Args:
        model: trained; it stays as it is.
        views: those people, seen plainly first and then augmented.
        settings: of the training; its phase 2 must have been a likelihood, otherwise nothing is learned.
        permutation: (J,) the skeleton's flip permutation.
        epochs: at most.
        lr: learning rate (AdamW, constant after a warm-up).
        seed: of folds, views and order.

    Raises:
        PosecovError: the loss is not finite.
    """
    model = copy.deepcopy(model).eval()
    plain = views[0]
    if not epochs or not settings.phase2_epochs or settings.phase2_loss not in LIKELIHOODS:
        return Adapted(model, _law(model, plain, settings), 0, ())
    # Everybody's own view of the mean stays, whatever was trained before.
    settings = dataclasses.replace(settings, mean_head="frozen")
    fold = np.random.default_rng(seed).permutation(np.arange(len(plain.labelled)) % FOLDS)
    laws: list[list[Law | Mixture]] = []
    for held in range(FOLDS):
        others, these = np.flatnonzero(fold != held), plain.at(torch.from_numpy(np.flatnonzero(fold == held)))
        heads = _learn(model, views, others, settings, permutation, epochs, lr, seed, f"adapting, fold {held + 1}/{FOLDS}")
        laws.append([_law(model, these, settings), *(_law(head, these, settings) for head in heads)])
    order = np.argsort(np.concatenate([np.flatnonzero(fold == held) for held in range(FOLDS)]))
    joined = [_joined([of_fold[epoch] for of_fold in laws], order) for epoch in range(epochs + 1)]
    values = plain.values()
    nll = tuple(float(people.negative_log_likelihood(values).mean()) for people in joined)
    best = int(np.argmin(nll))
    log.info("NLL of people not seen: %.3f before, %.3f after %d epochs", nll[0], nll[best], best)
    if best:
        everybody = np.arange(len(plain.labelled))
        for learned in _learn(model, views, everybody, settings, permutation, best, lr, seed, "adapting to all"):
            model = learned
    return Adapted(model, joined[best], best, nll)


def _learn(
    model: PoseModel,
    views: Sequence[FeatureSet],
    people: np.ndarray,
    settings: CovarianceConfig,
    permutation: Tensor,
    epochs: int,
    lr: float,
    seed: int,
    what: str,
) -> Iterator[PoseModel]:
    """Models with averaged weights after each epoch of learning from some of the people."""
    model = copy.deepcopy(model)
    learning = [(name, p) for name, p in learning_parameters(model, settings) if not name.endswith("log_degrees")]
    optimizer = torch.optim.AdamW(decay_groups(learning, settings.weight_decay), lr=lr)
    average = Average({name: model.state_dict()[name] for name, _ in learning}, _DECAY)
    cached, done = Cached(views, views[0], None, permutation), 0
    model.covariance_head.train()
    with progress() as bar:
        task = bar.add_task(what, total=epochs, status="")
        for epoch in range(epochs):
            rng = np.random.default_rng((seed, epoch))
            order = rng.permutation(people)
            drawn = rng.integers(0, len(views), size=len(order))
            for start in range(0, len(order), _BATCH):
                index = order[start : start + _BATCH]
                batch = pick_views(views, drawn[start : start + _BATCH], index)
                done += 1
                for group in optimizer.param_groups:
                    group["lr"] = lr * min(1.0, done / _WARMUP)
                where = f"{what}, epoch {epoch + 1}"
                try:
                    _, loss = losses_of(model, batch, cached, torch.from_numpy(index), "phase 2", settings)
                except LossError as error:
                    raise PosecovError(f"{where}: {error}; --epochs 0 calibrates without adapting") from None
                guarded_step(loss, learning, optimizer, settings.clip, where)
                average.update(model.state_dict())
            bar.update(task, advance=1)
            yield averaged_model(model, average)


def _law(model: PoseModel, seen: FeatureSet, settings: CovarianceConfig) -> Law | Mixture:
    return law_of(model, *predict(model, seen, settings), settings)


def _joined(laws: Sequence[Law | Mixture], order: np.ndarray) -> Law | Mixture:
    """The laws of several groups of people as one, its people in this order; all have the same degrees of freedom."""
    nu = laws[0].degrees_of_freedom
    scatter = np.concatenate([one.scatter for one in laws])[order]
    if isinstance(laws[0], Mixture):
        weights, means = (np.concatenate([getattr(one, name) for one in laws])[order] for name in ("weights", "means"))
        return Mixture(weights, means, scatter, nu, laws[0].orders)
    return Law(np.concatenate([one.mean for one in laws])[order], scatter, nu)
