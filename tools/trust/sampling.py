"""What a process holds over time: memory, open files, threads and children, sampled from /proc, with a plot and a verdict."""

import contextlib
import csv
import io
import itertools
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scipy.stats import theilslopes

from posecov.files import write_atomic

WARM_UP = 0.25
"""This share of the samples of a part does not count: caches fill, allocators reach their size."""

BOUNDS = {"memory": 0.03, "files": 0.0, "threads": 0.0}
"""What each may grow by after that, as a share of its median; files and threads by less than one."""


class Sample(NamedTuple):
    """One look.

    Attributes:
        seconds: since the first one.
        part: of the work that the process was at.
        memory: resident, MB (10^6 bytes), of the process alone.
        files: open file descriptors.
        threads: of the process.
        children: processes that it has started and that still run.
        children_memory: resident, MB, of them together; pages that they share with the process count again.
    """

    seconds: float
    part: str
    memory: float
    files: int
    threads: int
    children: int
    children_memory: float


def watch(process: subprocess.Popen, part: Callable[[], str], every: float = 0.5) -> list[Sample]:
    """Sample a process until it has ended.

    Args:
        part: tells what it is at.
        every: so many seconds.
    """
    samples: list[Sample] = []
    start = time.monotonic()
    while process.poll() is None:
        with contextlib.suppress(OSError, KeyError):  # It may end while it is looked at.
            samples.append(Sample(round(time.monotonic() - start, 2), part(), *look(process.pid)))
        time.sleep(every)
    return samples


def look(pid: int) -> tuple[float, int, int, int, float]:
    """What follows ``part`` in a `Sample`. Raises OSError or KeyError when the process is not there."""
    status = _status(pid)
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    theirs = 0.0
    for child in children:
        with contextlib.suppress(OSError, KeyError):
            theirs += _megabytes(_status(child))
    return _megabytes(status), len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"]), len(children), theirs


def growth(samples: Sequence[Sample], what: str) -> tuple[float, float]:
    """By how much something grows from the end of the warm-up to the end, by the median of all slopes; and its median."""
    kept = samples[int(WARM_UP * len(samples)) :]
    values = [float(getattr(sample, what)) for sample in kept]
    times = [sample.seconds for sample in kept]
    return float(theilslopes(values, times)[0]) * (times[-1] - times[0]), sorted(values)[len(values) // 2]


def verdict(samples: Sequence[Sample], parts: Mapping[str, int]) -> tuple[list[str], bool]:
    """Rows of a Markdown table, and whether everything is flat.

    Args:
        parts: names of parts to epochs (or whatever is counted) of each; parts with fewer than 20 samples are not flat.
    """
    rows = ["| part | of what | median | grew by | per 100 | may grow by | flat |", "|---|---|---|---|---|---|---|"]
    fine = True
    for part, count in parts.items():
        mine = [sample for sample in samples if sample.part == part]
        if len(mine) < 20:
            rows.append(f"| {part} | only {len(mine)} samples | | | | | no |")
            fine = False
            continue
        for what, bound in BOUNDS.items():
            grown, median = growth(mine, what)
            allowed = max(bound * median, 0.99 if what != "memory" else 0.0)
            flat = grown <= allowed
            fine &= flat
            each = 100 * grown / ((1 - WARM_UP) * count)
            unit = " MB" if what == "memory" else ""
            figures = f"{median:.0f}{unit} | {grown:+.2f} | {each:+.2f} | {allowed:.2f}"
            rows.append(f"| {part} | {what} | {figures} | {'yes' if flat else 'NO'} |")
    return rows, fine


def write_csv(path: Path, samples: Sequence[Sample]) -> None:
    """A row a sample."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Sample._fields)
    writer.writerows(samples)
    write_atomic(path, text.getvalue().encode())


def plot(path: Path, samples: Sequence[Sample], title: str) -> None:
    """A PNG: memory above, files, threads and children below, a line where a part begins."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [sample.seconds / 60 for sample in samples]
    above.plot(minutes, [sample.memory for sample in samples], label="process")
    above.plot(minutes, [sample.children_memory for sample in samples], label="its children", alpha=0.6)
    above.set_ylabel("resident, MB")
    above.set_title(title)
    for what in ("files", "threads", "children"):
        below.plot(minutes, [getattr(sample, what) for sample in samples], label=what)
    below.set_xlabel("minutes")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
        for last, sample in itertools.pairwise(samples):
            if sample.part != last.part:
                axes.axvline(sample.seconds / 60, color="0.6", linewidth=0.8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    write_atomic(path, buffer.getvalue())


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _megabytes(status: Mapping[str, str]) -> float:
    return int(status["VmRSS"].removesuffix("kB")) * 1024 / 1e6
