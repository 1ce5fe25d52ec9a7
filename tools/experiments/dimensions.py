"""Error, time and memory of every loss from D = 4 to 32, on data whose law is known.

    python tools/experiments/dimensions.py [--quick] [--seeds 0 1 2] [--out DIR] [--threads N]

Writes cells/*.json, dimensions.csv, dimensions.md and dimensions.png into
runs/experiments/dimensions (with --quick, dimensions-quick); the same command again goes on where it was stopped.
Table to stdout, progress to stderr. Exit code 2 when nothing could be done.
"""

import sys

from posecov.commands.terminal import needs_training_packages


def main() -> int:
    """Run the command line."""
    needs_training_packages("dimensions")
    from posecov.learn.experiments.cells import Options, run_command
    from posecov.learn.experiments.dimensions import run

    return run_command("dimensions", Options, run)


if __name__ == "__main__":
    sys.exit(main())
