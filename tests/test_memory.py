import os
import subprocess
import sys
from pathlib import Path

import pytest

from posecov.commands.memory import LEAVE, SETTINGS

ROOT = Path(__file__).resolve().parent.parent
CODE = """
import os
print(os.getpid(), flush=True)
from posecov.commands.memory import SETTINGS, keep_freed_memory
keep_freed_memory()
print(*(os.environ.get(name) for name in SETTINGS))
"""


def _run(**settings):
    environment = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, LEAVE, "LD_PRELOAD")}
    command = [sys.executable, "-u", "-c", CODE]
    done = subprocess.run(command, env=environment | settings, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_a_program_starts_over_once_as_the_same_process():
    first, again, found = _run()
    assert first == again
    assert found.split() == list(SETTINGS.values())


@pytest.mark.parametrize("taken", [LEAVE, "MALLOC_TOP_PAD_"])
def test_what_a_user_has_set_stays(taken):
    _, found = _run(**{taken: "1"})
    assert found.split() == ["1" if name == taken else "None" for name in SETTINGS]
