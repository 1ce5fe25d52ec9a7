"""What a training step costs: plain NLL against full TIC, squared error against phase 1; whole network, and heads alone.

Both sides of every ratio run in turns on the same batch, and medians are compared: the machine's moods hit both alike.
"""

import torch
from torch import Tensor

from posecov.learn.benchmarks.measuring import alternate
from posecov.learn.covariance_head import Covariance
from posecov.learn.losses import LOSSES, Prediction, Target, symmetric_root
from posecov.learn.model import ModelConfig, PoseModel
from posecov.learn.steps import guarded_step

_JOINTS = 14


def measure(config: ModelConfig, batch: int = 32, repeats: int = 7, head_repeats: int = 60) -> dict[str, float]:
    """Milliseconds of the steps, and their ratios. Random pictures and labels: only time is measured.

    Args:
        config: network; all of it trains, except ``frozen_stages``.
        batch: people a step.
        repeats: of a step of the whole network. head_repeats: of a step of the heads.

    Returns:
        Flat names to numbers; ``pose_tic_over_nll`` and the like are ratios.
    """
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    model = PoseModel(config, _JOINTS, pretrained=False).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    size = config.input_size
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    points = size * torch.rand(batch, 2 * _JOINTS)
    root = symmetric_root(_covariances(batch, 2 * _JOINTS)).float()
    with torch.no_grad():
        below = [tensor.clone() for tensor in model.features(images)]

    def step(loss: str, taylor: bool, covariance: bool, whole: bool) -> None:
        maps, z, _ = model.features(images) if whole else below
        if covariance:
            seen = model.look(maps, z, taylor=taylor)
            mean, predicted = seen.mean, model.covariance_head(seen)
        else:
            mean, predicted = model.mean_head(maps, z).mean, None
        value = _loss(loss, mean, predicted, points, root, model.covariance_head.start_sigma.square().mean().sqrt())
        guarded_step(value, model.named_parameters(), optimizer, 5.0, "benchmark")

    figures: dict[str, float] = {"train_step_batch": batch, "train_step_input_size": size}
    for name, whole, count in (("pose", True, repeats), ("pose_heads", False, head_repeats)):
        calls = {
            "mse": lambda whole=whole: step("mse", False, False, whole),
            "nll": lambda whole=whole: step("nll", False, True, whole),
            "tic": lambda whole=whole: step("nll", True, True, whole),
            "bound": lambda whole=whole: step("wasserstein-bound", False, True, whole),
            "procrustes": lambda whole=whole: step("wasserstein-procrustes", True, True, whole),
        }
        times = alternate(calls, count)
        figures |= {f"{name}_{key}_ms": value for key, value in times.items()}
        suffix = "" if whole else "_heads_only"
        figures[f"pose_tic_over_nll{suffix}"] = times["tic"] / times["nll"]
        figures[f"pose_bound_over_mse{suffix}"] = times["bound"] / times["mse"]
        figures[f"pose_procrustes_over_mse{suffix}"] = times["procrustes"] / times["mse"]
    return figures


def _loss(name: str, mean: Tensor, predicted: Covariance | None, points: Tensor, root: Tensor, unit: Tensor) -> Tensor:
    covariance = factor = None
    if predicted is not None:
        # The bound compares a square factor with the root: the columns of the per-picture deviation are left out.
        covariance, factor = predicted.scatter / unit**2, predicted.factor[..., : root.shape[-1]] / unit
    value = LOSSES[name].function(Prediction(mean / unit, covariance, factor), Target(points / unit, None, root / unit))
    return value.mean() / points.shape[-1]


def _covariances(count: int, size: int) -> Tensor:
    factor = torch.randn(count, size, 2 * size, dtype=torch.float64)
    return 100.0 * factor @ factor.transpose(1, 2) / (2 * size)
