"""Kill a short training at random moments, let it go on, and compare its weights with those of one that nobody killed.

    python tools/check_resume.py RECIPE.yaml --out DIR [--kills 5] [--seed 0] [--mean.epochs 1 ...]

Both runs write a checkpoint after every step (`--checkpoint-minutes` says otherwise) and train on the CPU. Exit code 0 when all
weights are the same bit for bit, 1 when not, 2 when a run could not be.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tools/check_resume.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two runs; must not have them yet")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options, settings = parser.parse_known_args(arguments)
    whole, killed = options.out / "whole", options.out / "killed"
    if whole.exists() or killed.exists():
        raise PosecovError(f"{options.out}: has runs already; choose another folder with --out")
    train = [sys.executable, str(Path(__file__).with_name("train.py")), options.recipe, "--device", "cpu"]
    train += ["--checkpoint-minutes", "0", *settings, "--out"]
    started = time.time()
    _run([*train, str(whole)])
    # Every start takes its seconds; what is left of the run is cut into about as many pieces as there are kills.
    starting = (whole / "config.yaml").stat().st_mtime - started
    piece, moments = (time.time() - started - starting) / (options.kills + 1), random.Random(options.seed)
    for _ in range(options.kills):
        early = moments.random() < 0.2
        after, since = (moments.uniform(0, starting), None) if early else (moments.uniform(0, 1.5 * piece), killed)
        ended = _run([*train, str(killed)], after, since)
        begun = "start" if early else "first checkpoint"
        print(f"{after:.2f} s after its {begun}: {'had ended' if ended else 'killed'}; {_state(killed)}", flush=True)
    _run([*train, str(killed)])
    different = [name for name in ("last", "best") if not _same(whole / f"{name}.safetensors", killed / f"{name}.safetensors")]
    print(f"different: {', '.join(different)}" if different else "the same, bit for bit")
    return 1 if different else 0


def _run(command: Sequence[str], after: float | None = None, since: Path | None = None) -> bool:
    """Run a command to its end, or kill it and its children.

    Args:
        after: seconds until then; None: never.
        since: they count from when the run in this folder next writes a checkpoint; None: from the start.

    Returns:
        Whether it ended by itself.

    Raises:
        PosecovError: it ended with an error; with the last line that it told.
    """
    before = _written(since)
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=told)
        while since is not None and _written(since) == before and process.poll() is None:
            time.sleep(0.01)
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
        if process.returncode:
            told.seek(0)
            raise PosecovError(told.read().strip().rsplit("\n", 1)[-1])
    return True


def _written(folder: Path | None) -> int:
    path = folder / "last.safetensors" if folder is not None else None
    return path.stat().st_mtime_ns if path is not None and path.exists() else 0


def _state(folder: Path) -> str:
    from posecov.learn.checkpoint import load_checkpoint

    path = folder / "last.safetensors"
    if not path.exists():
        return "no checkpoint yet"
    facts = load_checkpoint(path)[1]
    return f"{facts['part']}, epoch {facts['epoch']}, step {facts.get('step', 0)}"


def _same(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same tensors; a run without a second part has no best one."""
    import torch

    from posecov.learn.checkpoint import load_checkpoint

    if not one.exists() and not other.exists():
        return True
    mine, theirs = (load_checkpoint(path)[0] for path in (one, other))
    return set(mine) == set(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)


if __name__ == "__main__":
    needs_training_packages("check_resume")
    try:
        sys.exit(main(sys.argv[1:]))
    except PosecovError as error:
        print(f"check_resume: {error}", file=sys.stderr)
        sys.exit(2)
