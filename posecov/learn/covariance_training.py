"""The second part of training: the covariance head, on cached features of the frozen mean.

Phase 1 draws the predicted covariance towards pseudo-labels in the 2-Wasserstein distance; phase 2 minimises the negative
log-likelihood. Both in the Taylor-induced parameterisation (`covariance_head`). Either phase can have any other loss.
"""

import copy
import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posecov import law
from posecov.coordinates import flatten, joint_mask_to_rows
from posecov.errors import PosecovError
from posecov.evaluation import fit_student_t
from posecov.law import Law
from posecov.learn.checkpoint import Average, flatten_state, optimizer_tensors, part, restore_optimizer, save_checkpoint
from posecov.learn.config import CovarianceConfig, PseudoLabelConfig, TrainConfig
from posecov.learn.covariance_head import Covariance, CovarianceHead, JointFeatures
from posecov.learn.features import FeatureSet, concatenate, follow
from posecov.learn.losses import LossError, Prediction, Target, loss_named
from posecov.learn.model import PoseModel
from posecov.learn.pseudo_labels import pseudo_label_roots
from posecov.learn.run import Clock, Run, of_this_recipe, progress
from posecov.learn.schedule import warm_cosine
from posecov.learn.steps import guarded_step
from posecov.mixture import Mixture

PHASES = ("phase 1", "phase 2")
_STUDENT_T = ("student-t", "student-t-mixture")
LIKELIHOODS = (*_STUDENT_T, "nll", "nll-precision", "nll-diagonal")
_CHUNK = 256
_AVERAGE_DECAY = 0.99
_START_PEOPLE = 3000
_START_LEAST = 2  # views of people for each coordinate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cached:
    """What the covariance head is trained and judged on.

    Attributes:
        views: the training people, seen plainly first and then augmented; the same people in the same order.
        validation: people that train nothing, seen plainly.
        roots: (N, 2J, 2J) of the training people's pseudo-labels, in plain crops; None without phase 1.
        permutation: (J,) the skeleton's flip permutation.
        mean: fingerprint of the mean that all this is of; the mean head may learn on.
    """

    views: Sequence[FeatureSet]
    validation: FeatureSet
    roots: Tensor | None
    permutation: Tensor
    mean: str = ""


def make_pseudo_labels(plain: FeatureSet, settings: PseudoLabelConfig, seed: int) -> Tensor:
    """Roots (N, 2J, 2J) of the pseudo-labels of the training people, from their plain crops.

    Raises:
        PosecovError: the settings make no sense.
    """
    if settings.source == "residuals":
        values = plain.residuals()
    elif settings.source == "targets":
        rows = joint_mask_to_rows(plain.labelled)
        values = torch.where(rows, flatten(plain.points).double(), torch.nan).numpy()
    else:
        raise PosecovError(f"pseudo_labels.source {settings.source!r}: must be residuals or targets")
    return torch.from_numpy(pseudo_label_roots(plain.space(settings.features), values, settings, seed))


def train_covariance(
    run: Run, model: PoseModel, cached: Cached, resumed: tuple[dict[str, Tensor], dict[str, Any]] | None
) -> None:
    """Train the covariance head through both phases, and keep the best in the run's best checkpoint.

    Best is the lowest validation negative log-likelihood after an epoch of phase 2 (of phase 1 when there is no phase 2).
    The head is small: it trains on the CPU. With ``mean_head`` trained or fresh, the mean head learns from the same losses.

    Args:
        model: its backbone is frozen; its heads are trained in place.
        resumed: tensors and facts of a checkpoint of this part, whose weights ``model`` holds, or None to start afresh.

    Raises:
        PosecovError: the loss is not finite; the checkpoints written before stay.
    """
    config, settings, head = run.config, run.config.covariance, model.to("cpu").covariance_head
    learning = learning_parameters(model, settings)
    optimizer = torch.optim.AdamW(decay_groups(learning, settings.weight_decay), lr=settings.lr)
    done, lowest = 0, math.inf
    if resumed is None:
        # Independent of how many random numbers the backbone took, which a resumed run does not.
        torch.manual_seed(config.seed)
        head.reset()
        if settings.mean_head == "fresh":
            model.mean_head.reset()
        _start(model, cached.views, settings)
        ratio = residual_ratio(cached)
        log.info("errors of the training people are %.2f times those of the validation people (median)", ratio)
        average = Average(_learned_state(model, settings), _AVERAGE_DECAY)
    else:
        tensors, facts = resumed
        average = Average(_learned_state(model, settings), _AVERAGE_DECAY)
        with of_this_recipe(run.last):
            restore_optimizer(optimizer, tensors)
            average.state, average.steps = part("average", tensors), facts["average_steps"]
            done = facts["epoch"]
            lowest = math.inf if facts["lowest"] is None else facts["lowest"]
    plan = [("phase 1", i) for i in range(settings.phase1_epochs)] + [("phase 2", i) for i in range(settings.phase2_epochs)]
    for number, (phase, epoch) in enumerate(plan):
        if number < done:
            continue
        clock = Clock(math.inf)
        row: dict[str, Any] = {"part": phase, "epoch": epoch + 1} | _train_epoch(
            config, model, average, optimizer, cached, phase, epoch
        )
        averaged = averaged_model(model, average)
        row |= validate(averaged, cached.validation, settings)
        row |= {"images_per_second": clock.count(len(cached.views[0].labelled)), "seconds": clock.seconds}
        run.record(row)
        facts = {
            "part": "covariance", "epoch": number + 1, "finished": number + 1 == len(plan), "average_steps": average.steps,
            "mean": cached.mean, "config": config.to_dict(), "history": run.history,
        }  # fmt: skip
        if row["validation_nll"] < lowest and phase == plan[-1][0]:
            lowest = row["validation_nll"]
            best = flatten_state("model", averaged.state_dict())
            save_checkpoint(run.best, best, facts | {"validation_nll": lowest})
        state = flatten_state("model", model.state_dict()) | flatten_state("average", average.state)
        facts |= {"lowest": lowest if math.isfinite(lowest) else None}
        save_checkpoint(run.last, state | optimizer_tensors(optimizer), facts)


def _prefixes(settings: CovarianceConfig) -> tuple[str, ...]:
    """Of the names of what this part trains."""
    return ("covariance_head.",) if settings.mean_head == "frozen" else ("covariance_head.", "mean_head.")


def learning_parameters(model: PoseModel, settings: CovarianceConfig) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that this part trains."""
    return [(name, parameter) for name, parameter in model.named_parameters() if name.startswith(_prefixes(settings))]


def _learned_state(model: PoseModel, settings: CovarianceConfig) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if name.startswith(_prefixes(settings))}


def averaged_model(model: PoseModel, average: Average) -> PoseModel:
    """A copy of the model with the averaged weights."""
    averaged = copy.deepcopy(model)
    averaged.load_state_dict(model.state_dict() | average.state)
    return averaged.eval()


def predict(model: PoseModel, seen: FeatureSet, settings: CovarianceConfig) -> tuple[np.ndarray, Covariance]:
    """Means (N, 2J) float64 and covariance terms of cached people, crop pixels; no gradient."""
    features = _look_at_all(model, seen, settings)
    with torch.inference_mode():
        return features.mean.double().numpy(), model.covariance_head(features)


def validate(model: PoseModel, seen: FeatureSet, settings: CovarianceConfig) -> dict[str, float]:
    """Negative log-likelihood per person and shares of the trace, on people that train nothing."""
    mean, predicted = predict(model, seen, settings)
    people = law_of(model, mean, predicted, settings)
    nll = people.negative_log_likelihood(seen.values()).mean()
    nu = law_degrees(model.covariance_head, settings)
    return {"validation_nll": float(nll), "degrees_of_freedom": nu} | term_shares(predicted)


def law_of(model: PoseModel, mean: np.ndarray, predicted: Covariance, settings: CovarianceConfig) -> Law | Mixture:
    """The people's law as `predict` gave it, in crop pixels."""
    nu, scatter = law_degrees(model.covariance_head, settings), predicted.scatter.double().numpy()
    exchange = model.covariance_head.exchange
    if exchange is None:
        return Law(mean, scatter, nu)
    return Mixture.of_exchanges(mean, scatter, nu, predicted.log_weights.double().exp().numpy(), exchange.orders.numpy())


def residual_ratio(cached: Cached) -> float:
    """Median error of the training people over that of the validation people, both in plain crops.

    The head learns from errors that the mean makes on its own training people; far below 1, they are too small to learn from.
    """
    training, validation = (float(np.nanmedian(np.abs(seen.residuals()))) for seen in (cached.views[0], cached.validation))
    return training / max(validation, 1e-12)


def term_shares(predicted: Covariance) -> dict[str, float]:
    """Mean share of the scatter's trace that the gradient and the curvature term carry; the free term has the rest."""

    def trace(matrix: Tensor) -> Tensor:
        return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)

    first, second = trace(predicted.gradient_term), trace(predicted.curvature_term)
    whole = first + second + trace(predicted.k3)
    return {"k1_share": (first / whole).mean().item(), "k2_share": (second / whole).mean().item()}


def law_degrees(head: CovarianceHead, settings: CovarianceConfig) -> float:
    """Degrees of freedom of the law a head was trained under; inf for a Gaussian."""
    return math.inf if math.isinf(settings.law_degrees) else float(head.degrees_of_freedom().detach())


def _start(model: PoseModel, views: Sequence[FeatureSet], settings: CovarianceConfig) -> None:
    """Start at a constant law: the likeliest scatter of all training errors."""
    if settings.mean_head == "fresh":
        # Everybody's errors are those of a mean that knows nothing yet.
        views = [dataclasses.replace(view, features=_look_at_all(model, view, settings)) for view in views]
    residuals = np.concatenate([seen.residuals() for seen in views])
    # A few thousand people fix 406 numbers well; the fit's time grows with the number of patterns of missing labels.
    some = np.linspace(0, len(residuals) - 1, min(len(residuals), _START_PEOPLE)).astype(int)
    scatter = _start_scatter(residuals[some], settings.law_degrees)
    if settings.start == "isotropic":
        scatter = np.eye(len(scatter)) * np.trace(scatter) / len(scatter)
    shares = (settings.gradient_share, settings.curvature_share)
    model.covariance_head.start_from(views[0].features, torch.from_numpy(scatter).float(), settings.law_degrees, shares)


def _start_scatter(residuals: np.ndarray, degrees_of_freedom: float) -> np.ndarray:
    """(2J, 2J) scatter of residuals (N, 2J); without correlations where there are too few to tell any."""
    count, size = residuals.shape
    if count >= _START_LEAST * size:
        return fit_student_t(residuals, degrees_of_freedom)[0]
    log.warning("%d views of people are too few to start from correlations of %d coordinates: starting without", count, size)
    moments = np.nanmean(np.square(residuals), axis=0)
    # An error of exactly 0 has no likelihood.
    moments = np.maximum(moments, 1e-3 * moments.mean())
    return law.scatter_from_covariance(np.diag(moments), degrees_of_freedom)


def _look(model: PoseModel, seen: FeatureSet, settings: CovarianceConfig) -> JointFeatures:
    """What the covariance head sees: from the cache, or anew where the mean head learns."""
    if settings.mean_head == "frozen":
        return seen.features
    return model.look(seen.maps.float(), seen.features.latent)


def _look_at_all(model: PoseModel, seen: FeatureSet, settings: CovarianceConfig) -> JointFeatures:
    """The same for many people, without a gradient."""
    if settings.mean_head == "frozen":
        return seen.features
    parts = []
    with torch.inference_mode():
        for start in range(0, len(seen.labelled), _CHUNK):
            parts.append(_look(model, seen.at(torch.arange(start, min(start + _CHUNK, len(seen.labelled)))), settings))
    return JointFeatures(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _train_epoch(
    config: TrainConfig,
    model: PoseModel,
    average: Average,
    optimizer: torch.optim.Optimizer,
    cached: Cached,
    phase: str,
    epoch: int,
) -> dict[str, float]:
    """One pass over the training people, each in a view drawn for this epoch."""
    settings = config.covariance
    epochs = {"phase 1": settings.phase1_epochs, "phase 2": settings.phase2_epochs}[phase]
    people = len(cached.views[0].labelled)
    rng = np.random.default_rng((config.seed, PHASES.index(phase), epoch))
    order, drawn = rng.permutation(people), rng.integers(0, len(cached.views), size=people)
    steps = math.ceil(people / settings.batch)
    loss_sum = criterion_sum = 0.0
    clock, learning = Clock(math.inf), learning_parameters(model, settings)
    model.covariance_head.train()
    with progress() as bar:
        task = bar.add_task(f"{phase} {epoch + 1}/{epochs}", total=steps, status="")
        for step in range(steps):
            index = order[step * settings.batch : (step + 1) * settings.batch]
            batch = pick_views(cached.views, drawn[index], index)
            rate = warm_cosine(epoch * steps + step, epochs * steps, settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * rate
            where = f"{phase}, epoch {epoch + 1}, step {step}"
            try:
                criterion, loss = losses_of(model, batch, cached, torch.from_numpy(index), phase, settings)
            except LossError as error:
                raise PosecovError(f"{where}: {error}; lower --covariance.lr, or look at this batch's labels") from None
            guarded_step(loss, learning, optimizer, settings.clip, where)
            average.update(model.state_dict())
            loss_sum, criterion_sum = loss_sum + loss.item(), criterion_sum + criterion.item()
            status = f"{criterion_sum / (step + 1):.2f}  {clock.count(len(index)):.0f} people/s"
            bar.update(task, advance=1, status=status)
    return {"loss": loss_sum / steps, "criterion": criterion_sum / steps, "learning_rate": settings.lr * rate}


def losses_of(
    model: PoseModel, batch: FeatureSet, cached: Cached, index: Tensor, phase: str, settings: CovarianceConfig
) -> tuple[Tensor, Tensor]:
    """The phase's criterion per person, and what is minimised: that per coordinate, and the pulls towards the constant law.

    Everything is divided by the typical sigma first, so that squared distances and likelihoods weigh alike; a likelihood's
    criterion is reported in crop pixels all the same.
    """
    name = settings.phase1_loss if phase == "phase 1" else settings.phase2_loss
    head, chosen = model.covariance_head, loss_named(name)
    features = _look(model, batch, settings)
    predicted = head(features)
    size, unit = predicted.scatter.shape[-1], head.start_sigma.square().mean().sqrt()
    rows = joint_mask_to_rows(batch.labelled)
    # Only the likelihoods of Student-t's speak of the scatter; every other loss of the covariance.
    spread = 1.0 if name in _STUDENT_T else law.covariance_from_scatter(np.eye(1), settings.law_degrees).item()
    factor_unit = 1.0 / unit if head.form == "precision" else unit
    root = None
    if chosen.pseudo:
        assert cached.roots is not None
        root = follow(cached.roots[index], batch.linear, batch.mirrored, cached.permutation) / unit
    criterion = chosen.function(
        Prediction(
            features.mean / unit,
            predicted.scatter * (spread / unit**2),
            predicted.factor / factor_unit,
            predicted.log_weights,
            None if head.exchange is None else head.exchange.orders,
        ),
        Target(flatten(batch.points) / unit, rows, root, settings.own_share),
        head.degrees_of_freedom() if name in _STUDENT_T else None,
    ).mean()
    deviation = predicted.deviation.square().sum((1, 2)).mean() / size
    correlation = (head.root - head.start_root).square().sum() / size
    loss = criterion / size + settings.deviation_decay * deviation + settings.correlation_decay * correlation
    if name in LIKELIHOODS:
        criterion = criterion + rows.sum(-1).double().mean() * unit.log()
    return criterion, loss


def pick_views(views: Sequence[FeatureSet], drawn: np.ndarray, index: np.ndarray) -> FeatureSet:
    """People ``index``, each in its drawn view, in that order."""
    groups = [(view, np.flatnonzero(drawn == view)) for view in range(len(views))]
    parts = [views[view].at(torch.from_numpy(index[where])) for view, where in groups if len(where)]
    place = torch.from_numpy(np.concatenate([where for _, where in groups]))
    return concatenate(parts).at(place.argsort())


def decay_groups(learning: Sequence[tuple[str, nn.Parameter]], decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, the learned correlation and the degrees of freedom do not."""
    matrices = [parameter for name, parameter in learning if name.endswith(".weight")]
    rest = [parameter for name, parameter in learning if not name.endswith(".weight")]
    return [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
