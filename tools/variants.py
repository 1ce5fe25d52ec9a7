"""Make smaller and faster variants of shipped models: float16, int8, and models with the crop map inside.

    python tools/variants.py MODEL.onnx [...] --data-root DIR --out DIR [--whole] [--test lsp] [--json FIGURES.json]

float16 halves the file, int8 is for CPUs; both change backbone and decoder only. A variant is written when, on held-out
people, it loses at most a point of PCK and a nat of NLL, moves coverage by at most 3 points, and, if it is float16, leaves the
keypoints where they are; otherwise one line says why not. int8 is calibrated on training people; of several --recipes the
fastest that is good enough is taken. Times are of one CPU thread, ratios medians within turns, so that they hold on a busy
machine; int8's depends on the processor. --whole writes ...-whole.onnx beside each: picture and box in, picture pixels out
(deploy/FORMAT.md). --test adds a table on other people, after the choice. Exit code 1 when a variant was refused, 2 when
nothing could start.
"""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError


@dataclass(frozen=True)
class Options:
    """Make variants of models."""

    models: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Float32 models, as posecov exports them."""
    out: Path
    """Folder for the files."""
    data_root: str = ""
    """Folder with one folder per data set; POSECOV_DATA when not given."""
    make: tuple[Literal["float16", "int8"], ...] = ("float16", "int8")
    """Which variants."""
    recipes: tuple[str, ...] = ("two-float",)
    """Ways to quantise: two-float, stem-float, all, last-float, signed, seven-bits, percentile, entropy."""
    whole: bool = False
    """Also models with the crop map inside."""
    dataset: tuple[str, ...] = ("lsp",)
    """Of the people to calibrate on and to choose by, as in training."""
    held: int = 500
    """People of the first data set to choose by, those that training keeps out with the same number."""
    seed: int = 0
    """Of that choice."""
    test: str = ""
    """People for the final table: lsp means its test pictures, as in tools/evaluate.py."""
    limit: int | None = None
    """Only so many held-out and test people, for a quick look: few people say little about coverage."""
    repeats: int = 100
    """Of every timing."""
    json: Path | None = None
    """Where to write every figure."""


def main(options: Options) -> int:
    """Make, judge, print, write; whether something was refused. Raises PosecovError."""
    from posecov.learn.variants.graph import metadata_of, read_model
    from posecov.learn.variants.making import Job, make_variants
    from posecov.learn.variants.people import final_people, held_out
    from posecov.learn.variants.table import remarks, table
    from posecov.output import prepare_folder, write_json

    if not options.models:
        raise PosecovError("name at least one model")
    for name in ("held", "limit", "repeats"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise PosecovError(f"--{name} {value}: must be at least 1")
    prepare_folder(options.out)
    if options.json is not None:
        prepare_folder(options.json.parent)
    root = options.data_root or os.environ.get("POSECOV_DATA", "")
    if not root:
        raise PosecovError("no data: give --data-root or set POSECOV_DATA; it holds one folder per data set (lsp)")
    rows = []
    for path in options.models:
        skeleton = metadata_of(read_model(path)).skeleton
        training, held = held_out(options.dataset, Path(root), skeleton, options.held, options.seed)
        test = final_people(options.test, Path(root), skeleton) if options.test else []
        job = Job(
            training,
            held[: options.limit],
            test[: options.limit],
            options.make,
            options.recipes,
            options.whole,
            options.repeats,
        )
        rows += make_variants(path, options.out, job)
    print(table(rows, test=bool(options.test)))
    for line in remarks(rows):
        print(line, file=sys.stderr)
    if options.json is not None:
        write_json(options.json, {"dataset": options.dataset, "test": options.test, "models": [row.plain() for row in rows]})
    return 1 if any(row.refused for row in rows) else 0


if __name__ == "__main__":
    needs_training_packages("variants")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("posecov").setLevel(logging.INFO)
    try:
        sys.exit(main(tyro.cli(Options, prog="tools/variants.py")))
    except PosecovError as error:
        print(f"variants: {error}", file=sys.stderr)
        sys.exit(2)
