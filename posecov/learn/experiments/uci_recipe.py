"""One fixed recipe for regression tables: the papers' hybrid on residuals that the mean has not seen.

1. Mean: squared error. As many further means as there are folds are trained the same way, each without one fold of the rows;
   their errors on the fold that they have not seen are the *fresh residuals*, as large as those on new rows. They are trained
   in any case, so the prediction is the average of all, drawn back to the average row where it does not carry to new rows:
   along each main axis of the fresh residuals by the slope of the targets over their cross-fitted predictions, 1 at most.
2. C, the second moment of the fresh residuals, gives the frame: the covariance network predicts A(x), and the covariance is
   C^1/2 [(I + A)(I + A)^T + floor I] C^1/2. It starts at C, and tables whose residuals span many scales become alike.
3. Phase 1: 2-Wasserstein bound (ToSS, arXiv 2502.10587) to pseudo-labels, the neighbours' second moments of the fresh residuals
   in that frame, shrunk towards I.
4. Phase 2: negative log-likelihood in the same parameterisation, of the fresh residuals smoothed by the same neighbours:
   1/2 [ln det S + tr S^-1 ((1 - own) P + own r r^T)]. own = 1 is the NLL, own = 1/2 the papers' calibrated KL. The plain
   NLL learns single residuals by heart within a few epochs.

5. Far from all rows (`uci_reach`) nothing was learned: there the covariance has C added in proportion.

The mean is frozen while the covariance learns, so that neither harms the other.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posecov.errors import PosecovError
from posecov.law import symmetric_root
from posecov.learn import pseudo_labels
from posecov.learn.experiments.uci_reach import Reach, fit_reach
from posecov.learn.losses import kl, wasserstein_bound
from posecov.learn.mlp import ResidualMLP
from posecov.learn.regression import Fitted, RegressionConfig, fit
from posecov.learn.schedule import warm_cosine
from posecov.learn.steps import guarded_step

_CHUNK = 1024
_START = 0.1  # of the usual initial weights of the covariance's last layer: it begins near C, yet not all the same


@dataclass(frozen=True)
class RecipeConfig:
    """The recipe. Every default was chosen on validation rows of five tables; no table has its own.

    Attributes:
        mean: how means are trained.
        folds: of the fresh residuals.
        phase1_epochs: of the 2-Wasserstein bound; 0 leaves it out.
        phase2_epochs: of the smoothed likelihood.
        learning_rate: of the covariance network, peak of a cosine within each phase.
        neighbours: k in multiples of D.
        effective: the temperature gives, on average, this fraction of k effective neighbours.
        shrinkage: of the pseudo-labels towards I, in the frame of C.
        own: share of a row's own residual in phase 2.
        ridge: added to the diagonal of C; the evaluation jitter, in units of the standardised table.
        floor: added to the diagonal in the frame of C.
        widening: multiple of C that is added for each unit of `Reach.excess`; 0 adds nothing.
        shuffled: neighbours drawn at random, as a control.
    """

    mean: RegressionConfig = dataclasses.field(default_factory=lambda: RegressionConfig(loss="mse", schedule="cosine"))
    folds: int = 4
    phase1_epochs: int = 50
    phase2_epochs: int = 50
    learning_rate: float = 3e-3
    neighbours: float = 20.0
    effective: float = 0.5
    shrinkage: float = 0.2
    own: float = 0.2
    ridge: float = 1e-3
    floor: float = 0.1
    widening: float = 0.1
    shuffled: bool = False


@dataclass(frozen=True)
class FittedRecipe:
    """Trained members.

    Attributes:
        means: what predicts the means.
        network: A(x), M members.
        frame: (M, D, D) C^1/2.
        reach: of each member's inputs.
        config: the recipe.
        effective: (M,) median effective number of neighbours.
    """

    means: "Means"
    network: ResidualMLP
    frame: np.ndarray
    reach: Sequence[Reach]
    config: RecipeConfig
    effective: np.ndarray

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (M, N, D) and covariance (M, N, D, D), float64, for each member's own inputs (M, N, m)."""
        network = self.network.eval()
        with torch.no_grad():
            parts = torch.as_tensor(x, dtype=torch.float32).split(_CHUNK, dim=1)
            factor = torch.cat([_factor(network(part)) for part in parts], dim=1).numpy()
        excess = np.stack([reach.excess(inputs) for reach, inputs in zip(self.reach, x, strict=True)])
        added = self.config.floor + self.config.widening * excess
        inner = factor @ np.swapaxes(factor, -1, -2) + added[..., None, None] * np.eye(factor.shape[-1])
        frame = self.frame[:, None]
        return self.means.predict(x), frame @ inner @ frame


@dataclass(frozen=True)
class Means:
    """What covariances are fitted to.

    Attributes:
        whole: the M means that were trained on all rows.
        parts: the M x folds means that were trained without one fold, the folds of a member one after the other.
        fresh: (M, N, D) residuals of means that have not seen the row, drawn back as the predictions are.
        centre: (M, 1, D) average row.
        drawn: (M, D, D) what deviations of predictions from it are multiplied with, from the right.
    """

    whole: Fitted
    parts: Fitted
    fresh: np.ndarray
    centre: np.ndarray
    drawn: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(M, N, D) average of a member's means, drawn back, for its own inputs (M, N, m)."""
        members = len(x)
        folds = len(self.parts.network.seeds) // members
        parts = self.parts.predict(np.repeat(x, folds, axis=0))[0]
        average = (self.whole.predict(x)[0] + parts.reshape(members, folds, *parts.shape[1:]).sum(axis=1)) / (folds + 1)
        return self.centre + (average - self.centre) @ self.drawn

    @property
    def nonfinite(self) -> np.ndarray:
        """(M,) steps left out in a member's means."""
        return self.whole.nonfinite + self.parts.nonfinite.reshape(len(self.whole.nonfinite), -1).sum(axis=1)


def fit_recipe(config: RecipeConfig, x: np.ndarray, y: np.ndarray, seeds: Sequence[int]) -> FittedRecipe:
    """Train one member a seed, each on its own samples.

    Args:
        config: the recipe.
        x: (M, N, m) inputs.
        y: (M, N, D) targets.
        seeds: M of them.

    Raises:
        PosecovError: too few rows for the folds, or a loss that is not finite.
    """
    return fit_covariance(config, fit_means(config, x, y, seeds), x, seeds)


def fit_means(config: RecipeConfig, x: np.ndarray, y: np.ndarray, seeds: Sequence[int]) -> Means:
    """Step 1: the means, and residuals that are fresh."""
    whole = fit(config.mean, x, y, seeds=seeds)
    parts, fresh = fresh_residuals(config, x, y, seeds)
    centre, drawn = y.mean(axis=1, keepdims=True), drawn_back(y, fresh)
    return Means(whole, parts, y - centre - (y - fresh - centre) @ drawn, centre, drawn)


def fit_covariance(config: RecipeConfig, means: Means, x: np.ndarray, seeds: Sequence[int]) -> FittedRecipe:
    """Steps 2 to 4, on inputs x (M, N, m)."""
    fresh, size = means.fresh, means.fresh.shape[-1]
    moments = np.swapaxes(fresh, 1, 2) @ fresh / fresh.shape[1] + config.ridge * np.eye(size)
    frame = symmetric_root(moments)
    white = np.swapaxes(np.linalg.solve(frame, np.swapaxes(fresh, 1, 2)), 1, 2)
    labels = [_pseudo_labels(config, *member) for member in zip(x, white, seeds, strict=True)]
    width, blocks = config.mean.width or size**2 + 2, config.mean.blocks
    network = ResidualMLP(len(seeds), x.shape[-1], size**2, width, blocks, [2 * seed + 1 for seed in seeds])
    with torch.no_grad():
        network.output.weight.mul_(_START)
        network.output.bias.mul_(_START)
    _train(config, network, x, white, np.stack([label for label, _ in labels]), seeds)
    reach = [fit_reach(member) for member in x]
    return FittedRecipe(means, network, frame, reach, config, np.array([effective for _, effective in labels]))


def fresh_residuals(config: RecipeConfig, x: np.ndarray, y: np.ndarray, seeds: Sequence[int]) -> tuple[Fitted, np.ndarray]:
    """Means that were trained without a fold each, and their errors (M, N, D) on it; all folds of all members are one stack."""
    count, folds = x.shape[1], config.folds
    if not 1 < folds <= count // 2:
        raise PosecovError(f"folds: {folds} of {count} rows; 2 or more are needed, with 2 rows or more in each")
    fold = np.random.default_rng(seeds[0]).permutation(count) % folds
    # Stacked members need equally many rows: folds that are one short leave out one row more.
    trained = count - math.ceil(count / folds)
    rest = [np.flatnonzero(fold != k)[:trained] for k in range(folds)]
    own_seeds = [1_000 * (seed + 1) + k for seed in seeds for k in range(folds)]
    fitted = fit(
        config.mean,
        np.concatenate([x[:, rows][:, None] for rows in rest], axis=1).reshape(-1, trained, x.shape[-1]),
        np.concatenate([y[:, rows][:, None] for rows in rest], axis=1).reshape(-1, trained, y.shape[-1]),
        seeds=own_seeds,
    )
    predicted = fitted.predict(np.repeat(x, folds, axis=0))[0].reshape(len(x), folds, count, -1)
    return fitted, y - predicted[:, fold, np.arange(count)]


def drawn_back(y: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """(M, D, D) how much of cross-fitted predictions ``y - fresh`` carries to new rows, each main axis of `fresh` for itself.

    Axes of small residuals are those of (nearly) exact relations between targets, which one number for all, or one for each
    target, would break.

    Args:
        y: (M, N, D) targets.
        fresh: (M, N, D) cross-fitted residuals.
    """
    axes = np.linalg.eigh(np.swapaxes(fresh, 1, 2) @ fresh)[1]
    truth, said = (y - y.mean(axis=1, keepdims=True)) @ axes, (y - fresh - (y - fresh).mean(axis=1, keepdims=True)) @ axes
    power = np.square(said).sum(axis=1)
    slope = np.divide((truth * said).sum(axis=1), power, out=np.ones_like(power), where=power > 0)
    return axes * np.clip(slope, 0.0, 1.0)[:, None] @ np.swapaxes(axes, 1, 2)


def smoothed_likelihood(residual: Tensor, covariance: Tensor, root: Tensor, own: float) -> Tensor:
    """1/2 [ln det S + tr S^-1 ((1 - own) P + own r r^T)], P = root root^T: the NLL at own = 1, but for its constant.

    Args:
        residual: (..., D) r.
        covariance: (..., D, D) S.
        root: (..., D, D) of the pseudo-label P; no gradient.
        own: share of the sample's own residual.

    Returns:
        (...) nats.
    """
    return kl(residual, covariance, root @ root.mT, pseudo_log_det=False, own=own) + residual.shape[-1] / 2


def _pseudo_labels(config: RecipeConfig, x: np.ndarray, white: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Roots (N, D, D) and the median effective number of neighbours of one member."""
    k = min(max(round(config.neighbours * white.shape[1]), 1), len(x) - 1)
    found = pseudo_labels.find_neighbours(pseudo_labels.whiten(x, x.shape[1]), k, config.effective)
    if config.shuffled:
        found = pseudo_labels.shuffled(found, seed)
    near = pseudo_labels.pseudo_covariances(white, found, centred=False, shrinkage=0.0)
    shrunk = (1 - config.shrinkage) * near + config.shrinkage * np.eye(white.shape[1])
    return pseudo_labels.roots(shrunk), float(np.median(found.effective))


def _factor(raw: Tensor) -> Tensor:
    """I + A (..., D, D), float64, from the network's outputs (..., D^2)."""
    size = math.isqrt(raw.shape[-1])
    return raw.double().unflatten(-1, (size, size)) + torch.eye(size, dtype=torch.float64)


def _train(
    config: RecipeConfig, network: ResidualMLP, x: np.ndarray, white: np.ndarray, roots: np.ndarray, seeds: Sequence[int]
) -> None:
    """Both phases, on the rows of each member in its own order."""
    inputs, residuals = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(white)
    labels = torch.as_tensor(roots)
    eye = config.floor * torch.eye(white.shape[-1], dtype=torch.float64)
    members = torch.arange(len(seeds)).unsqueeze(1)
    orders = [torch.Generator().manual_seed(7 * seed + 3) for seed in seeds]
    count, batch = x.shape[1], config.mean.batch
    batches = max(count // batch, 1)
    for phase, epochs in (("phase 1", config.phase1_epochs), ("phase 2", config.phase2_epochs)):
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.mean.weight_decay, fused=True
        )
        network.train()
        step = itertools.count()
        for epoch in range(epochs):
            order = torch.stack([torch.randperm(count, generator=generator) for generator in orders])
            for number in range(batches):
                index = order[:, number * batch : (number + 1) * batch]
                optimizer.param_groups[0]["lr"] = config.learning_rate * warm_cosine(
                    next(step), epochs * batches, config.mean.warmup_steps
                )
                factor, root = _factor(network(inputs[members, index])), labels[members, index].double()
                if phase == "phase 1":
                    loss = wasserstein_bound(factor, root)
                else:
                    loss = smoothed_likelihood(residuals[members, index], factor @ factor.mT + eye, root, config.own)
                where = f"covariance, {phase}, epoch {epoch + 1}, batch {number + 1}"
                guarded_step(loss.mean(-1).sum(), network.named_parameters(), optimizer, math.inf, where)
