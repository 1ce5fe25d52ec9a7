"""The threads that pictures are worked on in, and who may come in."""

import asyncio
import contextlib
import contextvars
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from posecov.server.batching import STOP
from posecov.server.limits import Limits
from posecov.server.refusals import Refused, busy

_Answer = TypeVar("_Answer")

_GIVE_WAY = 10  # Of -20 to 19, the highest gives way to all others.


class Workers:
    """Threads for `Limits.max_concurrent` pictures and places for `Limits.max_waiting` more. Belongs to one event loop.

    Attributes:
        inside: pictures at work or waiting. One whose time is over counts until its thread is free: a thread cannot be stopped.
        held: bytes of bodies that have arrived and are not answered.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.max_concurrent, thread_name_prefix="pose", initializer=_give_way)
        self.inside = 0
        self.held = 0

    def check_room(self) -> None:
        """Raises Refused when there is no place for another picture."""
        if self.inside >= self._limits.places:
            raise busy(f"{self._limits.places} pictures are being worked on or waiting")

    def hold(self, count: int) -> None:
        """Account for bytes that have arrived. Raises Refused when they are more than all places together may have."""
        self.held += count
        if self.held > self._limits.places * self._limits.max_bytes:
            raise busy("too much is arriving at once")

    def release(self, count: int) -> None:
        """Forget bytes that were held."""
        self.held -= count

    async def run(self, work: Callable[[], _Answer]) -> _Answer:
        """Do ``work`` in a thread. Raises Refused when there is no place or no time is left, and what ``work`` raises."""
        self.check_room()
        loop, stop = asyncio.get_running_loop(), threading.Event()
        context = contextvars.copy_context()
        context.run(STOP.set, stop)
        self.inside += 1
        answer = loop.create_future()
        future = self._threads.submit(context.run, work)
        # asyncio.wrap_future would wake the loop a second time.
        future.add_done_callback(lambda done: loop.call_soon_threadsafe(self._leave, done, answer))
        deadline = asyncio.timeout(self._limits.timeout)
        try:
            async with deadline:
                return await answer
        except TimeoutError:
            if not deadline.expired():
                raise
            raise Refused(504, f"it took longer than {self._limits.timeout:g} s; send a smaller picture, or boxes") from None
        finally:
            stop.set()
            future.cancel()

    def close(self) -> None:
        """Wait for the threads; work that has not started is dropped."""
        self._threads.shutdown(cancel_futures=True)

    def _leave(self, done: Future[Any], answer: asyncio.Future[Any]) -> None:
        self.inside -= 1
        if answer.done():  # Nobody waits any more.
            return
        if done.cancelled():
            answer.cancel()
        elif (error := done.exception()) is not None:
            answer.set_exception(error)
        else:
            answer.set_result(done.result())


def _give_way() -> None:
    """The network's thread, on which everybody waits, is to run before this one does. Linux alone has priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _GIVE_WAY)
