"""Several processes that train one model: who they are, and what they tell each other.

`torchrun`, or whatever sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, starts them. Where nobody did there is
one process, of rank 0, and nothing here communicates. Tensors on the CPU travel by gloo, those on a GPU by NCCL.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from posecov.errors import PosecovError

GO_ON = "the same command goes on from the last checkpoint"
_PATIENCE = datetime.timedelta(minutes=10)
_store: dist.Store | None = None


class SaidError(PosecovError):
    """Another process has said what is wrong; this one only ends."""


class LostError(PosecovError):
    """Another process is gone, and did not say why."""


def launched() -> tuple[int, int]:
    """Rank and number of processes, as the environment has them."""
    count = _number("WORLD_SIZE", 1)
    return (_number("RANK", 0), count) if count > 1 else (0, 1)


def is_first_here() -> bool:
    """Whether this is the first process on its machine, as the environment has it."""
    return launched()[1] == 1 or _number("LOCAL_RANK", 0) == 0


def rank() -> int:
    """Of this process; 0 outside `join` and `leave`."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Of the processes; 1 outside `join` and `leave`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes and tells."""
    return rank() == 0


def local_device(device: str) -> str:
    """The device of this process: where each has a GPU, the one with its number on this machine.

    Raises:
        PosecovError: more processes than GPUs.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cuda" or launched()[1] == 1:
        return device
    number, there = _number("LOCAL_RANK", 0), torch.cuda.device_count()
    if number >= there:
        raise PosecovError(f"process {number + 1} on this machine finds {there} GPUs; start one each (--nproc-per-node)")
    return f"cuda:{number}"


def meet() -> None:
    """Find the place where the processes that the environment tells of, if any, leave word for one another.

    Raises:
        PosecovError: it cannot be found.
    """
    global _store
    if launched()[1] > 1 and _store is None:
        try:
            _store = next(iter(dist.rendezvous("env://", timeout=_PATIENCE)))[0]
        except (RuntimeError, ValueError) as error:
            raise _no_meeting(error) from None


def join(device: str) -> None:
    """Become one of the processes that have met, if they have.

    Args:
        device: ``cpu`` or ``cuda:0`` and so on, what this process computes on.

    Raises:
        PosecovError: the others do not come.
    """
    if _store is None or dist.is_initialized():
        return
    number, everybody = launched()
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    try:
        dist.init_process_group(
            backend, store=dist.PrefixStore("group", _store), rank=number, world_size=everybody, timeout=_PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        raise _no_meeting(error) from None


def leave() -> None:
    """Part from the others, all at once; whoever goes on does so alone."""
    global _store
    if dist.is_initialized():
        _guarded(dist.barrier)
        dist.destroy_process_group()
    _store = None


def tell(error: BaseException) -> BaseException:
    """What this process should end with, so that one line on each machine says what happened.

    The first to fail keeps its error and leaves word; the others, which fail because it is gone, find the word.
    """
    if _store is None:
        return error
    node = _number("GROUP_RANK", 0)
    try:
        if _store.add("failures", 1) == 1:
            _store.set("failure", f"{node} process {launched()[0]}: {_first_line(error)}")
            return error
        where, what = _store.get("failure").decode().split(" ", 1)
    except RuntimeError:  # Whoever kept the word is gone too.
        return error
    told_here = int(where) == node or _number("LOCAL_RANK", 0) > 0
    return SaidError("") if told_here else PosecovError(what)


def sum_over(tensor: Tensor) -> Tensor:
    """Add up over the processes, in place. All of them get the same bits."""
    if count() > 1:
        _guarded(dist.all_reduce, tensor)
    return tensor


def from_main(value: Any) -> Any:
    """The main process's value of anything picklable, tensors included; what the others bring is ignored."""
    if count() == 1:
        return value
    box = [value if is_main() else None]
    _guarded(dist.broadcast_object_list, box, src=0, device=torch.device("cpu"))
    return box[0]


def tensors_from_main(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with the main process's."""
    if count() > 1:
        for tensor in tensors:
            _guarded(dist.broadcast, tensor, src=0)


def insist_on_same(what: str, value: str) -> None:
    """Raises PosecovError unless all processes bring the same text; ``what`` names it."""
    if from_main(value) != value:
        raise PosecovError(f"{what}: process {rank()} has others than process 0; give all machines the same")


def own_range(total: int) -> range:
    """Which of ``total`` things are this process's."""
    sizes = split_sizes(total, count())
    start = sum(sizes[: rank()])
    return range(start, start + sizes[rank()])


def collect(mine: Tensor, total: int) -> Tensor:
    """Rows of all processes, in order, for the main one; the others get their own back.

    Args:
        mine: (n, ...) the rows of `own_range`, on the CPU.
        total: N, over all processes.

    Returns:
        (N, ...) for the main process.
    """
    if count() == 1:
        return mine
    if not is_main():
        if mine.numel():
            _guarded(dist.send, _bytes(mine.contiguous()), dst=0)
        return mine
    sizes = split_sizes(total, count())
    whole = mine.new_empty((total, *mine.shape[1:]))
    whole[: sizes[0]] = mine
    for sender in range(1, count()):
        rows = whole[sum(sizes[:sender]) : sum(sizes[: sender + 1])]
        if rows.numel():
            _guarded(dist.recv, _bytes(rows), src=sender)
    return whole


def split_sizes(total: int, pieces: int) -> list[int]:
    """Sizes of ``pieces`` parts of ``total`` things, as equal as can be, the larger ones first."""
    size, more = divmod(total, pieces)
    return [size + (number < more) for number in range(pieces)]


def _guarded(call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    try:
        call(*arguments, **named)
    except RuntimeError as error:
        raise LostError(f"another process of this training is gone ({_first_line(error)}); {GO_ON}") from None


def _bytes(tensor: Tensor) -> Tensor:
    """The memory of a contiguous tensor: gloo does not know every type."""
    return tensor.view(-1).view(torch.uint8)


def _no_meeting(error: Exception) -> LostError:
    number, everybody = launched()
    return LostError(f"process {number} of {everybody} cannot meet the others ({_first_line(error)})")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _number(name: str, otherwise: int) -> int:
    with contextlib.suppress(ValueError):
        return int(os.environ.get(name, otherwise))
    return otherwise
