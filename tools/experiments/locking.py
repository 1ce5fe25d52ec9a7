"""Locking: NLL and KL turn the covariance along the residual and slow the mean; the 2-Wasserstein bound does not.

    python tools/experiments/locking.py [--quick] [--seeds 0 1 2] [--out DIR] [--threads N]

Writes cells/*.json, locking.csv, locking.md, locking.png, locking-orthogonal.png and locking-curves.png into
runs/experiments/locking (with --quick, locking-quick); the same command again goes on where it was stopped.
Table to stdout, progress to stderr. Exit code 2 when nothing could be done.
"""

import sys

from posecov.commands.terminal import needs_training_packages


def main() -> int:
    """Run the command line."""
    needs_training_packages("locking")
    from posecov.learn.experiments.cells import Options, run_command
    from posecov.learn.experiments.locking import run

    return run_command("locking", Options, run)


if __name__ == "__main__":
    sys.exit(main())
