"""Feed mutated files to every reader: each must end with a result or with the one line that is promised, and soon.

    python tools/trust/mutate_files.py [--readers png hdf5 ...] [--cases 2000] [--seed 0] [--keep DIR]

Cases run many to a process, which is killed and followed by another when one of them crashes it, takes more than 5 s of CPU
time or a minute of any. What counts as broken: an exception other than PosecovError, a message of several lines or of more than
2,000 characters, a crash, a hang, more than 1 GiB of memory (also asked for in vain). Inputs that broke something are kept in
--keep, with a .txt that says what happened. Linux only. Exit code 0 when nothing broke, 1 when something did, 2 when nothing
could start.
"""

import argparse
import contextlib
import importlib
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from file_readers import MODULES, READERS, Reader, prepare

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError

OUTCOMES = ("accepted", "refused", "undocumented", "crash", "hang", "memory")
_CPU_SECONDS, _WALL_SECONDS = 5.0, 60.0
_MEMORY = 2**30
_ADDRESS_SPACE = 3 * 2**30  # Beyond what the process has at its start: what asks for more fails and counts as memory.
_LONGEST = 2000


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tools/trust/mutate_files.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS), metavar="READER")
    parser.add_argument("--cases", type=int, default=2000, help="of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that broke something")
    options = parser.parse_args(arguments)
    for module in MODULES:
        importlib.import_module(f"posecov.{module}")  # Once, not in every process.
    broke = False
    print(
        f"{'reader':14} {'cases':>6} " + " ".join(f"{name:>12}" for name in OUTCOMES) + f" {'slowest':>9} {'memory':>8}",
        flush=True,
    )
    for name in options.readers:
        counts, slowest, most = Campaign(name, options.cases, options.seed, options.keep).run()
        broke |= any(counts[outcome] for outcome in OUTCOMES[2:])
        columns = " ".join(f"{counts[outcome]:12}" for outcome in OUTCOMES)
        print(f"{name:14} {sum(counts.values()):6} {columns} {slowest:7.2f} s {most / 2**20:4.0f} MiB", flush=True)
    print("something broke" if broke else "nothing broke")
    return 1 if broke else 0


class Campaign:
    """All cases of one reader."""

    def __init__(self, name: str, cases: int, seed: int, keep: Path | None):
        self.name, self.cases, self.seed, self.keep = name, cases, seed, keep
        self.reader: Reader = READERS[name]
        self.seeds = dict(sorted(self.reader.seeds().items()))
        # The case at work and when it began in the child's CPU time; then its result: outcome, seconds, bytes.
        self.board = mmap.mmap(-1, 16)
        self.results: dict[int, tuple[str, float, int]] = {}

    def run(self) -> tuple[Counter[str], float, int]:
        """How many cases ended how, the slowest one's seconds of CPU time, and the most memory of one in bytes."""
        with tempfile.TemporaryDirectory(prefix="posecov-mutated-") as folder:
            prepare(Path(folder))
            start = 0
            while start < self.cases:
                start = self._batch(start, Path(folder))
        found = self.results.values()
        counts = Counter(outcome for outcome, _, _ in found)
        return counts, max((s for _, s, _ in found), default=0.0), max((m for _, _, m in found), default=0)

    def case(self, number: int) -> tuple[str, bytes]:
        """Name and content of a case; cases 0 to S - 1 are the seeds themselves."""
        names = list(self.seeds)
        if number < len(names):
            return names[number], self.seeds[names[number]]
        chance = random.Random(f"{self.seed} {self.name} {number}")
        name = chance.choice(names)
        return name, self.reader.mutate(self.seeds[name], chance, list(self.seeds.values()))

    def _batch(self, start: int, folder: Path) -> int:
        """Run cases in a process of their own until they end or one of them ends it; the next case to run."""
        self.board[:] = struct.pack("<qd", start, 0.0)
        reading, writing = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._work(start, folder, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        buffer, ended, broken = bytearray(), None, None
        last, since = start, time.monotonic()
        while ended is None:
            time.sleep(0.02)
            with_status = os.waitpid(child, os.WNOHANG)
            ended = with_status[1] if with_status[0] else None
            buffer += _available(reading)
            case, began = struct.unpack("<qd", self.board[:])
            if case != last:
                last, since = case, time.monotonic()
            if ended is None and (_cpu(child) - began > _CPU_SECONDS or time.monotonic() - since > _WALL_SECONDS):
                os.kill(child, signal.SIGKILL)
                broken = "hang"
        buffer += _available(reading)
        os.close(reading)
        for line in buffer.decode().splitlines():
            number, outcome, seconds, memory = json.loads(line)
            self.results[number] = (outcome, seconds, memory)
        case = struct.unpack("<qd", self.board[:])[0]
        if os.waitstatus_to_exitcode(ended) == 0 and broken is None:
            return self.cases
        status = os.waitstatus_to_exitcode(ended)
        if case not in self.results:
            self.results[case] = (broken or "crash", _CPU_SECONDS if broken else 0.0, 0)
            self._keep(case, broken or "crash", f"ended with {status}")
        return case + 1

    def _work(self, start: int, folder: Path, writing: int) -> None:
        """In the child: run cases, say how each ended, exit."""
        code = 1
        try:
            self._warm_up(folder)
            size = _status("VmSize")
            resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESS_SPACE,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            for number in range(start, self.cases):
                name, content = self.case(number)
                path = folder / name
                path.write_bytes(content)
                outcome, said, seconds, memory = self._one(number, path)
                if number < len(self.seeds) and outcome == "refused" and not name.startswith("bad-"):
                    outcome, said = "undocumented", f"a good file is refused: {said}"
                if outcome not in ("accepted", "refused"):
                    self._keep(number, outcome, said)
                os.write(writing, (json.dumps([number, outcome, seconds, memory]) + "\n").encode())
            code = 0
        finally:
            os._exit(code)

    def _warm_up(self, folder: Path) -> None:
        """Imports and first uses of libraries belong to no case."""
        name, content = next(iter(self.seeds.items()))
        (folder / name).write_bytes(content)
        with contextlib.suppress(Exception):
            self.reader.read(folder / name)

    def _one(self, number: int, path: Path) -> tuple[str, str, float, int]:
        Path("/proc/self/clear_refs").write_text("5")  # The peak of memory starts again.
        before, began = _status("VmRSS"), time.process_time()
        self.board[:] = struct.pack("<qd", number, began)
        outcome, said = "accepted", ""
        try:
            self.reader.read(path)
        except PosecovError as error:
            outcome, said = "refused", str(error)
            if "\n" in said or len(said) > _LONGEST:
                outcome = "undocumented"
            if _wanted_memory(error):
                outcome = "memory"
        except BaseException as error:
            outcome, said = "memory" if _wanted_memory(error) else "undocumented", traceback.format_exc()
        seconds, memory = time.process_time() - began, _status("VmHWM") - before
        if memory > _MEMORY:
            outcome, said = "memory", f"{memory / 2**20:.0f} MiB\n{said}"
        return outcome, said, seconds, max(memory, 0)

    def _keep(self, number: int, outcome: str, said: str) -> None:
        if self.keep is None:
            return
        name, content = self.case(number)
        self.keep.mkdir(parents=True, exist_ok=True)
        target = self.keep / f"{self.name}-{self.seed}-{number}-{outcome}-{name}"
        target.write_bytes(content)
        target.with_name(target.name + ".txt").write_text(said, errors="backslashreplace")


def _wanted_memory(error: BaseException | None) -> bool:
    while error is not None:
        # FFmpeg itself allocates no more than 2 GiB at once, and says the same of what it has not tried.
        if (isinstance(error, MemoryError) and not type(error).__module__.startswith("av.")) or "bad_alloc" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _available(descriptor: int) -> bytes:
    found = bytearray()
    while True:
        try:
            part = os.read(descriptor, 65_536)
        except BlockingIOError:
            break
        if not part:
            break
        found += part
    return bytes(found)


def _cpu(process: int) -> float:
    """Seconds of CPU time that a process has used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(key: str) -> int:
    """A figure of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    needs_training_packages("mutate_files")
    try:
        sys.exit(main(sys.argv[1:]))
    except PosecovError as failure:
        print(f"mutate_files: {failure}", file=sys.stderr)
        sys.exit(2)
