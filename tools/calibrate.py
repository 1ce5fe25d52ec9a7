"""Calibrate the scale and the degrees of freedom of a trained model on its validation people.

    python tools/calibrate.py CHECKPOINT OUT.safetensors [--data-root DIR]

The validation people trained nothing. The result is a checkpoint like the other, to export. Exit code 2 when nothing was
written.
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
    """Calibrate a trained model on its validation people.

    Attributes:
        checkpoint: ``best.safetensors`` of a run.
        out: the checkpoint to write.
        data_root: folder with one folder per data set; POSECOV_DATA when not given.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, tyro.conf.Positional]
    data_root: str = ""


def main() -> int:
    """Run the command line."""
    needs_training_packages("calibrate")
    from posecov.learn.calibration.checkpoint import calibrate_checkpoint

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, prog="tools/calibrate.py")
    try:
        found = calibrate_checkpoint(options.checkpoint, options.out, options.data_root)
    except PosecovError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    factors = ", ".join(f"{factor:.2f}" for factor in found.factor)
    print(
        f"NLL per validation person {found.before:.2f} -> {found.after:.2f}; {found.degrees_of_freedom:.2f} degrees of freedom"
    )
    if found.temperature != 1.0 or found.shift != 0.0:
        print(f"logits of exchanges of left and right times {found.temperature:.2f}, all but the first {found.shift:+.2f}")
    print(f"correlations between joints shrunk by {100 * found.shrinkage:.0f} %")
    print(f"factors on the joints' sigmas: {factors}")
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
