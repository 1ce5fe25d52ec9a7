"""The second part of training: the covariance head, on cached features of the frozen mean.

Phase 1 draws the predicted covariance towards pseudo-labels in the 2-Wasserstein distance; phase 2 minimises the negative
log-likelihood. Both in the Taylor-induced parameterisation (`covariance_head`).
"""

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
from posecov.learn.checkpoint import Average, flatten_state, optimizer_tensors, part, restore_optimizer, save_checkpoint
from posecov.learn.config import CovarianceConfig, PseudoLabelConfig, TrainConfig
from posecov.learn.covariance_head import Covariance, CovarianceHead
from posecov.learn.features import FeatureSet, concatenate, follow
from posecov.learn.losses import procrustes_wasserstein, student_t_nll
from posecov.learn.model import PoseModel
from posecov.learn.pseudo_labels import pseudo_label_roots
from posecov.learn.run import Clock, Run, progress
from posecov.learn.schedule import warm_cosine

PHASES = ("wasserstein", "nll")
_AVERAGE_DECAY = 0.99
_START_PEOPLE = 3000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cached:
    """What the covariance head is trained and judged on.

    Attributes:
        views: the training people, seen plainly first and then augmented; the same people in the same order.
        validation: people that train nothing, seen plainly.
        roots: (N, 2J, 2J) of the training people's pseudo-labels, in plain crops; None without phase 1.
        permutation: (J,) the skeleton's flip permutation.
    """

    views: Sequence[FeatureSet]
    validation: FeatureSet
    roots: Tensor | None
    permutation: Tensor


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
    return torch.from_numpy(pseudo_label_roots(plain.features.latent.numpy(), values, settings, seed))


def train_covariance(
    run: Run, model: PoseModel, cached: Cached, resumed: tuple[dict[str, Tensor], dict[str, Any]] | None
) -> None:
    """Train the covariance head through both phases, and keep the best in the run's best checkpoint.

    Best is the lowest validation negative log-likelihood after an epoch of phase 2 (of phase 1 when there is no phase 2).
    The head is small: it trains on the CPU.

    Args:
        model: its mean is frozen; its head is trained in place.
        resumed: tensors and facts of a checkpoint of this part, whose weights ``model`` holds, or None to start afresh.

    Raises:
        PosecovError: the loss is not finite.
    """
    config, settings, head = run.config, run.config.covariance, model.to("cpu").covariance_head
    head.train()
    optimizer = torch.optim.AdamW(_groups(head, settings.weight_decay), lr=settings.lr)
    done, lowest = 0, math.inf
    if resumed is None:
        # Independent of how many random numbers the backbone took, which a resumed run does not.
        torch.manual_seed(config.seed)
        head.reset()
        _start(head, cached.views, settings)
        ratio = residual_ratio(cached)
        log.info("errors of the training people are %.2f times those of the validation people (median)", ratio)
        average = Average(head.state_dict(), _AVERAGE_DECAY)
    else:
        tensors, facts = resumed
        restore_optimizer(optimizer, tensors)
        average = Average(head.state_dict(), _AVERAGE_DECAY)
        average.state, average.steps = part("average", tensors), facts["average_steps"]
        done = facts["epoch"]
        lowest = math.inf if facts["lowest"] is None else facts["lowest"]
    plan = [("wasserstein", i) for i in range(settings.wasserstein_epochs)] + [("nll", i) for i in range(settings.nll_epochs)]
    for number, (phase, epoch) in enumerate(plan):
        if number < done:
            continue
        clock = Clock(math.inf)
        row: dict[str, Any] = {"part": phase, "epoch": epoch + 1} | _train_epoch(
            config, head, average, optimizer, cached, phase, epoch
        )
        row |= validate(average, head, cached.validation, settings)
        row |= {"images_per_second": clock.count(len(cached.views[0].labelled)), "seconds": clock.seconds}
        run.record(row)
        facts = {
            "part": "covariance", "epoch": number + 1, "finished": number + 1 == len(plan), "average_steps": average.steps,
            "config": config.to_dict(), "history": run.history,
        }  # fmt: skip
        if row["validation_nll"] < lowest and phase == plan[-1][0]:
            lowest = row["validation_nll"]
            weights = model.state_dict() | {f"covariance_head.{name}": value for name, value in average.state.items()}
            save_checkpoint(run.best, flatten_state("model", weights), facts | {"validation_nll": lowest})
        state = flatten_state("model", model.state_dict()) | flatten_state("average", average.state)
        facts |= {"lowest": lowest if math.isfinite(lowest) else None}
        save_checkpoint(run.last, state | optimizer_tensors(optimizer), facts)


def validate(average: Average, head: CovarianceHead, seen: FeatureSet, settings: CovarianceConfig) -> dict[str, float]:
    """Negative log-likelihood per person and shares of the trace, of the averaged weights on people that train nothing."""
    averaged = CovarianceHead(head.channels, head.joints, head.latent, head.hidden, head.rank)
    averaged.load_state_dict(average.state)
    averaged.eval()
    with torch.inference_mode():
        predicted = averaged(seen.features)
    nu = law_degrees(averaged, settings)
    nll = law.negative_log_likelihood(seen.residuals(), predicted.scatter.double().numpy(), nu).mean()
    return {"validation_nll": float(nll), "degrees_of_freedom": nu} | term_shares(predicted, seen)


def residual_ratio(cached: Cached) -> float:
    """Median error of the training people over that of the validation people, both in plain crops.

    The head learns from errors that the mean makes on its own training people; far below 1, they are too small to learn from.
    """
    training, validation = (float(np.nanmedian(np.abs(seen.residuals()))) for seen in (cached.views[0], cached.validation))
    return training / max(validation, 1e-12)


def term_shares(predicted: Covariance, seen: FeatureSet) -> dict[str, float]:
    """Mean share of the scatter's trace that the gradient and the curvature term carry; the free term has the rest."""

    def trace(matrix: Tensor) -> Tensor:
        return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)

    first, second = predicted.k1 * trace(seen.features.gradient), predicted.k2 * trace(seen.features.curvature)
    whole = first + second + trace(predicted.k3)
    return {"k1_share": (first / whole).mean().item(), "k2_share": (second / whole).mean().item()}


def law_degrees(head: CovarianceHead, settings: CovarianceConfig) -> float:
    """Degrees of freedom of the law a head was trained under; inf for a Gaussian."""
    return math.inf if math.isinf(settings.degrees_of_freedom) else float(head.degrees_of_freedom().detach())


def _start(head: CovarianceHead, views: Sequence[FeatureSet], settings: CovarianceConfig) -> None:
    """Start at a constant law: the likeliest scatter of all training errors."""
    residuals = np.concatenate([seen.residuals() for seen in views])
    # A few thousand people fix 406 numbers well; the fit's time grows with the number of patterns of missing labels.
    some = np.linspace(0, len(residuals) - 1, min(len(residuals), _START_PEOPLE)).astype(int)
    scatter, _ = fit_student_t(residuals[some], settings.degrees_of_freedom)
    shares = (settings.gradient_share, settings.curvature_share)
    head.start_from(views[0].features, torch.from_numpy(scatter).float(), settings.degrees_of_freedom, shares)


def _train_epoch(
    config: TrainConfig,
    head: CovarianceHead,
    average: Average,
    optimizer: torch.optim.Optimizer,
    cached: Cached,
    phase: str,
    epoch: int,
) -> dict[str, float]:
    """One pass over the training people, each in a view drawn for this epoch."""
    settings = config.covariance
    epochs = {"wasserstein": settings.wasserstein_epochs, "nll": settings.nll_epochs}[phase]
    people = len(cached.views[0].labelled)
    rng = np.random.default_rng((config.seed, PHASES.index(phase), epoch))
    order, drawn = rng.permutation(people), rng.integers(0, len(cached.views), size=people)
    steps = math.ceil(people / settings.batch)
    loss_sum = criterion_sum = 0.0
    clock = Clock(math.inf)
    with progress() as bar:
        task = bar.add_task(f"{phase} {epoch + 1}/{epochs}", total=steps, status="")
        for step in range(steps):
            index = order[step * settings.batch : (step + 1) * settings.batch]
            batch = _pick(cached.views, drawn[index], index)
            rate = warm_cosine(epoch * steps + step, epochs * steps, settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * rate
            criterion, loss = _losses(head, batch, cached, torch.from_numpy(index), phase, settings)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if not torch.isfinite(nn.utils.clip_grad_norm_(head.parameters(), settings.clip)):
                raise PosecovError(
                    f"{phase}, epoch {epoch + 1}, step {step}: the gradient is not finite; lower --covariance.lr"
                )
            optimizer.step()
            average.update(head.state_dict())
            loss_sum, criterion_sum = loss_sum + loss.item(), criterion_sum + criterion.item()
            status = f"{phase} {criterion_sum / (step + 1):.2f}  {clock.count(len(index)):.0f} people/s"
            bar.update(task, advance=1, status=status)
    return {"loss": loss_sum / steps, phase: criterion_sum / steps, "learning_rate": settings.lr * rate}


def _losses(
    head: CovarianceHead, batch: FeatureSet, cached: Cached, index: Tensor, phase: str, settings: CovarianceConfig
) -> tuple[Tensor, Tensor]:
    """The phase's criterion, and what is minimised: the criterion per coordinate, and the pulls towards the constant law."""
    predicted = head(batch.features)
    if not torch.isfinite(predicted.scatter).all():
        raise PosecovError(f"{phase}: a predicted covariance is not finite; lower --covariance.lr")
    size = predicted.scatter.shape[-1]
    if phase == "wasserstein":
        assert cached.roots is not None
        root = follow(cached.roots[index], batch.linear, batch.mirrored, cached.permutation)
        spread = law.covariance_from_scatter(np.eye(1), settings.degrees_of_freedom).item()
        criterion = procrustes_wasserstein(predicted.scatter * spread, root, batch.labelled).mean()
        loss = criterion / head.start_sigma.square().mean() / size
    else:
        nu = None if math.isinf(settings.degrees_of_freedom) else head.degrees_of_freedom()
        criterion = student_t_nll(flatten(batch.points) - batch.features.mean, predicted.scatter, batch.labelled, nu).mean()
        loss = criterion / size
    deviation = predicted.deviation.square().sum((1, 2)).mean() / size
    correlation = (head.root - head.start_root).square().sum() / size
    return criterion, loss + settings.deviation_decay * deviation + settings.correlation_decay * correlation


def _pick(views: Sequence[FeatureSet], drawn: np.ndarray, index: np.ndarray) -> FeatureSet:
    """People ``index``, each in its drawn view, in that order."""
    groups = [(view, np.flatnonzero(drawn == view)) for view in range(len(views))]
    parts = [views[view].at(torch.from_numpy(index[where])) for view, where in groups if len(where)]
    place = torch.from_numpy(np.concatenate([where for _, where in groups]))
    return concatenate(parts).at(place.argsort())


def _groups(head: CovarianceHead, decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, the learned correlation and the degrees of freedom do not."""
    matrices = [p for name, p in head.named_parameters() if name.endswith(".weight")]
    rest = [p for name, p in head.named_parameters() if not name.endswith(".weight")]
    return [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
