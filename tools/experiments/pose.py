"""Losses and parts of the recipe on human pose: LSP and LSP Extended, held out, every row with the same number of epochs.

    python tools/train.py configs/lsp14-half.yaml
    python tools/experiments/pose.py [--run runs/posecov-lsp14-half] [--seeds 0 1 2] [--variants hybrid NLL-TIC ...]

Writes cells/*.json, pose.csv, pose.md and pose.png into runs/experiments/pose (or --out). A stopped command goes on.
"""

import sys

from posecov.commands.terminal import needs_training_packages


def main() -> int:
    """Run the command line."""
    needs_training_packages("pose")
    from posecov.learn.experiments.cells import run_command
    from posecov.learn.experiments.pose import PoseOptions, run
    from posecov.learn.experiments.pose_report import report

    return run_command("pose", PoseOptions, lambda options: report(options, run(options)))


if __name__ == "__main__":
    sys.exit(main())
