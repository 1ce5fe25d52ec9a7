"""Whether a long training holds on to memory, files or threads: many epochs on a few drawn people, the process watched.

    python tools/trust/long_training.py --out DIR [--epochs 200]

Trains so many epochs of the mean, and half as many of each phase of the covariance. Writes samples.csv and samples.png into
DIR. Flat is what grows, from a quarter of a part to its end and by the median of all slopes, by at most 3 % of its median
(memory) or by less than one (files, threads). Exit code 0 when everything is flat, 1 when not, 2 when the training could not
be.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    from drawn_people import write_people, write_recipe
    from watching import Watch, judge, plot_samples, write_samples

    parser = argparse.ArgumentParser(prog="tools/trust/long_training.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder; must not have a run yet")
    parser.add_argument("--epochs", type=int, default=200, help="of the mean; half as many of each phase")
    options = parser.parse_args(arguments)
    run, half = options.out / "run", options.epochs // 2
    if run.exists():
        raise PosecovError(f"{run}: is there already; choose another folder with --out")
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = write_recipe(options.out / "drawn.yaml", write_people(options.out / "people"), options.epochs, half, half)
    train = Path(__file__).resolve().parents[1] / "train.py"
    command = [sys.executable, str(train), str(recipe), "--out", str(run), "--checkpoint-minutes", "0"]
    with (options.out / "train.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"COLUMNS": "200"})
        watch = Watch(process.pid, lambda: _epochs(run / "metrics.csv"), every=0.25)
        process.wait()
        samples = watch.stop()
    if process.returncode:
        raise PosecovError(f"{options.out / 'train.log'}: the training ended with exit code {process.returncode}")
    write_samples(options.out / "samples.csv", samples)
    flat, marks = True, []
    # An epoch counts once it is over, so that the number of a part's last one stands for the beginning of the next, too.
    ends = {"mean": options.epochs, "phase 1": options.epochs + half, "phase 2": options.epochs + 2 * half}
    before = 0
    for name, end in ends.items():
        part = [sample for sample in samples if before < sample.done < end]
        before = end
        marks += [part[0].seconds] if part else []
        for verdict in judge(part):
            print(f"{name}: {verdict}")
            flat &= verdict.flat
    plot_samples(options.out / "samples.png", samples, f"{options.epochs} epochs of the mean, {half} of each phase", marks)
    print(f"{len(samples)} samples in {samples[-1].seconds:.0f} s; {'flat' if flat else 'NOT flat'}")
    return 0 if flat else 1


def _epochs(metrics: Path) -> int:
    """How many are over."""
    return max(metrics.read_bytes().count(b"\n") - 1, 0) if metrics.exists() else 0


if __name__ == "__main__":
    needs_training_packages("long_training")
    try:
        sys.exit(main(sys.argv[1:]))
    except PosecovError as error:
        print(f"long_training: {error}", file=sys.stderr)
        sys.exit(2)
