"""Adapt a trained covariance to the validation people, and calibrate its scale, degrees of freedom and weights on them.

    python tools/calibrate.py CHECKPOINT OUT.safetensors [--data-root DIR] [--epochs 100]

The mean has not learned from these people. Folds of them tell for how long it pays to adapt the covariance head, and
calibration judges everybody by a head that has not seen them. The result is a checkpoint like the other, to export. Exit code 2
when nothing was written.
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
        epochs: of adapting at most; 0 calibrates the head as it is.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    out: Annotated[Path, tyro.conf.Positional]
    data_root: str = ""
    epochs: int = 100


def main() -> int:
    """Run the command line."""
    needs_training_packages("calibrate")
    from posecov.learn.calibration.checkpoint import calibrate_checkpoint

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, prog="tools/calibrate.py")
    try:
        adapted, found = calibrate_checkpoint(options.checkpoint, options.out, options.data_root, options.epochs)
    except PosecovError as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    if adapted.nll:
        best = adapted.nll[adapted.epochs]
        print(f"adapting for {adapted.epochs} epochs: NLL per person not seen {adapted.nll[0]:.2f} -> {best:.2f}")
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
