"""What every experiment shares: cells that are computed once, tables, figures, and the command line around them.

A cell is the smallest piece that is worth keeping, such as one loss at one dimension. Its settings are its key; a command
that was stopped computes what is missing, and a cell whose settings have changed is computed again.
"""

import csv
import hashlib
import io
import json
import logging
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from posecov.errors import PosecovError
from posecov.files import reason, write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
console = Console(stderr=True)
Item = TypeVar("Item")
OptionsType = TypeVar("OptionsType")


@dataclass(frozen=True)
class Options:
    """What every experiment's command takes.

    Attributes:
        quick: a small form that takes less than two minutes; it shows that all works, not the figures.
        seeds: each is one network, or one start.
        out: folder for cells/*.json, NAME.csv, NAME.md and NAME.png; runs/experiments/NAME when not given.
        threads: of torch.
    """

    quick: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    out: str = ""
    threads: int = 1

    def folder(self, name: str) -> Path:
        """Where this experiment writes, made. Quick cells lie apart, so that they are never taken for the figures."""
        if not self.seeds:
            raise PosecovError("--seeds: none given")
        if len(set(self.seeds)) != len(self.seeds):
            raise PosecovError(f"--seeds: {' '.join(map(str, self.seeds))} names one twice")
        if self.threads < 1:
            raise PosecovError(f"--threads: {self.threads} is not a positive number")
        return made(Path(self.out or f"runs/experiments/{name}{'-quick' if self.quick else ''}"))


def made(folder: Path) -> Path:
    """The folder, made. Raises PosecovError when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PosecovError(f"{folder}: cannot be made ({reason(error)}); choose another with --out") from None
    return folder


def run_cell(folder: Path, key: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The result of a cell: read when it is there, computed and written otherwise.

    Args:
        folder: of the experiment; the cell lies in its ``cells``.
        key: plain values that decide the result: settings, seeds. Another key is another cell.
        compute: makes the result, of plain values. A number that is not finite comes back as None.

    Returns:
        The result, the same from the file and fresh.

    Raises:
        PosecovError: the file cannot be read or written.
    """
    settings = json.dumps(_plain(key), sort_keys=True)
    words = "-".join(str(value) for value in key.values() if isinstance(value, str | int | bool))
    name = re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-")[:80]
    path = made(folder / "cells") / f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:10]}.json"
    if path.exists():
        return _read(path)["result"]
    result = _plain(compute())
    write_atomic(path, (json.dumps({"key": json.loads(settings), "result": result}, indent=1) + "\n").encode())
    return result


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """All cells of an experiment, each with its ``key`` and ``result``, by file name."""
    return [_read(path) for path in sorted((folder / "cells").glob("*.json"))]


def _read(path: Path) -> dict[str, Any]:
    try:
        cell = json.loads(path.read_text())
        return {"key": dict(cell["key"]), "result": dict(cell["result"])}
    except OSError as error:
        raise PosecovError(f"{path}: cannot be read ({reason(error)})") from None
    except (ValueError, KeyError, TypeError):
        raise PosecovError(f"{path}: not a cell of an experiment; remove it to have it computed again") from None


def _plain(value: Any) -> Any:
    """Values that JSON holds; NaN and infinity, which it does not, as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    raise TypeError(f"a cell holds plain values, not {type(value).__name__}")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Rows as CSV; columns are those of all rows in the order they come up, unless given. None is an empty field."""
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    write_atomic(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV as text. Raises PosecovError when it cannot be read."""
    try:
        return list(csv.DictReader(io.StringIO(path.read_text())))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PosecovError(f"{path}: cannot be read ({reason(error)})") from None


def markdown_table(rows: Iterable[Sequence[str]], header: Sequence[str]) -> str:
    """A Markdown table of ready text; numbers to the right. Ends with a newline."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def spread(values: Sequence[float | None], digits: int = 2) -> str:
    """Mean and standard deviation over seeds, ``1.23 ± 0.04``; seeds without a finite value are counted behind it."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    failed = len(values) - len(finite)
    if not finite:
        return "not finite" if failed else "-"
    text = number(statistics.fmean(finite), digits)
    if len(finite) > 1:
        text += f" ± {number(statistics.stdev(finite), digits)}"
    return text + (f" ({failed} not finite)" if failed else "")


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table: fixed digits, or powers of ten where it is beyond 100,000; a dash for None."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.2g}" if abs(value) >= 1e5 else f"{value:.{digits}f}"


def save_figure(path: Path, figure: "Figure", dpi: int = 90) -> None:
    """Write a matplotlib figure as PNG, whole."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    write_atomic(path, buffer.getvalue())


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[str], None]]:
    """A bar on stderr; call what it gives with a word on each step that begins. Without a terminal, a line each."""
    shown = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(), console=console, transient=True,
    )  # fmt: skip
    done = -1
    with shown:
        task = shown.add_task(what, total=total, status="")

        def begin(status: str) -> None:
            nonlocal done
            done += 1
            shown.update(task, completed=done, status=status)
            if not console.is_terminal:
                log.info("%s %d/%d: %s", what, done + 1, total, status)

        yield begin


def write_report(folder: Path, name: str, markdown: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """NAME.md and NAME.csv; returns the Markdown."""
    write_atomic(folder / f"{name}.md", markdown.encode())
    write_csv(folder / f"{name}.csv", rows)
    return markdown


def _handler() -> logging.Handler:
    """Beside a progress bar rich has to write; elsewhere it would only break lines."""
    return RichHandler(console=console, show_path=False) if console.is_terminal else logging.StreamHandler()


def run_command(name: str, options: type[OptionsType], run: Callable[[OptionsType], str]) -> int:
    """A command under tools/experiments: options from the command line, table to stdout, the rest to stderr.

    Args:
        name: of the experiment.
        options: its dataclass.
        run: does it, and returns the Markdown table.

    Returns:
        0; 2 when nothing could be done, with one line on stderr; 130 when stopped.
    """
    import torch
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_handler()])
    chosen = tyro.cli(options, prog=f"tools/experiments/{name}.py")
    try:
        torch.set_num_threads(max(getattr(chosen, "threads", 1), 1))
        table = run(chosen)
    except PosecovError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on from the last finished cell", file=sys.stderr)
        return 130
    print(table, end="")
    return 0
