"""Memory, handles and threads of a process and its children over time: samples, table, plot, and whether they are flat.

The criterion: what comes after the warm-up, the first quarter of the samples unless said otherwise, has a slope (Theil-Sen's
median of the slopes between all pairs, which single peaks do not move). Times the length of that part it is the growth, and the
growth must not be more than a bound: for memory `MEMORY_MB` or `MEMORY_SHARE` of the median, whichever is more; for handles and
threads `COUNT`. Linux only.
"""

import csv
import io
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

import numpy as np
from scipy.stats import theilslopes

from posecov.errors import PosecovError
from posecov.files import write_atomic

MEMORY_MB = 8.0
"""Growth of memory that is still flat."""

MEMORY_SHARE = 0.03
"""The same as a share of the median."""

COUNT = 1.0
"""Growth of handles and threads that is still flat."""

WARM_UP = 0.25
"""Share of the samples before anything is judged."""

_PAGE = 4096
_MOST = 800  # Points of a slope: it takes all their pairs.


@dataclass(frozen=True)
class Sample:
    """A process and its children at one moment.

    Attributes:
        seconds: since the watch began.
        done: requests or frames so far.
        memory_mb: resident, of all together.
        handles: open.
        threads: alive.
    """

    seconds: float
    done: int
    memory_mb: float
    handles: int
    threads: int


class Watch:
    """Samples a process once a second, in a thread of its own, until told to stop or the process is gone."""

    def __init__(self, pid: int, done: Callable[[], int], every: float = 1.0):
        """Begin.

        Args:
            pid: of the process.
            done: how much has been done.
            every: seconds between samples.
        """
        self.samples: list[Sample] = []
        self._pid, self._done, self._every = pid, done, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="watch")
        self._thread.start()

    def stop(self) -> list[Sample]:
        """The samples."""
        self._stop.set()
        self._thread.join()
        return self.samples

    def _work(self) -> None:
        start = time.monotonic()
        while (counts := counts_of(self._pid)) is not None:
            self.samples.append(Sample(round(time.monotonic() - start, 2), self._done(), *counts))
            if self._stop.wait(self._every):
                return


def counts_of(pid: int) -> tuple[float, int, int] | None:
    """Memory in MB, handles and threads of a process with its children; None once it is gone."""
    memory = handles = threads = 0
    for member in _family(pid):
        place = Path("/proc", str(member))
        try:
            pages = int((place / "statm").read_text().split()[1])
            open_now = sum(1 for _ in (place / "fd").iterdir())
            alive = sum(1 for _ in (place / "task").iterdir())
        except OSError:
            if member == pid:
                return None
            continue
        memory, handles, threads = memory + pages, handles + open_now, threads + alive
    return (round(memory * _PAGE / 1e6, 2), handles, threads) if memory else None


def _family(pid: int) -> list[int]:
    """A process and everybody who descends from it."""
    parents: dict[int, int] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                # The name, in parentheses, may hold anything.
                parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    if pid not in parents:
        return []
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


@dataclass(frozen=True)
class Verdict:
    """One of memory, handles and threads over a run.

    Attributes:
        what: of the three.
        median: after the warm-up.
        peak: over the whole run.
        growth: after the warm-up, by its slope.
        bound: of the growth.
    """

    what: str
    median: float
    peak: float
    growth: float
    bound: float

    @property
    def flat(self) -> bool:
        """Whether it grows no more than it may."""
        return self.growth <= self.bound

    def __str__(self) -> str:
        says = "flat" if self.flat else "NOT FLAT"
        name = self.what.removesuffix("_mb")
        growth = f"growth {self.growth:+.2f} (bound {self.bound:.2f})"
        return f"{name}: median {self.median:.5g}, peak {self.peak:.5g}, {growth}: {says}"


def judge(samples: Sequence[Sample], warm_up: float = WARM_UP, counts: bool = True) -> list[Verdict]:
    """The verdicts on a run.

    Args:
        samples: of the run.
        warm_up: share of them that is not judged.
        counts: whether handles and threads are judged too, which a load with changing connections moves.

    Raises:
        PosecovError: too few samples for a slope.
    """
    late = samples[int(warm_up * len(samples)) :]
    if len(late) < 10:
        raise PosecovError(f"{len(samples)} samples are too few to see a slope; let it run longer")
    verdicts = []
    for what in ("memory_mb", "handles", "threads") if counts else ("memory_mb",):
        values = np.array([getattr(sample, what) for sample in late], dtype=np.float64)
        seconds = np.array([sample.seconds for sample in late])
        thinned = np.linspace(0, len(late) - 1, min(len(late), _MOST)).astype(int)
        slope = theilslopes(values[thinned], seconds[thinned])[0]
        median = float(np.median(values))
        bound = max(MEMORY_MB, MEMORY_SHARE * median) if what == "memory_mb" else COUNT
        peak = float(max(getattr(sample, what) for sample in samples))
        verdicts.append(Verdict(what, median, peak, float(slope * (seconds[-1] - seconds[0])), bound))
    return verdicts


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """A row a sample, as CSV. Raises PosecovError when it cannot be written."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Sample))
    writer.writerows(map(astuple, samples))
    write_atomic(path, text.getvalue().encode())


def plot_samples(
    path: Path, samples: Sequence[Sample], title: str, marks: Sequence[float] = (), warm_up: float = WARM_UP
) -> None:
    """Memory over time, handles and threads below, as a small PNG.

    Args:
        path: of the picture.
        samples: of the run.
        title: above it.
        marks: seconds at which another part of the run begins.
        warm_up: share of the samples that is not judged, shaded where there are no parts.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {name: [asdict(sample)[name] for sample in samples] for name in asdict(samples[0])}
    minutes = np.array(rows["seconds"]) / 60
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 3.6), height_ratios=(2, 1), layout="constrained")
    above.plot(minutes, rows["memory_mb"], color="#1f5fa8", linewidth=1)
    above.set(ylabel="memory, MB", title=title, ylim=(0, 1.1 * max(rows["memory_mb"])))
    below.plot(minutes, rows["handles"], color="#b5541c", linewidth=1, label="handles")
    below.plot(minutes, rows["threads"], color="#3b7d3b", linewidth=1, label="threads")
    below.set(xlabel="minutes", ylim=(0, None))
    below.legend(loc="upper right", fontsize="small", ncols=2)
    for axes in (above, below):
        for mark in marks:
            axes.axvline(mark / 60, color="0.6", linewidth=0.8, linestyle=":")
        if not marks:
            axes.axvspan(0, minutes[int(warm_up * len(samples))], color="0.92", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
