"""Deep heteroscedastic regression on tables: the networks and the training of the papers' experiments.

Two residual networks of width D^2 + 2, one for the mean and one for the covariance (ToSS, arXiv 2502.10587; TIC-TAC, arXiv
2310.18953). M members, one a seed, train at once as one stacked network; nothing passes from one to another: each has
its own initial weights, order of samples, BatchNorm statistics, gradient norm and count of steps that were not finite.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posecov import law
from posecov.errors import PosecovError
from posecov.learn.losses import LOSSES, Loss, LossError, Prediction, Target
from posecov.learn.regression_network import RegressionConfig, Regressor
from posecov.learn.schedule import warm_cosine
from posecov.learn.taylor import TaylorTerms

__all__ = ["Fitted", "RegressionConfig", "Regressor", "StackedSteps", "evaluate", "fit", "member_losses"]
_CHUNK = 1024


@dataclass
class Fitted:
    """Trained members.

    Attributes:
        network: the M networks.
        history: a row an epoch: phase, epoch, loss (M numbers, the mean over the epoch's batches).
        nonfinite: (M,) steps left out because loss or gradient was not finite.
        largest_gradient: (M,) norm, before clipping, over all finite steps.
    """

    network: Regressor
    history: list[dict[str, Any]] = field(default_factory=list)
    nonfinite: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    largest_gradient: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (M, N, D) and covariance (M, N, D, D), float64, in eval mode, for inputs (N, m), or each member's (M, N, m).

        The covariance has the floor and `RegressionConfig.jitter` on its diagonal; after a loss without one it is the identity.
        """
        network = self.network.eval()
        members, size = len(network.seeds), network.mean.inputs
        shape = np.shape(x)
        if len(shape) not in (2, 3) or shape[-1] != size or (len(shape) == 3 and shape[0] != members):
            raise PosecovError(f"predict: x has the shape {shape}, but (N, {size}) or ({members}, N, {size}) is needed")
        means, covariances = [], []
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for part in torch.as_tensor(np.asarray(x), dtype=torch.float32).split(_CHUNK, dim=-2):
                inputs = part.expand(members, -1, -1)
                mean, raw = network.outputs_at(inputs)
                means.append(mean.double().numpy())
                covariances.append(self._covariance(mean, raw, network.terms(inputs, generator)))
        return np.concatenate(means, axis=1), np.concatenate(covariances, axis=1)

    def _covariance(self, mean: Tensor, raw: Tensor | None, terms: TaylorTerms | None) -> np.ndarray:
        network, eye = self.network, np.eye(self.network.outputs)
        if raw is None:
            return np.broadcast_to(eye, (*mean.shape, mean.shape[-1]))
        if network.form == "diagonal":
            covariance = torch.diag_embed(raw.double().exp())
        else:
            factor, k1, k2 = network.factor_and_coefficients(raw)
            covariance = network.covariance(factor, k1, k2, terms)
            if network.form == "precision":
                covariance = torch.linalg.inv_ex(covariance)[0]
            if network.config.loss == "student-t":
                covariance = covariance * network.config.degrees_of_freedom / (network.config.degrees_of_freedom - 2)
        return covariance.numpy() + network.config.jitter * eye


def fit(
    config: RegressionConfig, x: np.ndarray, y: np.ndarray, roots: np.ndarray | None = None, seeds: Sequence[int] = (0,)
) -> Fitted:
    """Train one member a seed, on the same samples or each on its own.

    Args:
        config: the recipe.
        x: (N, m) inputs; or (M, N, m): each member has its own samples, and y and roots have M in front too.
        y: (N, D) targets.
        roots: (N, D, D) symmetric roots of the pseudo-labels; for losses that use them.
        seeds: of the members.

    Raises:
        PosecovError: names the argument that is wrong; or the batch, the seed and the parameter when a loss or gradient
            is not finite and ``config.on_nonfinite`` is "stop".
    """
    config.form()
    inputs, targets, target_roots = _checked(config, x, y, roots, seeds)
    network = Regressor(config, inputs.shape[-1], targets.shape[-1], seeds)
    members = torch.arange(len(seeds)).unsqueeze(1)
    fitted = Fitted(network, [], np.zeros(len(seeds), dtype=np.int64), np.zeros(len(seeds)))
    orders = [torch.Generator().manual_seed(1_000_003 * (seed + 1)) for seed in seeds]
    probes = torch.Generator().manual_seed(seeds[0])
    warm = config.warmup_mean_epochs > 0
    for number, (loss, epochs) in enumerate(config.phases()):
        alone = warm and number == 0
        if (config.freeze_mean or config.wrong_mean) and not alone:
            network.mean.requires_grad_(False)
            network.offset = config.wrong_mean
        steps = StackedSteps(network, loss, config, fitted)
        size = inputs.shape[1]
        total = epochs * math.ceil(size / config.batch)
        taken = itertools.count()
        last = config.pretrain_epochs > 0 and number == len(config.phases()) - 1 and config.epochs > 0
        peak = config.learning_rate * (config.finetuning if last else 1.0)
        for epoch in range(epochs):
            losses = []
            for batch, index in enumerate(_batches(size, config.batch, orders)):
                steps.rate(peak * _schedule(config, next(taken), total))
                where = f"phase {number + 1} ({loss}), epoch {epoch + 1}, batch {batch + 1}"
                chosen = target_roots[members, index] if target_roots is not None and LOSSES[loss].pseudo else None
                losses.append(
                    steps.step(inputs[members, index], targets[members, index], chosen, where, probes, mean_alone=alone)
                )
            fitted.history.append({"phase": loss, "epoch": epoch + 1, "loss": torch.stack(losses).nanmean(0).tolist()})
    return fitted


class StackedSteps:
    """Guarded steps of AdamW for stacked members: `steps.guarded_step`, with clipping and the guard for each member apart."""

    def __init__(self, network: Regressor, loss: str, config: RegressionConfig, fitted: Fitted):
        self.network, self.config, self.fitted = network.train(), config, fitted
        self.name, self.loss = loss, LOSSES[loss]
        self.learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        parameters = [p for _, p in self.learning]
        self.optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)

    def rate(self, rate: float) -> None:
        """Set the learning rate."""
        self.optimizer.param_groups[0]["lr"] = rate

    def step(
        self,
        x: Tensor,
        y: Tensor,
        roots: Tensor | None,
        where: str,
        generator: torch.Generator | None = None,
        mean_alone: bool = False,
    ) -> Tensor:
        """One step on x (M, B, m), y (M, B, D), roots (M, B, D, D).

        Returns:
            (M,) losses, detached.

        Raises:
            PosecovError: as `fit`.
        """
        network = self.network
        if not any(p.requires_grad for p in network.mean.parameters()):
            network.mean.eval()
        mean, raw = network.outputs_at(x, with_covariance=not mean_alone and self.loss.form != "none")
        terms = network.terms(x, generator) if raw is not None and not mean_alone else None
        network.mean.train(any(p.requires_grad for p in network.mean.parameters()))
        predicted, nu = network.prediction(mean, raw, terms, self.name), network.degrees_of_freedom()
        losses, reasons = member_losses(self.loss, predicted, Target(y, None, roots), nu)
        good = torch.isfinite(losses)
        self._judge(good, where, lambda member: f"no finite loss ({reasons.get(member, 'not finite')})")
        self.optimizer.zero_grad(set_to_none=True)
        if not good.any():
            self.fitted.nonfinite += 1
            return losses.detach()
        losses[good].sum().backward()
        learning = [(name, p, p.grad) for name, p in self.learning if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for _, _, g in learning]).norm(dim=0)
        sound = good & torch.isfinite(norms)
        self._judge(sound | ~good, where, lambda member: f"the gradient of {_first_bad(learning, member)} is not finite")
        self.fitted.nonfinite += (~sound).numpy()
        finite = torch.where(sound, norms, 0.0).double().numpy()
        self.fitted.largest_gradient = np.maximum(self.fitted.largest_gradient, finite)
        if math.isfinite(self.config.clip):
            scale = (self.config.clip / norms.clamp_min(1e-30)).clamp_max(1.0)
            for _, _, gradient in learning:
                gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))
        self._apply(sound)
        return losses.detach()

    def _judge(self, fine: Tensor, where: str, say: Any) -> None:
        if self.config.on_nonfinite == "stop" and not fine.all():
            member = int((~fine).nonzero()[0, 0])
            raise PosecovError(
                f"{where}, seed {self.network.seeds[member]}: {say(member)}; lower the learning rate or raise the floor"
            )

    def _apply(self, sound: Tensor) -> None:
        """Step of the sound members; the others' weights and moments stay as they are."""
        if sound.all():
            self.optimizer.step()
            return
        bad = ~sound
        kept = []
        for _, p in self.learning:
            if p.grad is not None:
                p.grad[bad] = 0.0
                state = [value for value in self.optimizer.state[p].values() if value.shape == p.shape]
                kept += [(tensor, tensor[bad].clone()) for tensor in (p.data, *state)]
        self.optimizer.step()
        for tensor, values in kept:
            tensor[bad] = values


def evaluate(mean: np.ndarray, covariance: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Figures per member: the papers' metrics on tables.

    Args:
        mean: (M, N, D). covariance: (M, N, D, D). y: (N, D).

    Returns:
        Each (M,): mse, the squared error per dimension; nll, of the Gaussian, in nats, summed over dimensions; tac, the
        absolute error of a coordinate given the true values of all others. NaN where the covariance is not positive definite.
    """
    residual = np.asarray(y, dtype=np.float64) - mean
    rows = [_figures(r, s) for r, s in zip(residual, covariance, strict=True)]
    return {
        "mse": np.square(residual).mean(axis=(1, 2)),
        "nll": np.array([n for n, _ in rows]),
        "tac": np.array([t for _, t in rows]),
    }


def _figures(residual: np.ndarray, covariance: np.ndarray) -> tuple[float, float]:
    if not (np.isfinite(residual).all() and np.isfinite(covariance).all()):
        return math.nan, math.nan
    nll, tac = 0.0, 0.0
    for start in range(0, len(residual), _CHUNK):
        r, s = residual[start : start + _CHUNK], covariance[start : start + _CHUNK]
        try:
            nll += law.negative_log_likelihood(r, s, math.inf).sum()
        except PosecovError:
            return math.nan, math.nan
        # With the precision P the conditional mean of coordinate i leaves (P r)_i / P_ii.
        precision = np.linalg.inv(s)
        tac += np.abs((precision @ r[..., None])[..., 0] / np.diagonal(precision, axis1=1, axis2=2)).sum()
    return nll / len(residual), tac / residual.size


def member_losses(
    loss: Loss, prediction: Prediction, target: Target, degrees_of_freedom: Tensor | None = None
) -> tuple[Tensor, dict[int, str]]:
    """(M,) mean losses; NaN for members that have none, which one batched call would blame on all, and why, by member."""
    try:
        return loss.function(prediction, target, degrees_of_freedom).mean(-1), {}
    except LossError as error:
        members = len(prediction.mean)
        if members == 1:
            return torch.full((1,), math.nan, dtype=torch.float64), {0: str(error)}

    def part(values: Any, m: int) -> Any:
        return type(values)(*(value[m : m + 1] if isinstance(value, Tensor) else value for value in values))

    found = [member_losses(loss, part(prediction, m), part(target, m), degrees_of_freedom) for m in range(members)]
    reasons = {m: why[0] for m, (_, why) in enumerate(found) if why}
    return torch.cat([values for values, _ in found]), reasons


def _first_bad(learning: Sequence[tuple[str, Any, Tensor]], member: int) -> str:
    return next((name for name, _, g in learning if not torch.isfinite(g[member]).all()), "all parameters together")


def _schedule(config: RegressionConfig, step: int, total: int) -> float:
    if config.schedule == "cosine":
        return warm_cosine(step, total, config.warmup_steps)
    return min((step + 1) / config.warmup_steps, 1.0) if config.warmup_steps else 1.0


def _batches(size: int, batch: int, orders: Sequence[torch.Generator]) -> Iterator[Tensor]:
    """(M, B) indices: every member its own order. A last batch of one sample, which BatchNorm cannot use, is left out."""
    order = torch.stack([torch.randperm(size, generator=generator) for generator in orders])
    for start in range(0, size, batch):
        if size - start > 1:
            yield order[:, start : start + batch]


def _checked(
    config: RegressionConfig, x: np.ndarray, y: np.ndarray, roots: np.ndarray | None, seeds: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Samples of each member: x (M, N, m), y (M, N, D), roots (M, N, D, D)."""
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim not in (2, 3) or y.shape[:-1] != x.shape[:-1]:
        raise PosecovError(f"x and y: shapes {x.shape} and {y.shape}, but (N, m) and (N, D) are needed")
    if not seeds:
        raise PosecovError("seeds: none given")
    if x.ndim == 3 and len(x) != len(seeds):
        raise PosecovError(f"x: the samples of {len(x)} members, but there are {len(seeds)} seeds")
    if x.shape[-2] < 2:
        raise PosecovError(f"x: {x.shape[-2]} samples, but BatchNorm needs 2 or more")
    for name, values in (("x", x), ("y", y)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, -2])
            raise PosecovError(f"{name}: row {row} holds a value that is not finite; leave such rows out")
    wanted = (*y.shape, y.shape[-1])
    if not any(LOSSES[loss].pseudo for loss, _ in config.phases()):
        roots = None
    elif roots is None:
        raise PosecovError("roots: this loss needs pseudo-labels, and none are given")
    elif roots.shape != wanted or not np.isfinite(roots).all():
        raise PosecovError(f"roots: finite values of shape {wanted} are needed, not {roots.shape}")

    def own(values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.array(values, dtype=np.float32))
        return tensor if x.ndim == 3 else tensor.expand(len(seeds), *tensor.shape)

    return own(x), own(y), None if roots is None else own(roots)
