"""The short version of tools/trust/mutate_files.py: every reader with some damaged files, each in a process that may die."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "trust" / "mutate_files.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(TOOL.parents[2]), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_nothing_breaks_and_both_good_and_bad_files_are_seen(tmp_path):
    done = run("--cases", "24", "--seed", "7", "--keep", str(tmp_path / "kept"))
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{sorted((tmp_path / 'kept').glob('*'))}"
    rows = re.findall(r"^(\S+) +24 +(\d+) +(\d+) +0 +0 +0 +0 ", done.stdout, re.MULTILINE)
    assert len(rows) == 21
    assert all(int(refused) > 0 for _, _, refused in rows)
    assert {name for name, accepted, _ in rows if accepted == "0"} == {"mat73"}
    assert not (tmp_path / "kept").exists()


def test_the_tool_sees_what_breaks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import ctypes, sys
sys.path.insert(0, {str(TOOL.parent)!r})
import file_readers
file_readers.MODULES = ()
import mutate_files
from posecov.errors import PosecovError
mutate_files._CPU_SECONDS, mutate_files._MEMORY = 2.0, 2**26

def refuse(): raise PosecovError("x" * 10_000)
def stumble(): raise ValueError
def ask(): raise MemoryError
def fill(): return bytearray(b"x") * 2**27
def crash(): ctypes.string_at(1)
def hang():
    while True: pass

def reader(trouble):
    def read(path):
        if path.read_bytes() != b"good":
            trouble()
    return file_readers.Reader(lambda: {{"a.txt": b"good"}}, read)

for trouble in (refuse, stumble, ask, fill, crash, hang):
    file_readers.READERS[trouble.__name__] = reader(trouble)
names = [trouble.__name__ for trouble in (refuse, stumble, ask, fill, crash, hang)]
sys.exit(mutate_files.main(["--readers", *names, "--cases", "2", "--keep", {str(tmp_path / "kept")!r}]))
"""
    )
    environment = {"PYTHONPATH": str(TOOL.parents[2]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    rows = {row[0]: row[1:] for row in re.findall(r"^(\w+) +2 +1 " + r" +(\d)" * 5, done.stdout, re.MULTILINE)}
    wanted = ("refused", "undocumented", "crash", "hang", "memory")
    seen = {name: [what for what, count in zip(wanted, row, strict=True) if count == "1"] for name, row in rows.items()}
    assert seen == {
        "refuse": ["refused"], "stumble": ["undocumented"], "ask": ["memory"], "fill": ["memory"], "crash": ["crash"],
        "hang": ["hang"],
    }  # fmt: skip
    kept = {path.name.split("-")[0] for path in (tmp_path / "kept").glob("*")}
    assert kept == {"stumble", "ask", "fill", "crash", "hang"}
