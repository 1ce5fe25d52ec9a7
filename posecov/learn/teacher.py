"""Another trained mean that shows where joints are, in place of labels that are wrong or missing: distillation.

Hinton, Vinyals and Dean, arXiv 1503.02531, with the softmax over places in place of classes.
"""

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from posecov.errors import PosecovError
from posecov.learn.backbone import normalisation
from posecov.learn.checkpoint import load_checkpoint, part
from posecov.learn.config import TrainConfig
from posecov.learn.model import PoseModel, load_mean


class Teacher:
    """A frozen mean at the pupil's input size.

    Args:
        path: checkpoint of a run of the same skeleton, whose network may be another one.
        pupil: configuration of the run that learns from it.
        joints: J.
        device: of the pupil.

    Raises:
        PosecovError: no checkpoint of a mean, or one of another skeleton, or a network that wants pixels scaled another way.
    """

    def __init__(self, path: Path, pupil: TrainConfig, joints: int, device: torch.device):
        tensors, facts = load_checkpoint(path)
        try:
            config = TrainConfig.from_dict(facts["config"], str(path))
            state = part("average" if facts["part"] == "mean" else "model", tensors)
            if config.skeleton != pupil.skeleton:
                raise PosecovError(f"{path}: cannot teach; its skeleton is {config.skeleton}, here {pupil.skeleton}")
            if normalisation(config.model.backbone) != normalisation(pupil.model.backbone):
                raise PosecovError(f"{path}: cannot teach; its backbone {config.model.backbone} scales pixels another way")
            settings = dataclasses.replace(config.model, input_size=pupil.model.input_size)
            self.model = PoseModel(settings, joints, pretrained=False)
            load_mean(self.model, state)
        except (KeyError, RuntimeError) as error:
            raise PosecovError(f"{path}: cannot teach; it holds no mean ({str(error).splitlines()[0][:120]})") from None
        self.model.to(device).to(memory_format=torch.channels_last).eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Normalised crops (N, 3, S, S) to the softmax of each joint over all positions, (N, J, P)."""
        return self.model.mean(images).probabilities
