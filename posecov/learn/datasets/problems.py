"""What is wrong in annotation files: collected while they are read, then refused or listed."""

import logging

from posecov.errors import PosecovError

log = logging.getLogger(__name__)
_SHOWN = 20


class Problems:
    """One line for each thing that is wrong: where it stands, and what it is.

    A reader adds a line and leaves out the smallest part that is wrong: one joint, one person, or a picture with its people.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Note a problem. ``where`` is a file and a place in it."""
        self.lines.append(f"{where}: {what}")

    def settle(self, skip_bad: bool = False) -> None:
        """Go on without what is wrong and list it, or refuse.

        Raises:
            PosecovError: something is wrong and nothing may be skipped.
        """
        if not self.lines:
            return
        more = len(self.lines) - 1
        if not skip_bad:
            others = f" (and {more} more; tools/inspect_data.py lists them)" if more else ""
            raise PosecovError(f"{self.lines[0]}{others}; correct it, or go on without with --skip-bad")
        log.warning("skipped as bad: %d", len(self.lines))
        for line in self.lines[:_SHOWN]:
            log.warning("  %s", line)
        if len(self.lines) > _SHOWN:
            log.warning("  and %d more", len(self.lines) - _SHOWN)
