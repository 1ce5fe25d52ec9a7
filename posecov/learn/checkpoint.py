"""Checkpoints: one safetensors file with the rest as JSON in its header. Nothing is ever unpickled."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from posecov.errors import PosecovError
from posecov.files import write_atomic
from posecov.learn.upgrades import upgrade

FORMAT = 1


def save_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts atomically, with a checksum over both.

    Args:
        tensors: flat names to tensors; see `flatten_state`.
        facts: anything JSON can hold (configuration, epoch, history).

    Raises:
        PosecovError: the disk is full, or the folder cannot be written; the old file stays.
    """
    clean = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}
    told = json.dumps({"format": FORMAT, **facts})
    write_atomic(path, save(clean, metadata={"posecov": told, "sha256": _checksum(told, clean)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote, also an earlier release's. The checksum may be missing, as older files have none.

    Raises:
        PosecovError: missing, damaged, or not a posecov checkpoint.
    """
    if not Path(path).is_file():
        raise PosecovError(f"{path}: no such checkpoint")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        facts = json.loads(header["posecov"])
        version = facts["format"]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError):
        raise PosecovError(f"{path}: not a posecov checkpoint, or a damaged one") from None
    if version != FORMAT:
        raise PosecovError(f"{path}: checkpoint format {version}, this posecov reads {FORMAT}; a newer posecov is needed")
    if "sha256" in header and header["sha256"] != _checksum(header["posecov"], tensors):
        raise PosecovError(f"{path}: damaged, its content does not match its checksum; restore a copy, or remove it")
    upgrade(tensors, facts)
    return tensors, facts


def _checksum(told: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(told.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def flatten_state(prefix: str, state: dict[str, Any]) -> dict[str, Tensor]:
    """A module's or optimizer's state dictionary as flat names to tensors (numbers become tensors)."""
    flat: dict[str, Tensor] = {}
    for key, value in state.items():
        name = f"{prefix}/{key}"
        if isinstance(value, dict):
            flat |= flatten_state(name, value)
        elif isinstance(value, Tensor):
            flat[name] = value
        else:
            flat[name] = torch.tensor(value)
    return flat


def part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {name.removeprefix(prefix + "/"): value for name, value in tensors.items() if name.startswith(prefix + "/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The per-parameter state of an optimizer, flat."""
    return flatten_state("optimizer", {str(k): v for k, v in optimizer.state_dict()["state"].items()})


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took. Learning rates are the schedule's business."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimizer", tensors).items():
        index, key = name.split("/", 1)
        state.setdefault(int(index), {})[key] = value
    full = optimizer.state_dict()
    full["state"] = state
    optimizer.load_state_dict(full)


class Average:
    """Exponential moving average of a state dictionary, warmed up so that early steps do not linger."""

    def __init__(self, state: dict[str, Tensor], decay: float):
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone() for name, value in state.items()}

    @torch.no_grad()
    def update(self, state: dict[str, Tensor]) -> None:
        """Take one step towards a newer state; names that the average does not hold are ignored."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, mine in self.state.items():
            if mine.is_floating_point():
                mine.lerp_(state[name].detach(), 1.0 - decay)
            else:
                mine.copy_(state[name])
