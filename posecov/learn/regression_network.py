"""The networks of deep heteroscedastic regression, and what their outputs mean; `posecov.learn.regression` trains them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from posecov.errors import PosecovError
from posecov.learn.losses import LOSSES, Prediction
from posecov.learn.mlp import ResidualMLP
from posecov.learn.taylor import TaylorTerms, estimated_terms, exact_terms, naive_terms

Form = Literal["none", "diagonal", "covariance", "precision"]


@dataclass(frozen=True)
class RegressionConfig:
    """How to train.

    Attributes:
        loss: a name of `LOSSES`.
        tic: Taylor terms of the mean network in the covariance (TIC): "exact", "estimated" by randomised probes, or "naive" by
            automatic differentiation, which is a baseline for timing.
        pretrain_loss: of a phase before it, of the same form; with "wasserstein-bound" and then "nll" this is the hybrid.
        pretrain_epochs: of that phase.
        warmup_mean_epochs: squared error of the mean alone, before everything else.
        epochs: with ``loss``.
        batch: samples a step; 2 or more, for BatchNorm.
        learning_rate: of AdamW.
        finetuning: factor on it once the pretraining is over.
        schedule: "constant", or "cosine" down to 0 within each phase.
        warmup_steps: of a linear rise of the rate at the start of each phase.
        weight_decay: of AdamW.
        clip: largest norm of one member's gradient.
        width: of the networks; None is the papers' D^2 + 2.
        blocks: of the networks.
        shared: one trunk gives mean and covariance.
        start: added to the diagonal of the predicted factor; 0 is the papers' raw factor.
        floor: added to the diagonal of what the network predicts (covariance, precision), squared units of y.
        jitter: added to the diagonal of the covariance at evaluation, squared units of y.
        coefficients: k1, k2 from the raw c1, c2: "square" as the papers, or "softplus".
        bound_terms: whether "wasserstein-bound" sees the factor [A, k1^1/2 J, k2^1/2 C^1/2], or A alone. The former drives
            k1 and k2 to 0, since the target has no part there.
        probes: directions of the randomised terms, a sample.
        degrees_of_freedom: of the law of "student-t"; above 2.
        wrong_mean: added to every coordinate of the mean, which stays as the warm-up left it: does the covariance survive?
        freeze_mean: keep the mean as the warm-up left it.
        on_nonfinite: "stop" at the first loss or gradient that is not finite, or "count" it and leave out that member's step.
    """

    loss: str = "wasserstein-bound"
    tic: Literal["none", "exact", "estimated", "naive"] = "none"
    pretrain_loss: str = ""
    pretrain_epochs: int = 0
    warmup_mean_epochs: int = 0
    epochs: int = 100
    batch: int = 32
    learning_rate: float = 3e-4
    finetuning: float = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.01
    clip: float = math.inf
    width: int | None = None
    blocks: int = 5
    shared: bool = False
    start: float = 0.0
    floor: float = 1e-4
    jitter: float = 1e-3
    coefficients: Literal["square", "softplus"] = "square"
    bound_terms: Literal["factor", "left out"] = "factor"
    probes: int = 4
    degrees_of_freedom: float = 5.0
    wrong_mean: float = 0.0
    freeze_mean: bool = False
    on_nonfinite: Literal["stop", "count"] = "stop"

    def phases(self) -> list[tuple[str, int]]:
        """(loss, epochs) in their order."""
        phases = [("mse", self.warmup_mean_epochs), (self.pretrain_loss, self.pretrain_epochs), (self.loss, self.epochs)]
        return [(loss, epochs) for loss, epochs in phases if epochs > 0]

    def form(self) -> Form:
        """What the covariance network's outputs mean. Raises PosecovError when settings do not go together."""
        for name in filter(None, (self.loss, self.pretrain_loss)):
            if name not in LOSSES:
                raise PosecovError(f"loss: {name!r} is none of {', '.join(LOSSES)}")
        for name in ("epochs", "pretrain_epochs", "warmup_mean_epochs", "warmup_steps", "floor", "jitter"):
            if getattr(self, name) < 0:
                raise PosecovError(f"{name}: {getattr(self, name)} is negative")
        if self.width is not None and self.width < 1:
            raise PosecovError(f"width: {self.width} is not a positive number")
        if self.degrees_of_freedom <= 2:
            raise PosecovError(f"degrees_of_freedom: {self.degrees_of_freedom}, but a covariance needs more than 2")
        if self.pretrain_epochs and not self.pretrain_loss:
            raise PosecovError("pretrain_epochs: a pretrain_loss is missing")
        form = LOSSES[self.loss].form
        first = LOSSES[self.pretrain_loss].form if self.pretrain_epochs else form
        if "none" not in (first, form) and first != form:
            raise PosecovError(f"pretrain_loss: {self.pretrain_loss} has the form {first}, {self.loss} the form {form}")
        form = first if form == "none" else form
        if self.tic != "none" and form != "covariance":
            raise PosecovError(f"tic: the Taylor terms are part of a covariance, but {self.loss} has the form {form}")
        if self.tic != "none" and self.shared:
            raise PosecovError("tic: needs a mean network of its own; leave out shared")
        if self.finetuning <= 0:
            raise PosecovError(f"finetuning: {self.finetuning} is not a positive number")
        if self.batch < 2:
            raise PosecovError(f"batch: {self.batch}, but BatchNorm needs 2 samples or more")
        if (self.wrong_mean or self.freeze_mean) and not self.warmup_mean_epochs:
            raise PosecovError("wrong_mean and freeze_mean: need warmup_mean_epochs, or the mean stays at its start")
        trained = (self.loss, self.pretrain_loss if self.pretrain_epochs else self.loss)
        if (self.wrong_mean or self.freeze_mean) and any(LOSSES[loss].form == "none" for loss in trained):
            raise PosecovError("wrong_mean and freeze_mean: mse would have nothing to train; take a loss of the covariance")
        if (self.wrong_mean or self.freeze_mean) and self.shared:
            raise PosecovError("shared: a trunk that the covariance learns with cannot keep the mean; leave out freeze_mean")
        if not self.phases():
            raise PosecovError("epochs: nothing to train")
        return form  # type: ignore[return-value]


class Regressor(nn.Module):
    """M stacked networks for mean and covariance of D outputs."""

    def __init__(self, config: RegressionConfig, inputs: int, outputs: int, seeds: Sequence[int]):
        super().__init__()
        self.config, self.outputs, self.seeds = config, outputs, tuple(seeds)
        self.form = config.form()
        width = config.width or outputs**2 + 2
        raw = {"none": 0, "diagonal": outputs}.get(self.form, outputs**2 + 2)
        first = outputs + raw if config.shared else outputs
        self.mean = ResidualMLP(len(seeds), inputs, first, width, config.blocks, seeds=[2 * seed for seed in seeds])
        self.head: ResidualMLP | None = None
        if raw and not config.shared:
            self.head = ResidualMLP(len(seeds), inputs, raw, width, config.blocks, seeds=[2 * seed + 1 for seed in seeds])
        self.offset = 0.0

    def outputs_at(self, x: Tensor, with_covariance: bool = True) -> tuple[Tensor, Tensor | None]:
        """Mean (M, N, D) and raw covariance outputs (M, N, R), float32; None where there are none or none is asked for."""
        if self.config.shared:
            both = self.mean(x)
            mean, raw = both[..., : self.outputs], both[..., self.outputs :]
        else:
            mean, raw = self.mean(x), self.head(x) if self.head is not None and with_covariance else None
        return mean + self.offset, raw if raw is not None and raw.shape[-1] else None

    def terms(self, x: Tensor, generator: torch.Generator | None) -> TaylorTerms | None:
        """The Taylor terms of the mean network at x (M, N, m), detached, in eval mode; None without TIC."""
        if self.config.tic == "none":
            return None
        if self.config.tic != "estimated":
            return exact_terms(self.mean, x) if self.config.tic == "exact" else naive_terms(self.mean, x)
        return estimated_terms(self.mean, x, self.config.probes, generator)

    def prediction(self, mean: Tensor, raw: Tensor | None, terms: TaylorTerms | None, loss: str) -> Prediction:
        """What a loss of the catalogue takes, from `outputs_at` and `terms`; the covariance's part is float64."""
        if raw is None or LOSSES[loss].form == "none":
            return Prediction(mean, None, None)
        if self.form == "diagonal":
            return Prediction(mean, torch.diag_embed(raw.double().exp()), None)
        factor, k1, k2 = self.factor_and_coefficients(raw)
        if self.form == "precision":
            # [A, floor^1/2 I] is a factor of the precision with its floor.
            eye = torch.eye(self.outputs, dtype=factor.dtype).expand(factor.shape)
            return Prediction(mean, None, torch.cat([factor, math.sqrt(self.config.floor) * eye], dim=-1))
        if loss == "wasserstein-bound":
            if terms is not None and self.config.bound_terms == "factor":
                # The bound pads its target with zeros there, so only the rows' norms of k^1/2 J count: those of a diagonal.
                parts = zip((k1, k2), (terms.gradient, terms.curvature), strict=True)
                rows = [k.sqrt().unsqueeze(-1) * t.double().diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt() for k, t in parts]
                factor = torch.cat([factor, *(torch.diag_embed(row) for row in rows)], dim=-1)
            return Prediction(mean, None, factor)
        return Prediction(mean, self.covariance(factor, k1, k2, terms), factor)

    def degrees_of_freedom(self) -> Tensor | None:
        """Of "student-t"; None elsewhere."""
        wanted = "student-t" in (self.config.loss, self.config.pretrain_loss)
        return torch.tensor(self.config.degrees_of_freedom) if wanted else None

    def factor_and_coefficients(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A (M, N, D, D), k1 and k2 (M, N), float64, from raw outputs (M, N, D^2 + 2)."""
        raw = raw.double()
        factor = raw[..., :-2].unflatten(-1, (self.outputs, self.outputs))
        factor = factor + self.config.start * torch.eye(self.outputs, dtype=factor.dtype)
        # Squares are kept off 0, where the square root that the bound takes has no gradient.
        softplus = self.config.coefficients == "softplus"
        k = nn.functional.softplus(raw[..., -2:]) if softplus else raw[..., -2:].square() + 1e-12
        return factor, k[..., 0], k[..., 1]

    def covariance(self, factor: Tensor, k1: Tensor, k2: Tensor, terms: TaylorTerms | None) -> Tensor:
        """A A^T + k1 J J^T + k2 [tr H_i H_j] + floor, (M, N, D, D)."""
        covariance = factor @ factor.mT + self.config.floor * torch.eye(self.outputs, dtype=factor.dtype)
        if terms is None:
            return covariance
        return covariance + k1[..., None, None] * terms.gradient.double() + k2[..., None, None] * terms.curvature.double()
