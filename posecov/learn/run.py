"""A run's folder: settings, history as CSV and picture, checkpoints; and the progress a person watches."""

import contextlib
import csv
import io
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from posecov.errors import PosecovError
from posecov.files import write_atomic
from posecov.learn.config import TrainConfig, load_config
from posecov.learn.processes import is_main

COLUMNS = (
    "part", "epoch", "loss", "error_px", "criterion", "validation_pck", "validation_error_px",
    "validation_nll", "k1_share", "k2_share", "degrees_of_freedom", "learning_rate", "images_per_second", "seconds",
)  # fmt: skip

_SHOWN = ("epoch", "loss", "error_px", "criterion", "validation_pck", "validation_error_px", "validation_nll", "seconds")

log = logging.getLogger(__name__)
console = Console(stderr=True)


@dataclass
class Run:
    """The folder of one training run.

    Attributes:
        config: its settings.
        folder: where it lives.
        history: one row per epoch; keys among `COLUMNS`.
    """

    config: TrainConfig
    folder: Path
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, config: TrainConfig) -> "Run":
        """Make or reopen the folder; the main process alone does, the others only learn its name.

        Raises:
            PosecovError: it cannot be made, or holds a run with other settings.
        """
        folder = Path(config.out or f"runs/{config.name}")
        if not is_main():
            return cls(config, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PosecovError(f"{folder}: cannot be made ({error.strerror}); choose another with --out") from None
        settings = folder / "config.yaml"
        text = yaml.safe_dump(config.to_dict(), sort_keys=False)
        run = cls(config, folder)
        # Settings of a run that never got to a checkpoint bind nobody.
        if settings.exists() and run.last.exists():
            check_same_settings(settings, load_config(settings, of_a_run=True), config)
        for leftover in folder.glob(".posecov-*.part"):  # Of a process that was killed while it wrote.
            leftover.unlink(missing_ok=True)
        write_atomic(settings, text.encode())
        return run

    @property
    def last(self) -> Path:
        """Checkpoint to resume from."""
        return self.folder / "last.safetensors"

    @property
    def best(self) -> Path:
        """Checkpoint to export."""
        return self.folder / "best.safetensors"

    def record(self, row: dict[str, Any]) -> None:
        """Add an epoch to the history, and rewrite metrics.csv and curves.png; the main process alone does."""
        if not is_main():
            return
        self.history.append(row)
        self.write_history()
        shown = ", ".join(f"{k} {row[k]:.4g}" if isinstance(row[k], float) else f"{k} {row[k]}" for k in _SHOWN if k in row)
        log.info("%s: %s", row["part"], shown)

    def write_history(self) -> None:
        """metrics.csv and curves.png from the history."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.history:
            writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in row.items()})
        write_atomic(self.folder / "metrics.csv", text.getvalue().encode())
        write_atomic(self.folder / "curves.png", _curves(self.history))


# Settings that may change between a run and its continuation.
FREE = ("out", "threads", "workers", "device", "checkpoint_minutes", "data.root")


def check_same_settings(path: Path, old: TrainConfig, new: TrainConfig) -> None:
    """Raises PosecovError that names the first setting in which a run, of which ``path`` tells, differs from what is wanted."""
    there, here = settings_by_name(old.to_dict()), settings_by_name(new.to_dict())
    for name, value in here.items():
        if name not in FREE and there[name] != value:
            raise PosecovError(
                f"{path}: this folder holds a run with another setting {name} ({there[name]!r}, now {value!r}); "
                "choose another folder with --out, or remove it"
            )


@contextlib.contextmanager
def of_this_recipe(path: Path) -> Iterator[None]:
    """Within it the checkpoint of a run is put back. Raises PosecovError that names it when it does not fit."""
    try:
        yield
    except (KeyError, RuntimeError) as error:
        raise PosecovError(f"{path}: not a checkpoint of this recipe ({str(error).splitlines()[0][:120]})") from None


def settings_by_name(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting of nested ones by its full name, ``mean.batch`` and so on."""
    named: dict[str, Any] = {}
    for key, value in fields.items():
        named |= settings_by_name(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return named


def progress() -> Progress:
    """A progress bar with loss, images/s and time left; the main process alone shows it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not is_main(),
    )


class Clock:
    """Images per second, and whether it is time for a checkpoint."""

    def __init__(self, checkpoint_minutes: float):
        self.start = self.saved = time.monotonic()
        self.images, self.interval = 0, 60.0 * checkpoint_minutes

    def count(self, images: int) -> float:
        """Add images; returns images per second since the start."""
        self.images += images
        return self.images / max(self.seconds, 1e-9)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.start

    def due(self) -> bool:
        """Whether a checkpoint is due; asking resets the clock."""
        if time.monotonic() - self.saved < self.interval:
            return False
        self.saved = time.monotonic()
        return True


def _curves(history: Sequence[dict[str, Any]]) -> bytes:
    """A PNG with one panel per kind of figure."""
    from matplotlib.figure import Figure

    panels = {
        "mean: error, crop px": [("mean", "error_px", "train"), ("mean", "validation_error_px", "validation")],
        "mean: PCK": [("mean", "validation_pck", "validation")],
        "phase 1: its loss per person": [("phase 1", "criterion", "train")],
        "phase 2: its loss, and NLL in crop px, per person": [
            ("phase 1", "validation_nll", "phase 1, validation NLL"),
            ("phase 2", "criterion", "phase 2, train"),
            ("phase 2", "validation_nll", "phase 2, validation NLL"),
        ],
    }
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for part, key, label in lines:
            points = [(row["epoch"], row[key]) for row in history if row["part"] == part and key in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()
