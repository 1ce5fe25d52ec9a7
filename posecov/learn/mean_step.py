"""One step of the mean's training: in parts, on several processes, in less than float32; the same step for all of them.

Losses are sums over joints divided by the labelled joints of the whole step, whoever has them, so that gradients only need to
be added: over parts by autograd, over processes by one all-reduce of everything. `DistributedDataParallel` would average over
processes instead, and wants every process to have people in every step.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from posecov.learn import processes
from posecov.learn.config import MeanConfig
from posecov.learn.losses import joint_counts, mean_loss
from posecov.learn.model import PoseModel, normalise
from posecov.learn.samples import Batch
from posecov.learn.steps import apply_gradient, check_loss
from posecov.learn.teacher import Teacher


class MeanStep:
    """Does steps of the mean.

    Args:
        model: its backbone, decoder and mean head learn.
        optimizer: over them.
        settings: of the step.
        pixel: mean and standard deviation, see `backbone.normalisation`.
        device: of the model.
        teacher: that shows where joints are, see `MeanConfig`.
    """

    def __init__(
        self,
        model: PoseModel,
        optimizer: torch.optim.Optimizer,
        settings: MeanConfig,
        pixel: tuple[tuple[float, float, float], tuple[float, float, float]],
        device: torch.device,
        teacher: Teacher | None = None,
    ):
        self.teacher = teacher
        self.model, self.optimizer, self.settings, self.pixel, self.device = model, optimizer, settings, pixel, device
        learned = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        self.learning = [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in learned]
        self.dtype = getattr(torch, settings.precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def state(self) -> dict[str, Any]:
        """Of the scale of the loss, as JSON can hold it."""
        return self.scaler.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        if state:
            self.scaler.load_state_dict(state)

    def begin(self) -> None:
        """Make the model ready for steps, after it may have been used for something else."""
        self.model.train()
        if self.settings.frozen_statistics:
            for module in _normalisers(self.model):
                module.eval()
        self.statistics = [
            buffer
            for module in _normalisers(self.model)
            if module.training and module.track_running_stats
            for buffer in (module.running_mean, module.running_var)
            if buffer is not None
        ]

    def __call__(self, batch: Batch, sizes: Sequence[int], where: str) -> tuple[float, float, bool]:
        """One step of all processes together.

        Args:
            batch: this process's people; there may be none.
            sizes: of its parts, `samples.Share.sizes`.
            where: the batch, for messages.

        Returns:
            loss; mean error of the labelled joints in crop pixels, both of the whole step; whether weights moved.

        Raises:
            PosecovError: loss or gradient are not finite.
        """
        points, labelled = batch.points.to(self.device), batch.labelled.to(self.device)
        counts = processes.sum_over(joint_counts(self.model.mean_head.positions, points, labelled))
        together = len(sizes) > 1 or processes.count() > 1
        start = [buffer.clone() for buffer in self.statistics] if together else []
        moved = [torch.zeros_like(buffer) for buffer in start]
        sums = torch.zeros(3, device=self.device)
        self.optimizer.zero_grad(set_to_none=True)
        for crops, some_points, some_labelled in zip(
            batch.crops.split(list(sizes)), points.split(list(sizes)), labelled.split(list(sizes)), strict=True
        ):
            if not len(crops):
                continue
            loss, error = self._loss(crops, some_points, some_labelled, counts)
            check_loss(loss, where)
            self.scaler.scale(loss).backward()
            sums += torch.stack([loss.detach(), error, sums.new_tensor(float(len(crops)))])
            # Every part moves the statistics from where the step began, as parts on several processes do.
            for total, buffer, begun in zip(moved, self.statistics, start, strict=False):
                total.add_(buffer, alpha=float(len(crops)))
                buffer.copy_(begun)
        if processes.count() > 1:
            self._add_up(sums, moved)
        for buffer, total in zip(self.statistics, moved, strict=False):
            buffer.copy_(total / sums[2])
        norm = apply_gradient(self.learning, self.optimizer, self.settings.clip, where, self.scaler)
        return sums[0].item(), sums[1].item(), norm < float("inf")

    def _loss(self, crops: Tensor, points: Tensor, labelled: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        images = normalise(crops.to(self.device), *self.pixel).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            below = self.model.features(images)
        head = self.model.mean_head
        output = head(below.maps.float(), below.latent.float())
        return mean_loss(
            output.log_probabilities, output.mean, head.positions, points, labelled,
            self.settings.heatmap_sigma, self.settings.coordinate_weight, counts,
            None if self.teacher is None else self.teacher(images), self.settings.teacher_share,
        )  # fmt: skip

    def _add_up(self, sums: Tensor, moved: Sequence[Tensor]) -> None:
        """Gradients, sums and moved statistics, over the processes, in one message."""
        parameters = [parameter for _, parameter in self.learning]
        # A process without people in this step has no gradients; a parameter that nobody used stays without one.
        used = sums.new_tensor([float(parameter.grad is not None) for parameter in parameters])
        zeros = torch.zeros_like
        gradients = [zeros(parameter) if parameter.grad is None else parameter.grad for parameter in parameters]
        tensors = [*gradients, *moved, used, sums]
        flat = processes.sum_over(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        for tensor, summed in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view(tensor.shape))
        for parameter, gradient, known in zip(parameters, gradients, used.tolist(), strict=True):
            parameter.grad = gradient if known else None


def _normalisers(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
