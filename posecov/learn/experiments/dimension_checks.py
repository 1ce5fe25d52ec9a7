"""What else to ask at one D: a wrong mean, shared networks, warm-up, clipping; and gradients at repeated eigenvalues."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from posecov.learn.experiments.cells import run_cell
from posecov.learn.losses import LOSSES, LossError, Prediction, Target, naive
from posecov.learn.regression import RegressionConfig

if TYPE_CHECKING:
    from posecov.learn.experiments.dimensions import DimensionConfig

OFFSETS = (0.0, 1.0, 2.0)
GRADIENTS: tuple[str, ...] = (
    "nll", "kl", "wasserstein-bound", "wasserstein-symmetric", "wasserstein-procrustes", "wasserstein", "2-W by autograd",
)  # fmt: skip
# (prediction, pseudo-label): which eigenvalues repeat.
PLACES = ("both isotropic", "prediction isotropic", "equal, not isotropic", "nearly equal to isotropic", "generic")
EXPLODING = 100.0
_DRAWS = 100
# Where the estimated Taylor terms are compared with the exact ones, trained so long that luck of the start matters little.
ESTIMATED = {8: 20, 12: 20, 16: 20}


def trials(
    config: "DimensionConfig", quick: bool = False
) -> dict[tuple[str, str, str], tuple["DimensionConfig", RegressionConfig]]:
    """(kind, setting, method) -> how to train it."""
    from posecov.learn.experiments.dimensions import recipe

    made = {}
    half = max(config.epochs // 2, 1)
    for offset in OFFSETS:
        for method in ("NLL", "KL", "2-W", "2-W bound", "hybrid"):
            change: dict[str, Any] = {"warmup_mean_epochs": half, "freeze_mean": True, "wrong_mean": offset}
            made["wrong mean", f"{offset:g}", method] = (config, recipe(config, method, **change))
    for method in ("NLL", "2-W bound", "hybrid", "Faithful"):
        made["shared", "shared", method] = (config, recipe(config, method, shared=True))
    for method in ("NLL", "KL", "Faithful", "2-W bound", "hybrid"):
        made["clipping", "no clipping", method] = (config, recipe(config, method, clip=math.inf))
    for method in ("NLL", "KL", "2-W bound"):
        change = {"warmup_mean_epochs": half, "epochs": max(config.epochs - half, 1)}
        made["warm-up", f"{half} epochs", method] = (config, recipe(config, method, **change))
    for d, epochs in {4: 1}.items() if quick else ESTIMATED.items():
        own = dataclasses.replace(type(config).standard(d, quick), epochs=epochs)
        for method in ("exact", "estimated"):
            made["estimator", f"D = {d}", method] = (own, recipe(own, "NLL:TIC", tic=method))
    return made


def count_gradients(
    folder: Path, dimensions: Sequence[int], begin: Callable[[str], None]
) -> dict[tuple[int, str], dict[str, Any]]:
    """(D, loss) -> for each of `PLACES` the counts of `gradient_counts`, computed once and kept."""
    found = {}
    for name in GRADIENTS:
        begin(f"gradients of {name}")
        for d in dimensions:
            key = {"experiment": "dimensions", "kind": "gradients", "D": d, "loss": name, "draws": _DRAWS, "version": 1}
            key["exploding"] = EXPLODING
            found[d, name] = run_cell(folder, key, lambda d=d, name=name: gradient_counts(d, name))  # type: ignore[misc]
    return found


def gradient_counts(dimensions: int, name: str, draws: int = _DRAWS) -> dict[str, Any]:
    """Gradients by the predicted factor at predictions with repeated eigenvalues.

    Returns:
        For each of `PLACES`: nonfinite, how many of the draws; exploding, how many are longer than `EXPLODING` times the median
        at generic predictions; largest, the longest over that median.
    """
    generator = torch.Generator().manual_seed(dimensions)
    norms = {place: _norms(name, *_matrices(place, dimensions, draws, generator)) for place in PLACES}
    usual = norms["generic"][torch.isfinite(norms["generic"])].median()
    counts = {}
    for place, values in norms.items():
        finite = torch.isfinite(values)
        counts[place] = {
            "nonfinite": int((~finite).sum()), "exploding": int((values[finite] > EXPLODING * usual).sum()),
            "largest": float((values[finite] / usual).amax()) if finite.any() else None, "draws": draws,
        }  # fmt: skip
    return counts


def _matrices(place: str, d: int, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Predicted factors and roots of pseudo-labels, (draws, D, D) float64."""
    eye = torch.eye(d, dtype=torch.float64).expand(draws, -1, -1)
    free = torch.randn(draws, d, 2 * d, generator=generator, dtype=torch.float64) / (2 * d) ** 0.5
    values, vectors = torch.linalg.eigh(free @ free.mT)
    root = (vectors * values.sqrt().unsqueeze(-2)) @ vectors.mT
    scale = torch.rand(draws, 1, 1, generator=generator, dtype=torch.float64) + 0.5
    noise = torch.randn(draws, d, d, generator=generator, dtype=torch.float64)
    predicted: Mapping[str, Tensor] = {
        "both isotropic": scale * eye, "prediction isotropic": scale * eye, "equal, not isotropic": root,
        "nearly equal to isotropic": scale * eye + 1e-6 * noise, "generic": eye + 0.3 * noise / d**0.5,
    }  # fmt: skip
    isotropic = place in ("both isotropic", "nearly equal to isotropic")
    return predicted[place], eye.clone() if isotropic else root


def _norms(name: str, factor: Tensor, root: Tensor) -> Tensor:
    """Length of each draw's gradient by its factor; NaN where the loss refuses."""
    found = []
    for single, target in zip(factor, root, strict=True):
        leaf = single.clone().requires_grad_()
        covariance = leaf @ leaf.mT
        zero = torch.zeros(len(single), dtype=torch.float64)
        try:
            if name in LOSSES:
                loss = LOSSES[name].function(Prediction(zero, covariance, leaf), Target(zero + 1.0, None, target))
            else:
                loss = naive.wasserstein_autograd(covariance, target)
            found.append(torch.autograd.grad(loss, leaf)[0].norm())
        except (LossError, torch.linalg.LinAlgError):
            found.append(torch.tensor(float("nan"), dtype=torch.float64))
    return torch.stack(found)
