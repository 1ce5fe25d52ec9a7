"""Kill a training again and again, let it go on, and compare all it wrote with what a training writes that nobody killed.

    python tools/trust/check_resume.py --out DIR [RECIPE.yaml] [--kills 33] [--seed 0] [--mean.epochs 1 ...]

Without a recipe it trains a toy network on drawn people. SIGKILLs are spread over the mean, features and pseudo-labels, both
phases of the covariance, calibration and export: while the program starts, between two checkpoints, and while a file is being
written; half of them leave the processes that read pictures to notice by themselves. Both runs write a checkpoint after every
step (`--checkpoint-minutes` says otherwise) and train on the CPU. Writes kills.csv into DIR. Exit code 0 when everything is the
same bit for bit, 1 when not, 2 when a run could not be.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError

TOOLS = Path(__file__).resolve().parents[1]
# Of the kills; each lets at most two checkpoints pass, so that a part with three for each of its kills sees all of them.
STAGES = {"mean": 9, "features": 5, "phase 1": 6, "phase 2": 6, "calibration": 4, "export": 3}
MOMENTS = ("start", "between", "writing", "writing", "between")


class Commands:
    """The three commands of a run, and what each of them leaves.

    Attributes:
        folder: of the run.
        calibrated, exported: files beside the run's own.
    """

    def __init__(self, recipe: str, folder: Path, settings: Sequence[str]):
        self.folder, self.calibrated, self.exported = folder, folder / "calibrated.safetensors", folder / "model.onnx"
        self.train = _python("train.py", recipe, "--device", "cpu", "--checkpoint-minutes", "0", *settings, "--out", folder)
        self.calibrate = _python("calibrate.py", folder / "best.safetensors", self.calibrated, "--epochs", "2")
        self.export = _python("export_onnx.py", self.calibrated, self.exported, "--crops", "20")

    def of(self, stage: str) -> list[str]:
        """The command that a stage belongs to."""
        return {"calibration": self.calibrate, "export": self.export}.get(stage, self.train)

    def files(self) -> list[Path]:
        """Everything that must not depend on kills."""
        names = ("last", "best", "features", "pseudo_labels")
        return [*(self.folder / f"{name}.safetensors" for name in names), self.calibrated, self.exported]

    def stage(self) -> str:
        """The stage that the run's last checkpoint, if any, goes on with."""
        from posecov.learn.checkpoint import load_checkpoint

        path = self.folder / "last.safetensors"
        if not path.exists():
            return "mean"
        facts = load_checkpoint(path)[1]
        if facts["part"] == "mean":
            return "features" if facts["finished"] else "mean"
        if facts["finished"]:
            return "calibration"
        return "phase 1" if facts["epoch"] < facts["config"]["covariance"]["phase1_epochs"] else "phase 2"


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tools/trust/check_resume.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recipe", nargs="?", default="")
    parser.add_argument("--out", type=Path, required=True, help="folder for the two runs; must not have them yet")
    parser.add_argument("--kills", type=int, default=sum(STAGES.values()))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options, settings = parser.parse_known_args(arguments)
    if (options.out / "whole").exists() or (options.out / "killed").exists():
        raise PosecovError(f"{options.out}: has runs already; choose another folder with --out")
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = options.recipe or str(_drawn(options.out, options.kills))
    whole, killed = (Commands(recipe, options.out / name, settings) for name in ("whole", "killed"))
    lasts = {}
    for stage in ("mean", "calibration", "export"):
        started = time.time()
        run(whole.of(stage))
        lasts[stage] = time.time() - started
    print(", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in lasts.items()), "without a kill", flush=True)

    moments, rows, groups = random.Random(options.seed), [], []
    for number, stage in enumerate(_plan(options.kills)):
        if stage not in ("calibration", "export") and killed.stage() != stage:
            while killed.stage() not in (stage, "calibration"):  # Kills did not get it there.
                moment = _when_stage(killed, stage)
                groups.append(_kill(killed.train, moment, alone=False)[0])
        if stage in ("calibration", "export") and killed.stage() != "calibration":
            run(killed.train)
        if stage == "export" and not killed.calibrated.exists():
            run(killed.calibrate)
        kind, alone = MOMENTS[number % len(MOMENTS)], moments.random() < 0.5
        when = _moment(kind, killed, stage, lasts, moments)
        before = set(killed.folder.glob(".posecov-*.part"))
        group, done = _kill(killed.of(stage), when, alone)
        groups.append(group)
        torn = len(set(killed.folder.glob(".posecov-*.part")) - before)
        rows.append({
            "number": number + 1, "stage": stage, "moment": kind, "killed": not done, "alone": alone, "torn": torn,
            "goes on with": killed.stage(),
        })  # fmt: skip
        print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
        for path in (killed.calibrated, killed.exported):
            if path.exists():
                _check_whole(path)
    for stage in ("mean", "calibration", "export"):
        run(killed.of(stage))
    return _report(options.out, rows, groups, list(zip(whole.files(), killed.files(), strict=True)))


def run(command: Sequence[str]) -> None:
    """Run a command to its end. Raises PosecovError with the last line that it told when that is an error."""
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise PosecovError((ended.stderr.strip() or "said nothing").rsplit("\n", 1)[-1])


def _python(tool: str, *arguments: object) -> list[str]:
    return [sys.executable, str(TOOLS / tool), *map(str, arguments)]


def _drawn(out: Path, kills: int) -> Path:
    from drawn_people import write_people, write_recipe

    epochs = {stage: -(-kills * share // sum(STAGES.values())) for stage, share in STAGES.items()}
    people = write_people(out / "people")
    return write_recipe(out / "drawn.yaml", people, epochs["mean"], 3 * epochs["phase 1"], 3 * epochs["phase 2"])


def _plan(kills: int) -> list[str]:
    """A stage for each kill, in the order of training."""
    stages = [stage for stage, share in STAGES.items() for _ in range(share)]
    return [stages[number * len(stages) // kills] for number in range(kills)]


Moment = Callable[[subprocess.Popen], None]


def _moment(kind: str, commands: Commands, stage: str, lasts: dict[str, float], moments: random.Random) -> Moment:
    """Something that returns when it is time to kill a process, or it has ended."""
    seconds = lasts.get(stage, 8.0)
    if kind == "start":
        return _after(moments.uniform(0.0, 4.0))
    if kind == "between" and stage in ("calibration", "export"):
        return _after(moments.uniform(0.3, 1.0) * seconds)
    writes = moments.randint(0, 2) if stage not in ("features", "calibration", "export") else 0
    if kind == "between":
        late = moments.uniform(0.0, 0.5 if stage == "features" else 0.2)
        begun = None if stage != "features" else commands.folder / "config.yaml"
        return _after_writes(commands.folder / "last.safetensors", writes, late, begun)
    nth = 1 if stage in ("calibration", "export") else moments.randint(1, 4)
    return _while_writing(commands.folder, nth, max(0.0, moments.uniform(-0.001, 0.002)))


def _after(seconds: float) -> Moment:
    def wait(process: subprocess.Popen) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.005)

    return wait


def _after_writes(path: Path, writes: int, late: float, begun: Path | None) -> Moment:
    """So many seconds after a file was replaced for the nth time, or after ``begun`` was."""

    def wait(process: subprocess.Popen) -> None:
        watched, left = (path, max(1, writes)) if begun is None else (begun, 1)
        before = _written(watched)
        while left and process.poll() is None:
            if (now := _written(watched)) != before:
                before, left = now, left - 1
            time.sleep(0.002)
        _after(late)(process)

    return wait


def _while_writing(folder: Path, nth: int, late: float) -> Moment:
    """So many seconds after the nth file was begun (`posecov.files.write_atomic`'s temporary file is there)."""

    def wait(process: subprocess.Popen) -> None:
        seen = set(folder.glob(".posecov-*.part"))
        left = nth
        while process.poll() is None:
            new = set(folder.glob(".posecov-*.part")) - seen
            seen |= new
            left -= len(new)
            if left <= 0:
                time.sleep(late)
                return

    return wait


def _when_stage(commands: Commands, stage: str) -> Moment:
    def wait(process: subprocess.Popen) -> None:
        while process.poll() is None and commands.stage() != stage:
            time.sleep(0.002)

    return wait


def _kill(command: Sequence[str], moment: Moment, alone: bool) -> tuple[int, bool]:
    """Start a command and kill it; ``alone`` leaves its children.

    Returns:
        Its process group, and whether it had ended by itself.

    Raises:
        PosecovError: it ended with an error; with the last line that it told.
    """
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=told)
        moment(process)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL) if alone else os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return process.pid, False
        if process.returncode:
            told.seek(0)
            raise PosecovError((told.read().strip() or "said nothing").rsplit("\n", 1)[-1])
    return process.pid, True


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _check_whole(path: Path) -> None:
    """Raises PosecovError when a file is there but not whole."""
    from posecov.learn.checkpoint import load_checkpoint

    if path.suffix == ".onnx":
        from posecov.model import PoseModel

        PoseModel(path, threads=1)
    else:
        load_checkpoint(path)


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same: checkpoints the same tensors, others the same bytes. Both may be missing."""
    import torch

    from posecov.learn.checkpoint import load_checkpoint

    if not one.exists() and not other.exists():
        return True
    if one.suffix == ".onnx":
        return one.read_bytes() == other.read_bytes()
    mine, theirs = (load_checkpoint(path)[0] for path in (one, other))
    return set(mine) == set(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _report(out: Path, rows: list[dict], groups: list[int], files: list[tuple[Path, Path]]) -> int:
    with (out / "kills.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print("| stage | kills | of these while a file was being written | readers left to notice |")
    print("|---|---|---|---|")
    for stage in [*STAGES, ""]:
        hit = [row for row in rows if row["killed"] and stage in ("", row["stage"])]
        torn, alone = sum(row["torn"] > 0 for row in hit), sum(row["alone"] for row in hit)
        print(f"| {stage or 'all'} | {len(hit)} | {torn} | {alone} |")
    end = time.monotonic() + 20
    while (left := [group for group in groups if _alive(group)]) and time.monotonic() < end:
        time.sleep(0.2)
    for group in left:
        os.killpg(group, signal.SIGKILL)
    different = [mine.name for mine, theirs in files if not _same(mine, theirs)]
    if left:
        print(f"{len(left)} killed runs left processes behind for 20 s")
    print(f"different: {', '.join(different)}" if different else "the same, bit for bit")
    return 1 if different or left else 0


if __name__ == "__main__":
    needs_training_packages("check_resume")
    try:
        sys.exit(main(sys.argv[1:]))
    except PosecovError as error:
        print(f"check_resume: {error}", file=sys.stderr)
        sys.exit(2)
