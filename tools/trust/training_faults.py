"""What a training does when the machine fails under it: every fault must end it clearly, and the same command must go on.

    python tools/trust/training_faults.py --out DIR [--only NAME ...] [--list]

A toy network learns from drawn people. When it has written its first checkpoint (or is where the fault wants it) the fault
happens. The training must end within a minute, with an exit code that is not 0, one line that says why and no traceback, and
leave a whole checkpoint; with the fault undone the same command must end with the weights of an undisturbed training, bit for
bit. Full disks, read-only folders and a small /dev/shm are mounted, which needs root; without it these are skipped. Writes
faults.csv into DIR, the table to stdout. Exit code 0 when all did, 1 when one did not, 2 when nothing could be tried.
"""

import argparse
import csv
import dataclasses
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError

LIMIT = 60.0
"""Seconds within which a training must have ended after a fault."""

TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517")


class Trial:
    """A training, and what happens to it.

    Attributes:
        folder: of the trial; ``people/`` and ``run/`` are in it.
        process: the training that runs now, or ran last.
        since: when the fault happened (`time.monotonic`).
    """

    def __init__(self, folder: Path, launcher: Sequence[str] = (), settings: Sequence[str] = ()):
        from check_resume import Commands
        from drawn_people import write_people, write_recipe

        self.folder, self.images = folder, folder / "people" / "images"
        folder.mkdir(parents=True)
        recipe = write_recipe(folder / "drawn.yaml", write_people(folder / "people"), 3, 1, 2)
        self.commands = Commands(str(recipe), folder / "run", settings)
        python, *rest = self.commands.train
        self.command, self.prefix = [python, *launcher, *rest], list[str]()
        self.process: subprocess.Popen | None = None
        self.since = 0.0

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start the training, or let it go on."""
        with (self.folder / "said.txt").open("w") as said:
            command, env = [*self.prefix, *self.command], os.environ | {"COLUMNS": "250"}
            # What runs in the background is often told to ignore SIGINT, and hands that on.
            before = signal.signal(signal.SIGINT, signal.SIG_DFL)
            self.process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True, env=env)
            signal.signal(signal.SIGINT, before)
        self.since = time.monotonic()

    def wait_for(self, stage: str) -> None:
        """Until the run has written its first checkpoint, and is at a stage."""
        assert self.process is not None
        last = self.commands.folder / "last.safetensors"
        while not (last.exists() and self.commands.stage() == stage):
            if self.process.poll() is not None:
                raise PosecovError(f"{self.folder.name}: ended before the fault: {self.said()[-300:]}")
            time.sleep(0.005)

    def end(self) -> tuple[int | None, float]:
        """Exit code, None where it had to be killed, and how many seconds after the fault."""
        assert self.process is not None
        try:
            code: int | None = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.monotonic() - self.since
        kill_group(self.pid)
        self.process.wait()
        return code, seconds

    def said(self) -> str:
        """Both streams of the training."""
        return (self.folder / "said.txt").read_text()


Undo = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way to fail.

    Attributes:
        name: of it.
        happens: does it to the trial, and returns what undoes it.
        says: what the line must match.
        stage: where the training must be; "" before it starts, "resumed" before it goes on after a kill.
        code: the exit code.
        launcher: what starts the training between Python and its script.
        room: MB of a file system of its own for the run's folder; 0: none.
        settings: of the training.
        goes_on: whether it must end as the undisturbed one does; otherwise it only must leave a whole checkpoint.
    """

    name: str
    happens: Callable[[Trial], Undo]
    says: str
    stage: str = "mean"
    code: int = 2
    launcher: tuple[str, ...] = ()
    room: int = 0
    settings: tuple[str, ...] = ()
    goes_on: bool = True


def nothing() -> None:
    """Undoes what needs no undoing."""


def fill(trial: Trial) -> Undo:
    """Leave no byte on the run's file system."""
    filler = trial.commands.folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler.unlink


def limit_files(trial: Trial) -> Undo:
    """Let no file grow beyond 100 kB, as a quota would."""
    resource.prlimit(trial.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    return nothing


def read_only(trial: Trial) -> Undo:
    """Nothing on the run's file system can be written any more."""
    folder = trial.commands.folder
    while _mount("-o", "remount,ro", str(folder)):  # Busy while a file is being written.
        time.sleep(0.002)
    return lambda: _must_mount("-o", "remount,rw", str(folder))


def hide_pictures(trial: Trial) -> Undo:
    """The data set's file system goes away."""
    gone = trial.images.with_name("gone")
    trial.images.rename(gone)
    return lambda: _back(gone, trial.images)


def cut_pictures(trial: Trial) -> Undo:
    """Every picture of the training people loses its second half."""
    before = {path: path.read_bytes() for path in trial.images.glob("train*")}
    for path, content in before.items():
        path.write_bytes(content[: len(content) // 2])
    return lambda: _write_all(before)


def blind_pictures(trial: Trial) -> Undo:
    """Every picture of the training people is a float TIFF of NaN."""
    from PIL import Image

    before = {path: path.read_bytes() for path in trial.images.glob("train*")}
    for path in before:
        with Image.open(path) as picture:
            size = picture.size
        Image.fromarray(np.full(size[::-1], np.nan, np.float32)).save(path, format="TIFF")
    return lambda: _write_all(before)


def label_of(value: float) -> Callable[[Trial], Undo]:
    """A coordinate of a training person is this."""

    def happens(trial: Trial) -> Undo:
        path = trial.folder / "people" / "train.json"
        before = {path: path.read_bytes()}
        content = json.loads(before[path])
        content["annotations"][7]["keypoints"][3] = value
        path.write_text(json.dumps(content))
        return lambda: _write_all(before)

    return happens


def no_annotations(trial: Trial) -> Undo:
    """The annotation file is gone when the run goes on."""
    path = trial.folder / "people" / "train.json"
    before = {path: path.read_bytes()}
    path.unlink()
    return lambda: _write_all(before)


def kill_reader(trial: Trial) -> Undo:
    """Kill a process that reads pictures."""
    while not (found := _children(trial.pid)):
        time.sleep(0.001)
    os.kill(found[-1], signal.SIGKILL)
    return nothing


def kill_readers(trial: Trial) -> Undo:
    """Kill every process that reads pictures, for as long as there are any to come: one may have nothing left to do."""
    assert trial.process is not None
    end = time.monotonic() + 5.0
    while trial.process.poll() is None and time.monotonic() < end:
        try:
            for child in _children(trial.pid):
                os.kill(child, signal.SIGKILL)
        except (ProcessLookupError, FileNotFoundError):
            continue
    return nothing


def little_shared_memory(trial: Trial) -> Undo:
    """/dev/shm, through which pictures come from their readers, has 64 kB: containers often have little."""
    trial.prefix = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh"]
    return lambda: setattr(trial, "prefix", [])


def little_memory(trial: Trial) -> Undo:
    """The process gets no memory beyond what it has."""
    size = int((Path(f"/proc/{trial.pid}/statm").read_text()).split()[0]) * resource.getpagesize()
    resource.prlimit(trial.pid, resource.RLIMIT_AS, (size, size))
    return nothing


def kill_rank(rank: int) -> Callable[[Trial], Undo]:
    """Kill one of two processes that train together."""

    def happens(trial: Trial) -> Undo:
        for child in _children(trial.pid):
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                os.kill(child, signal.SIGKILL)
                return nothing
        raise PosecovError(f"no process of rank {rank}")

    return happens


def send(number: int) -> Callable[[Trial], Undo]:
    """Send a signal to the training alone."""

    def happens(trial: Trial) -> Undo:
        os.kill(trial.pid, number)
        return nothing

    return happens


def already(trial: Trial) -> Undo:
    """What is wrong is in the settings."""
    return nothing


READER = "a process that reads pictures (is killed by signal: Killed|exited unexpectedly|does not answer)"
# torchrun, which reports who was killed, stops the others, if they have not noticed before.
LOST = "another process of this training is gone|stopped; the same command goes on"
FAULTS = [
    Fault("disk full, mean", fill, r"cannot be written \(No space left on device\)", room=16),
    Fault("disk full, features", fill, r"cannot be written \(No space left on device\)", "features", room=16),
    Fault("disk full, phase 2", fill, r"cannot be written \(No space left on device\)", "phase 2", room=16),
    Fault("file size limit", limit_files, r"cannot be written \(File too large\)"),
    Fault("folder turns read-only", read_only, r"cannot be written \(Read-only file system\)", room=16),
    Fault("folder is read-only when it goes on", read_only, r"cannot be .*Read-only file system", "resumed", room=16),
    Fault("pictures vanish, mean", hide_pictures, r"images/\S+\.png: no such file"),
    Fault("pictures vanish, features", hide_pictures, r"images/\S+\.png: no such file", "features"),
    Fault("annotations gone when it goes on", no_annotations, r"train\.json: not found", "resumed"),
    Fault("pictures cut short", cut_pictures, r"images/train\S+\.png: "),
    Fault("pictures of NaN", blind_pictures, r"images/train\S+\.png: "),
    Fault("NaN label", label_of(math.nan), r"train\.json, annotation 8: joint r_knee ", "resumed"),
    Fault("infinite label", label_of(math.inf), r"train\.json, annotation 8: joint r_knee ", "resumed"),
    Fault("loss not finite", already, r"mean, epoch \d+, step \d+: ", settings=("--mean.lr", "1e30"), goes_on=False),
    Fault("reader killed, mean", kill_reader, READER),
    Fault("one of two readers killed", kill_reader, READER, settings=("--workers", "2")),
    Fault("readers killed, features", kill_readers, READER, "features"),
    Fault("64 kB of /dev/shm", little_shared_memory, "shared memory", ""),
    Fault("no more memory", little_memory, "memory"),
    Fault("rank 0 of 2 killed", kill_rank(0), LOST, code=1, launcher=TORCHRUN),
    Fault("rank 1 of 2 killed", kill_rank(1), LOST, code=1, launcher=TORCHRUN),
    Fault("SIGTERM", send(signal.SIGTERM), "stopped; the same command goes on", code=130),
    Fault("SIGINT", send(signal.SIGINT), "stopped; the same command goes on", code=130),
]


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tools/trust/training_faults.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for the trials; must not have any yet")
    parser.add_argument("--only", nargs="+", default=[], help="faults whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="their names")
    options = parser.parse_args(arguments)
    faults = [fault for fault in FAULTS if not options.only or any(some in fault.name for some in options.only)]
    if options.list or not faults:
        print("\n".join(fault.name for fault in FAULTS))
        return 0 if options.list else 2
    if options.out is None or any((options.out / name).exists() for name in ("whole", "faults.csv")):
        raise PosecovError(f"{options.out}: give a folder without trials with --out")
    rows, wholes = list[dict[str, object]](), dict[tuple[str, ...], Trial]()
    for number, fault in enumerate(faults):
        if (fault.room or fault.happens is little_shared_memory) and os.geteuid() != 0:
            rows.append({"fault": fault.name, "wrong": "skipped: needs root"})
            continue
        if fault.goes_on and fault.launcher not in wholes:
            wholes[fault.launcher] = Trial(options.out / ("whole" + "-together" * bool(fault.launcher)), fault.launcher)
            _finish(wholes[fault.launcher])
        folder = options.out / re.sub(r"[^\w]+", "-", fault.name)
        rows.append(_try(fault, folder, wholes.get(fault.launcher)))
        print(f"{number + 1}/{len(faults)} {fault.name}: {rows[-1]['wrong'] or 'as it should'}", file=sys.stderr, flush=True)
    with (options.out / "faults.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("fault", "code", "seconds", "said", "wrong"))
        writer.writeheader()
        writer.writerows(rows)
    print("| fault | exit code | seconds | what it says | |\n|---|---|---|---|---|")
    for row in rows:
        said = str(row.get("said", "")).replace(str(options.out) + "/", "").replace("|", "/")
        print(f"| {row['fault']} | {row.get('code', '')} | {row.get('seconds', '')} | {said} | {row['wrong'] or 'goes on'} |")
    broken = [row for row in rows if row["wrong"] and not str(row["wrong"]).startswith("skipped")]
    print(f"{len(rows) - len(broken)} of {len(rows)} as they should")
    return 1 if broken else 0


def kill_group(group: int) -> None:
    """Kill whatever is left of a session that was started."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _try(fault: Fault, folder: Path, whole: Trial | None) -> dict[str, object]:
    trial = Trial(folder, fault.launcher, fault.settings)
    run, wrong = trial.commands.folder, list[str]()
    if fault.room:
        run.mkdir()
        _must_mount("-t", "tmpfs", "-o", f"size={fault.room}m", "tmpfs", str(run))
    try:
        if fault.stage == "":
            undo = fault.happens(trial)
            trial.start()
        else:
            trial.start()
            if fault.happens is not already:
                trial.wait_for("mean" if fault.stage == "resumed" else fault.stage)
            if fault.stage == "resumed":
                kill_group(trial.pid)
                trial.end()
            undo = fault.happens(trial)
            trial.since = time.monotonic()
            if fault.stage == "resumed":
                trial.start()
        code, seconds = trial.end()
        said = trial.said()
        (folder / "fault.txt").write_text(said)  # What comes after overwrites it.
        lines = [line for line in said.splitlines() if line.startswith("train: ")]
        if code is None:
            wrong.append(f"did not end within {LIMIT:.0f} s")
        elif code != fault.code:
            wrong.append(f"exit code {code}, not {fault.code}")
        if "Traceback" in said and not fault.launcher:
            wrong.append("traceback")
        if len(lines) != 1:
            wrong.append(f"{len(lines)} lines")
        elif not re.search(fault.says, lines[0]):
            wrong.append(f"says something else than {fault.says!r}")
        wrong += _leftovers(run) if fault.stage else []
        undo()
        if fault.goes_on and whole is not None:
            _finish(trial)
            wrong += [f"{name} differs" for name in ("last", "best") if not _same_weights(whole, trial, name)]
    except PosecovError as error:
        return {"fault": fault.name, "wrong": str(error)}
    finally:
        if trial.process is not None:
            kill_group(trial.pid)
        if fault.room:
            subprocess.run(["umount", "-l", str(run)], check=False)
    line = lines[0].removeprefix("train: ") if lines else said.strip().rsplit("\n", 1)[-1][:200]
    return {"fault": fault.name, "code": code, "seconds": round(seconds, 1), "said": line, "wrong": "; ".join(wrong)}


def _leftovers(run: Path) -> list[str]:
    """What is wrong with the checkpoint that a fault leaves."""
    from posecov.learn.checkpoint import load_checkpoint

    try:
        load_checkpoint(run / "last.safetensors")
    except PosecovError as error:
        return [str(error)]
    return []


def _finish(trial: Trial) -> None:
    """Let a training go on to its end. Raises PosecovError when it fails."""
    trial.start()
    assert trial.process is not None
    if trial.process.wait():
        raise PosecovError(f"{trial.folder.name}: does not go on: {trial.said().strip()[-300:]}")


def _same_weights(one: Trial, other: Trial, name: str) -> bool:
    import torch

    from posecov.learn.checkpoint import load_checkpoint

    mine, theirs = (load_checkpoint(trial.commands.folder / f"{name}.safetensors")[0] for trial in (one, other))
    return set(mine) == set(theirs) and all(torch.equal(mine[key], theirs[key]) for key in mine)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], stderr=subprocess.DEVNULL, check=False).returncode


def _must_mount(*arguments: str) -> None:
    if _mount(*arguments):
        raise PosecovError(f"mount {' '.join(arguments)}: not permitted")


def _back(gone: Path, place: Path) -> None:
    gone.rename(place)


def _write_all(content: dict[Path, bytes]) -> None:
    for path, bytes_ in content.items():
        path.write_bytes(bytes_)


if __name__ == "__main__":
    needs_training_packages("training_faults")
    try:
        sys.exit(main(sys.argv[1:]))
    except PosecovError as error:
        print(f"training_faults: {error}", file=sys.stderr)
        sys.exit(2)
