"""What each part of the covariance recipe is worth, on the frozen mean of a finished run.

    python tools/ablate.py runs/NAME --json OUT.json [--data-root DIR] [--seeds 0 1 2]

Every variant trains for the same number of epochs, is calibrated on the run's validation people, and is judged on LSP's
test people. Finished variants are not trained again. Exit code 2 when nothing could start.
"""

import logging
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from posecov.errors import PosecovError


@dataclass(frozen=True)
class Options:
    """What each part of the covariance recipe is worth.

    Attributes:
        run: folder of a finished run.
        json: where the figures go.
        data_root: folder with one folder per data set; POSECOV_DATA when not given.
        seeds: each variant is trained once with each.
        wasserstein_epochs: of phase 1.
        nll_epochs: of phase 2.
    """

    run: Annotated[Path, tyro.conf.Positional]
    json: Path
    data_root: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    wasserstein_epochs: int = 3
    nll_epochs: int = 7


def main() -> int:
    """Run the command line."""
    from posecov.learn.ablation import ablate
    from posecov.output import write_json

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("posecov.learn.run").setLevel(logging.WARNING)
    options = tyro.cli(Options, prog="tools/ablate.py")
    try:
        report = ablate(options.run, options.data_root, options.seeds, options.wasserstein_epochs, options.nll_epochs)
        write_json(options.json, report)
    except PosecovError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    for name, seeds in report["variants"].items():
        nll, tac = [f["nll"] for f in seeds.values()], [f["tac"] for f in seeds.values()]
        print(
            f"{name:30s} NLL {statistics.mean(nll):.2f} ({min(nll):.2f} to {max(nll):.2f})  TAC {statistics.mean(tac):.3f} px"
        )
    print(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
