"""Train a model: mean, pseudo-labels, phase 1 (2-Wasserstein bound), phase 2 (negative log-likelihood).

    python tools/train.py configs/lsp14-small.yaml [--data.root DIR] [--mean.epochs 3 ...]
    torchrun --nproc-per-node 4 tools/train.py configs/lsp14-small.yaml [...]

Writes config.yaml, metrics.csv, curves.png, last.safetensors and best.safetensors into runs/NAME (or --out).
The same command again goes on where it was stopped. Exit code 2 when nothing could start.
"""

import contextlib
import io
import logging
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

from rich.logging import RichHandler

from posecov.commands.memory import keep_freed_memory
from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError


def main() -> int:
    """Run the command line."""
    needs_training_packages("train")
    keep_freed_memory()
    from posecov.learn.config import config_from_command_line
    from posecov.learn.processes import GO_ON, SaidError, is_first_here, launched
    from posecov.learn.run import console
    from posecov.learn.training import train

    first = launched()[0] == 0
    says = is_first_here()
    level = logging.INFO if first else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)])
    try:
        # All processes have the same command line: one on each machine complains about it, or explains it.
        with contextlib.nullcontext() if says else _silence():
            config = config_from_command_line("tools/train.py", sys.argv[1:])
    except PosecovError as error:
        return _complain(error) if says else _wait()
    except SystemExit as wrong:
        if says or not wrong.code:
            raise
        return _wait()
    # Schedulers, and torchrun when another process has failed, stop a program this way.
    signal.signal(signal.SIGTERM, _stop)
    try:
        run = train(config)
    except SaidError:
        return 2
    except PosecovError as error:
        return _complain(error)
    except KeyboardInterrupt:
        print(f"train: stopped; {GO_ON}", file=sys.stderr, flush=True)
        return 130
    if first:
        print(run.best if run.best.exists() else run.last)
    return 0


def _complain(error: PosecovError) -> int:
    print(f"train: {error}", file=sys.stderr, flush=True)
    return 2


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _wait() -> int:
    """Give the process that complains the time to, before the end of this one ends it."""
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(20)
    return 2


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
