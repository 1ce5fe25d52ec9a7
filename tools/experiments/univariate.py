"""Univariate heteroscedastic regression: three fast sinusoids with sigma = |x|, every loss against the truth.

    python tools/experiments/univariate.py [--quick] [--seeds 0 1 2] [--out DIR] [--threads N]

Writes cells/*.json, univariate.csv, univariate.md and univariate.png into
runs/experiments/univariate (with --quick, univariate-quick); the same command again goes on where it was stopped.
Table to stdout, progress to stderr. Exit code 2 when nothing could be done.
"""

import sys

from posecov.commands.terminal import needs_training_packages


def main() -> int:
    """Run the command line."""
    needs_training_packages("univariate")
    from posecov.learn.experiments.cells import Options, run_command
    from posecov.learn.experiments.univariate import run

    return run_command("univariate", Options, run)


if __name__ == "__main__":
    sys.exit(main())
