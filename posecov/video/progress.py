"""How far a film is: a bar on a terminal, a plain line now and then elsewhere."""

import time
from types import TracebackType
from typing import Any

from posecov.commands.terminal import complain

_EVERY = 10.0  # Seconds between plain lines.


class Progress:
    """Frames done, frames per second and time left, on stderr.

    >>> with Progress("walk.mp4", total=230) as progress:  # doctest: +SKIP
    ...     progress.advance()
    """

    def __init__(self, name: str, total: int | None, skipped: int = 0):
        """Prepare.

        Args:
            name: of the film.
            total: frames that are expected, or None.
            skipped: frames at the start that an earlier run has done; they say nothing about the speed.
        """
        self._name, self._total, self._skipped = name, total, skipped
        self._done = 0
        self._start = self._latest = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
            self._bar = Bar(TextColumn("{task.description}", markup=False), *columns, console=console, transient=True)
            self._task = self._bar.add_task(self._name, total=self._total, speed="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def speed(self) -> float:
        """Frames per second so far, without those skipped."""
        return (self._done - self._skipped) / max(self._latest - self._start, 1e-9)

    def advance(self) -> None:
        """One more frame is done."""
        self._done += 1
        now = self._latest = time.monotonic()
        if self._done <= self._skipped:
            self._start = now
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, speed=f"{self.speed:.1f} frames/s")
        elif now - self._said >= _EVERY:
            self._said = now
            complain(plain_line(self._name, self._done, self._total, self.speed))


def plain_line(name: str, done: int, total: int | None, speed: float) -> str:
    """Progress in words."""
    of, left = "", ""
    if total is not None and total >= done:
        of = f" of {total}"
        if speed > 0:
            seconds = round((total - done) / speed)
            left = f", {seconds // 60}:{seconds % 60:02d} left"
    return f"{name}: {done}{of} frames, {speed:.1f} frames/s{left}"
