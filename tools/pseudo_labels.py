"""Whether a run's pseudo-labels mean anything: pseudo against actual spread of held-out people, and their neighbours.

    python tools/pseudo_labels.py runs/NAME --out DIR [--data-root DIR] [--space latent|backbone|joints|heatmaps|input]
        [--limit 500]

Writes pseudo_labels.png, neighbours.png and pseudo_labels.json into DIR. The run's mean must be trained. Exit code 2 when
nothing could start.
"""

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
    """Whether a run's pseudo-labels mean anything.

    Attributes:
        run: folder of a run whose mean is trained.
        out: folder of the results.
        data_root: folder with one folder per data set; POSECOV_DATA when not given.
        space: features that neighbours are near in; the run's own when not given.
        limit: use at most this many of the training people, and of the validation people, spread evenly (0: all).
        queries: people whose neighbours are shown.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path
    data_root: str = ""
    space: str = ""
    limit: int = 0
    queries: int = 8


def main() -> int:
    """Run the command line."""
    needs_training_packages("pseudo_labels")
    from posecov.learn.pseudo_labels.diagnose import diagnose

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, prog="tools/pseudo_labels.py")
    try:
        report = diagnose(options.run, options.out, options.data_root, options.space, options.limit, options.queries)
    except PosecovError as error:
        print(f"pseudo_labels: {error}", file=sys.stderr)
        return 2
    for name, value in report.items():
        print(f"{name:25s} {value:.4g}" if isinstance(value, float) else f"{name:25s} {value}")
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
