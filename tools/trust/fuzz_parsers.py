"""Coverage-guided fuzzing (atheris) of the parsers that are posecov's own.

    pip install -e ".[train,fuzz]"
    python tools/trust/fuzz_parsers.py [--parsers metadata boxes ...] [--seconds 120] [--seed 0] [--keep DIR]

Each parser begins with the good files of `file_readers` and keeps what leads to places in posecov that nothing led to before.
Half of the mutations know the format. Wrong is an exception other than PosecovError, a message that is not one printable
line, 5 s for one input, or 2 GB. What broke something is kept under --keep. Exit code 0 when nothing did, 1 when something
did, 2 when nothing could start.
"""

import argparse
import importlib
import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import file_readers
from file_readers import READERS, Reader

from posecov.commands.terminal import needs_training_packages


class Parser(NamedTuple):
    """What is fuzzed: a reader of `READERS`, with the ending of its files, on seeds whose names start so."""

    reader: str
    ending: str
    prefix: str = ""
    read: Callable[[Path], Any] | None = None


def _look_through(path: Path) -> None:
    from posecov.errors import PosecovError
    from posecov.onnx_file import Unusable, look_through

    try:
        look_through(path, beside=True)
    except Unusable as unusable:
        raise PosecovError(unusable) from None


PARSERS = {
    "metadata": Parser("metadata", ".json"),
    "boxes": Parser("json-boxes", ".json"),
    "boxes-csv": Parser("csv", ".csv", "boxes"),
    "fixes": Parser("json-fixes", ".json"),
    "coco": Parser("json-coco", ".json"),
    "mpii": Parser("json-mpii", ".json"),
    "mpii-csv": Parser("csv", ".csv", "mpii"),
    "results": Parser("json-results", ".jsonl"),
    "skeleton": Parser("yaml", ".yaml", "lsp14"),
    "matlab": Parser("mat5-mpii", ".mat"),
    "onnx-file": Parser("onnx-detector", ".onnx", "", _look_through),
}
"""By name."""

_MODULES = ("boxes", "fixes", "metadata", "onnx_file", "video.results", "learn.datasets", "learn.config")


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tools/trust/fuzz_parsers.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--parsers", nargs="+", choices=list(PARSERS), default=list(PARSERS), metavar="PARSER")
    parser.add_argument("--seconds", type=int, default=120, help="for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that broke something")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # The process that fuzzes, in this folder.
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print('tools/trust/fuzz_parsers.py: atheris is not installed; run pip install -e ".[fuzz]"', file=sys.stderr)
        return 2
    if options.inside:
        _fuzz(options.parsers[0], Path(options.inside), options.seed, options.seconds)
    print(
        f"{'parser':10} {'executions':>10} {'a second':>9} {'edges':>6} {'features':>9} {'inputs kept':>12} {'broke':>6}",
        flush=True,
    )
    broke = 0
    for name in options.parsers:
        broke += _one(name, options.seconds, options.seed, options.keep)
    print("something broke" if broke else "nothing broke")
    return 1 if broke else 0


def _one(name: str, seconds: int, seed: int, keep: Path | None) -> bool:
    with tempfile.TemporaryDirectory(prefix="posecov-fuzz-") as folder:
        command = [
            sys.executable,
            __file__,
            "--parsers",
            name,
            "--seconds",
            str(seconds),
            "--seed",
            str(seed),
            "--inside",
            folder,
        ]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        said = done.stdout + done.stderr
        progress = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)
        edges, features, inputs = progress[-1] if progress else ("0", "0", "0")
        count = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
        executions = int(count[1]) if count else 0
        found = [path for path in Path(folder).glob("*-*") if re.match(r"(crash|timeout|oom|slow-unit|leak)-", path.name)]
        broke = done.returncode != 0
        if keep is not None and broke:
            keep.mkdir(parents=True, exist_ok=True)
            for path in found:
                (keep / f"{name}-{path.name}").write_bytes(path.read_bytes())
            (keep / f"{name}.txt").write_text(said)
    speed = executions / max(seconds, 1)
    print(
        f"{name:10} {executions:10} {speed:9.0f} {edges:>6} {features:>9} {inputs:>12} {'yes' if broke else 'no':>6}",
        flush=True,
    )
    return broke


def _fuzz(name: str, folder: Path, seed: int, seconds: int) -> None:
    """Fuzz until the time is over; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["posecov"]):  # Before anything else imports them.
        for module in _MODULES:
            importlib.import_module(f"posecov.{module}")
    from posecov.errors import LONGEST, PosecovError

    fuzzed = PARSERS[name]
    reader: Reader = READERS[fuzzed.reader]
    seeds = {key: content for key, content in reader.seeds().items() if key.startswith(fuzzed.prefix)}
    file_readers.prepare(folder / "files")
    corpus, path = folder / "corpus", folder / "files" / f"input{fuzzed.ending}"
    corpus.mkdir()
    for key, content in seeds.items():
        (corpus / key).write_bytes(content)
    read = fuzzed.read or reader.read

    def one(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except PosecovError as error:
            if len(str(error)) > LONGEST or not str(error).isprintable():
                raise RuntimeError("not one printable line") from error

    def mutate(content: bytes, longest: int, number: int) -> bytes:
        chance = random.Random(number)
        if chance.random() < 0.5:
            try:
                return reader.mutate(content, chance, list(seeds.values()))[:longest]
            except Exception:  # What is no longer of the format has no structure to be changed.
                pass
        return atheris.Mutate(content, longest)

    os.chdir(folder)  # libFuzzer puts what broke something here.
    flags = [f"-max_total_time={seconds}", "-timeout=5", "-rss_limit_mb=2048", f"-seed={seed + 1}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, "-max_len=20000", str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    needs_training_packages("fuzz_parsers")
    sys.exit(main(sys.argv[1:]))
