"""The results page: our experiments beside the papers' numbers, and where they differ.

    python tools/experiments/results.py [--from runs/experiments] [--out tools/experiments/README.md] [--quick]

Reads what the other commands here left, copies their figures to figures/ beside the page, and says what is missing.
Exit code 2 when nothing was run, or the page cannot be written.
"""

import sys

from posecov.commands.terminal import needs_training_packages


def main() -> int:
    """Run the command line."""
    needs_training_packages("results")
    from posecov.learn.experiments.cells import run_command
    from posecov.learn.experiments.results import ResultsOptions, write_page

    return run_command("results", ResultsOptions, write_page)


if __name__ == "__main__":
    sys.exit(main())
