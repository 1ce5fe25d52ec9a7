"""``posecov doctor [MODEL]``: what is installed, what runs, how fast, and whether a model agrees with itself.

Plain text for a bug report. Exit code 0: nothing is wrong; 1: a line says FAIL.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from posecov.commands.terminal import say


@dataclass(frozen=True)
class Doctor:
    """Say what is installed, what runs and how fast: text to paste into a bug report."""

    model: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")] = None
    """A model that posecov exported (.onnx), instead of the one that ships with posecov."""

    def run(self) -> int:
        """Exit code 0 when all is well, 1 when something is wrong."""
        from posecov.doctor import examine

        wrong = 0
        for title, findings in examine(self.model):
            say(f"{title}:")
            for finding in findings:
                say(f"  {finding}")
                wrong += finding.verdict is False
        say("all is well" if not wrong else "1 line says FAIL" if wrong == 1 else f"{wrong} lines say FAIL")
        return 1 if wrong else 0
