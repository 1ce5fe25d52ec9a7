"""Train a model: mean, pseudo-labels, phase 1 (2-Wasserstein bound), phase 2 (negative log-likelihood).

    python tools/train.py configs/lsp14-small.yaml [--data.root DIR] [--mean.epochs 3 ...]

Writes config.yaml, metrics.csv, curves.png, last.safetensors and best.safetensors into runs/NAME (or --out).
The same command again goes on where it was stopped. Exit code 2 when nothing could start.
"""

import logging
import sys

from rich.logging import RichHandler

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError


def main() -> int:
    """Run the command line."""
    needs_training_packages("train")
    from posecov.learn.config import config_from_command_line
    from posecov.learn.run import console
    from posecov.learn.training import train

    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)])
    try:
        run = train(config_from_command_line("tools/train.py", sys.argv[1:]))
    except PosecovError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    print(run.best if run.best.exists() else run.last)
    return 0


if __name__ == "__main__":
    sys.exit(main())
