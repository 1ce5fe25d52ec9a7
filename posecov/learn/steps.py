"""One guarded step of an optimiser: what every training loop here does after it has a loss."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from posecov.errors import PosecovError


def guarded_step(
    loss: Tensor, parameters: Iterable[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer, clip: float, where: str
) -> float:
    """Backward, clip, step. Nothing is changed when the loss or a gradient is not finite.

    Args:
        loss: scalar.
        parameters: names and parameters that learn.
        optimizer: over those parameters.
        clip: largest norm of the gradient; ``math.inf`` only measures it.
        where: the batch, for the message: phase, epoch, step.

    Returns:
        Norm of the gradient before clipping.

    Raises:
        PosecovError: names the batch, and the first parameter whose gradient is not finite.
    """
    check_loss(loss, where)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    return apply_gradient(parameters, optimizer, clip, where)


def check_loss(loss: Tensor, where: str) -> None:
    """Raises PosecovError that names the batch when the loss is not finite."""
    if not torch.isfinite(loss):
        raise PosecovError(f"{where}: the loss is {loss.item()}; lower the learning rate, or look at this batch's labels")


def apply_gradient(
    parameters: Iterable[tuple[str, nn.Parameter]],
    optimizer: torch.optim.Optimizer,
    clip: float,
    where: str,
    scaler: torch.amp.GradScaler | None = None,
) -> float:
    """Clip and step, with the gradients that are there. Nothing is changed when one is not finite.

    Args:
        scaler: of the loss that the gradients are of. While it looks for a scale, gradients that are not finite leave the step
            out and lower the scale.

    Returns:
        Norm of the gradient before clipping; not finite where the step was left out.

    Raises:
        PosecovError: names the batch, and the first parameter whose gradient is not finite.
    """
    scaled = scaler is not None and scaler.is_enabled()
    if scaled:
        scaler.unscale_(optimizer)  # type: ignore[union-attr]
    learning = [(name, parameter) for name, parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for _, parameter in learning])  # type: ignore[misc]
    finite = bool(torch.isfinite(norm))
    if not finite and not (scaled and scaler.get_scale() > 1.0):  # type: ignore[union-attr]
        name = next((n for n, p in learning if not torch.isfinite(p.grad).all()), "all parameters together")  # type: ignore[arg-type]
        optimizer.zero_grad(set_to_none=True)
        raise PosecovError(f"{where}: the gradient of {name} is not finite; lower the learning rate")
    if finite:
        nn.utils.clip_grads_with_norm_([parameter for _, parameter in learning], clip, norm)
        optimizer.step()
    else:
        optimizer.zero_grad(set_to_none=True)
    if scaled:
        scaler.update()  # type: ignore[union-attr]
    return norm.item()
