"""Ten UCI regression tables: every loss, and one fixed recipe for all tables, beside the papers' numbers.

    python tools/experiments/uci.py --data-root DIR [--tables concrete ...] [--losses nll hybrid ...] [--quick]
        [--seeds 0 1 2] [--out DIR] [--threads N]

DIR holds uci/. Writes cells/*.json, uci.csv, uci.md and uci.png into runs/experiments/uci; the same command again goes on
where it was stopped. Table to stdout, progress to stderr. Exit code 2 when nothing could be done.
"""

import sys

from posecov.commands.terminal import needs_training_packages


def main() -> int:
    """Run the command line."""
    needs_training_packages("uci")
    from posecov.learn.experiments.cells import run_command
    from posecov.learn.experiments.uci import UciOptions, run

    return run_command("uci", UciOptions, run)


if __name__ == "__main__":
    sys.exit(main())
