"""Look at a recipe's data before training on it: contact sheets, statistics, suspicious labels.

    python tools/inspect_data.py configs/lsp14-small.yaml --out DIR
        [--data-root DIR] [--datasets lsp mine.json ...] [--skeleton mine.yaml]

Writes samples.png (people before and after augmentation), suspects.png and inspection.json (everything that was found) into
DIR. Bad annotations are listed and left out. Exit code 2 when nothing could start.
"""

import dataclasses
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError


@dataclass(frozen=True)
class Options:
    """Look at a recipe's data before training on it.

    Attributes:
        recipe: its data sets, skeleton, input size and augmentation are used.
        out: folder of the results.
        data_root: folder with one folder per data set; POSECOV_DATA when not given.
        datasets: instead of the recipe's; as in data.datasets.
        skeleton: instead of the recipe's; a shipped one by name, or a YAML file.
        people: on each contact sheet.
        duplicates: read all pictures to find those that are there twice.
        lines: so many suspicious labels of a kind are printed; inspection.json has all.
    """

    recipe: Annotated[Path, tyro.conf.Positional]
    out: Path
    data_root: str = ""
    datasets: tuple[str, ...] = ()
    skeleton: str = ""
    people: int = 24
    duplicates: bool = True
    lines: int = 5


def main() -> int:
    """Run the command line."""
    needs_training_packages("inspect_data")
    from posecov.learn.config import load_config
    from posecov.learn.inspection.report import inspect, summary

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = tyro.cli(Options, prog="tools/inspect_data.py")
    try:
        config = load_config(options.recipe)
        if options.datasets:
            data = dataclasses.replace(config.data, datasets=options.datasets, validation_from="")
            config = dataclasses.replace(config, data=data)
        if options.skeleton:
            config = dataclasses.replace(config, skeleton=options.skeleton)
        report = inspect(config, options.out, options.data_root, options.people, options.duplicates)
    except PosecovError as error:
        print(f"inspect_data: {error}", file=sys.stderr)
        return 2
    print(summary(report, options.lines))
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
