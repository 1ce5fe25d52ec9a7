"""Whether a user always gets a covariance: the properties of tests/trust on many random cases.

    python tools/trust/properties.py [--cases 10000] [--exports 12] [--only NAME ...] [--seed 0] [--json OUT]

Weights, pictures, boxes, scales, skeletons, joint masks, clicks and films are drawn; every covariance on every way to the user
must be finite, symmetric and positive definite in float32, and that of the law. Exit code 1 when one is not: the smallest
failing case is printed. 2: wrong usage.
"""

import importlib
import math
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from posecov import PosecovError
from posecov.commands.terminal import needs_training_packages
from posecov.output import prepare_folder, write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "trust"))


@dataclass(frozen=True)
class Options:
    """Try properties of covariances on random cases."""

    cases: int = 10_000
    """In all; shared among the properties."""
    exports: int = 12
    """Networks with random weights to export anew with torch, some 10 s each; 0 does without torch."""
    only: tuple[str, ...] = ()
    """Names of properties; all by default."""
    seed: int = 0
    """Of the cases."""
    json: Path | None = None
    """Where to write the figures."""


@dataclass
class Row:
    """What became of a property.

    Attributes:
        name: of the property.
        cases: tried.
        failed: whether one failed.
        covariances: judged.
        smallest: eigenvalue of any as a correlation matrix, so relative to the scale.
        condition: the largest condition number.
        seconds: it took.
    """

    name: str
    cases: int = 0
    failed: bool = False
    covariances: int = 0
    smallest: float = math.inf
    condition: float = 0.0
    seconds: float = field(default=0.0, compare=False)


def main(options: Options) -> int:
    """Try them all; the exit code. Raises PosecovError."""
    if options.cases < 1 or options.exports < 0:
        raise PosecovError("--cases must be at least 1 and --exports not negative")
    if options.json is not None:
        prepare_folder(options.json.parent)
    try:
        covariance_cases, covariance_networks, covariance_properties = (
            importlib.import_module(f"covariance_{name}") for name in ("cases", "networks", "properties")
        )
        exporting = importlib.import_module("covariance_exports") if options.exports else None
    except ImportError as error:
        raise PosecovError(f"this needs what the tests need ({error}); run pip install -e '.[test]'") from None
    console, exports = Console(width=None if sys.stdout.isatty() else 100), range(options.exports)
    unknown = set(options.only) - {*covariance_properties.PROPERTIES, "pictured"}
    if unknown:
        raise PosecovError(f"--only {min(unknown)}: no such property; there are {', '.join(covariance_properties.PROPERTIES)}")
    wanted = options.only or (*covariance_properties.PROPERTIES, "pictured")
    properties = dict(covariance_properties.PROPERTIES)
    if "pictured" in wanted:
        further = [exporting.exported(number) for number in track(exports, "exporting", console=console)] if exporting else []
        networks = covariance_networks.Networks(60, 40, further)
        pictures = covariance_cases.pictures(len(networks))
        properties["pictured"] = pictures, covariance_properties.in_pictures(networks)
    rows, shares = [], [options.cases // len(wanted) + (i < options.cases % len(wanted)) for i in range(len(wanted))]
    with Progress(console=console) as progress:
        for name, count in zip(wanted, shares, strict=True):
            if count:
                task = progress.add_task(name, total=count)
                watch = covariance_properties.Watch()
                strategy, check = properties[name]
                row, report = tried(name, strategy, check, watch, count, options.seed, partial(progress.advance, task))
                rows.append(row)
                if not console.is_terminal:
                    print(f"{row.name}: {row.cases} cases, {row.covariances} covariances, {row.seconds:g} s", flush=True)
                if report:
                    progress.console.print(report, markup=False, highlight=False)
    console.print(table(rows))
    if options.json is not None:
        write_json(options.json, {"seed": options.seed, "properties": [asdict(row) for row in rows]})
    return 1 if any(row.failed for row in rows) else 0


def tried(
    name: str, strategy: Any, check: Callable[[Any, Any], None], watch: Any, count: int, seed: int, step: Callable[[], None]
) -> tuple[Row, str]:
    """Try a property on so many cases; its row, and what the smallest failing case says, empty when all hold."""
    import hypothesis

    row, started, failing = Row(name), time.monotonic(), []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        verbosity=hypothesis.Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @hypothesis.given(strategy)
    def attempt(case: Any) -> None:
        row.cases += 1
        step()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                check(case, watch)
        except Exception:
            failing.append(case)
            raise

    report = ""
    try:
        attempt()
    except Exception as error:
        row.failed = True
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = (str(error).strip().splitlines() or [""])[0]
        report = f"{name} fails: {type(error).__name__} {what} ({Path(where.filename).name}:{where.lineno})\n  {failing[-1]!r}"
    row.seconds = round(time.monotonic() - started, 1)
    row.covariances, row.smallest, row.condition = watch.judged, watch.smallest, watch.condition
    return row, report


def table(rows: list[Row]) -> Table:
    """One row a property."""
    made = Table("property", "cases", "covariances", "smallest eigenvalue", "condition", "seconds", "")
    for row in rows:
        numbers = (f"{row.cases}", f"{row.covariances}", f"{row.smallest:.1e}", f"{row.condition:.1e}", f"{row.seconds:.0f}")
        made.add_row(row.name, *numbers, "FAILS" if row.failed else "holds")
    total = sum(row.cases for row in rows), sum(row.covariances for row in rows)
    ends = min(row.smallest for row in rows), max(row.condition for row in rows)
    made.add_row("all", f"{total[0]}", f"{total[1]}", f"{ends[0]:.1e}", f"{ends[1]:.1e}", "", "")
    return made


if __name__ == "__main__":
    needs_training_packages("properties")
    try:
        sys.exit(main(tyro.cli(Options)))
    except PosecovError as error:
        print(f"properties: {error}", file=sys.stderr)
        sys.exit(2)
