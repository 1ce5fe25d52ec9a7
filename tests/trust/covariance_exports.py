"""Networks of every form with random weights in their heads, exported by `posecov.learn.export`. Needs torch."""

import dataclasses

import numpy as np
import torch
from covariance_networks import KINDS, redrawn

from posecov.learn.build import build_model
from posecov.learn.config import CovarianceConfig, DataConfig, TrainConfig
from posecov.learn.export import to_onnx
from posecov.learn.model import ModelConfig, PoseModel
from posecov.skeleton import load_skeleton

_FORMS = ("correlation", "factor", "diagonal")
_LOSSES = ("student-t-mixture", "student-t", "gaussian")


def exported(number: int) -> bytes:
    """The file of a small network; the number decides on everything."""
    config = TrainConfig(
        name=f"random-{number}",
        device="cpu",
        skeleton=("lsp14", "coco17", "mpii16")[number % 3],
        data=DataConfig(),
        model=ModelConfig(
            backbone="test_efficientnet", pretrained=False, input_size=64, frozen_stages=-1, channels=16, latent=6, basis=4,
            hidden=16, rank=2, window=2 * (number % 2), scatter=_FORMS[number // 2 % 3],
        ),
        covariance=dataclasses.replace(CovarianceConfig(), phase2_loss=_LOSSES[number // 3 % 3] if number % 2 else _LOSSES[0]),
    )  # fmt: skip
    torch.manual_seed(number)
    model = build_model(config, load_skeleton(config.skeleton)).eval()
    redraw(model, KINDS[number % len(KINDS)], number)
    return to_onnx(model, config, {})


@torch.no_grad()
def redraw(model: PoseModel, kind: str, seed: int) -> None:
    """Other weights in the heads (`redrawn`), each layer's with even odds, and a calibration to the ends of what one finds."""
    rng, head = np.random.default_rng(seed), model.covariance_head
    for part in (model.to_latent, model.mean_head, head):
        for name, parameter in part.named_parameters():
            if name != "log_degrees" and rng.random() < 0.5:
                values = redrawn(rng, parameter.numpy(), kind)
                if kind == "plain":
                    values = values + rng.standard_normal(parameter.shape)
                parameter.copy_(torch.from_numpy(values).float())
    head.calibration.copy_(torch.from_numpy(np.exp(rng.uniform(-3.35, 3.35, len(head.calibration)))))
    head.shrinkage.fill_(float(rng.choice([0.0, 0.3])))
    head.log_degrees.fill_(float(rng.choice(np.log([0.05, 4.0, 1000.0]))))
    if head.exchange is not None:
        head.exchange.temperature.fill_(float(rng.choice([0.14, 1.0, 7.4])))
        head.exchange.shift.fill_(float(rng.choice([-5.0, 0.0, 5.0])))
