"""Processes that train together, as torchrun would start them, without its seconds of start: forks of the test's own."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch


def run_together(function: Callable[[int], Any], count: int = 2) -> list[Any]:
    """What ``function(rank)`` returns in each process; the exception it raises; or None where the process was killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    pipes, running = [], []
    for rank in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_one, args=(function, rank, count, port, sender))
        process.start()
        sender.close()
        pipes.append(receiver)
        running.append(process)
    results = []
    for receiver in pipes:
        try:
            results.append(receiver.recv())
        except EOFError:
            results.append(None)
    for process in running:
        process.join(60)
        assert not process.is_alive()
    return results


def _one(function: Callable[[int], Any], rank: int, count: int, port: int, sender: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GROUP_RANK": "0"}
    try:
        result = function(rank)
    except Exception as error:
        result = error
    sender.send(result)
    # Whatever pytest would do at the end of a process is the parent's business.
    os._exit(0)
