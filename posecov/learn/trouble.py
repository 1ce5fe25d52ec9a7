"""What torch raises when the machine fails under it, as one line."""

import contextlib
import re
from collections.abc import Iterator

import torch

from posecov.errors import PosecovError

_READER = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (.*)")
_CUT_OFF = re.compile(r"received \d+ items of ancdata")
_MEMORY = re.compile(r"(?:can't|cannot) allocate memory", re.IGNORECASE)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """What needs memory, or processes that read pictures, does so in here.

    That such a process is gone torch finds out where it waits for a batch, and from a signal at any other moment.

    Raises:
        PosecovError: such a process is gone, or memory has run out.
        KeyboardInterrupt: such a process was told to end.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        if lost := _READER.match(what):
            # Whoever stops a run may tell all its processes, torchrun does: this one hears of itself and of its readers.
            if "signal: Terminated" in lost[1]:
                raise KeyboardInterrupt from None
            raise reader_gone(lost[1].split(". ")[0].rstrip(". ")) from None
        if _CUT_OFF.match(what):
            raise reader_gone("does not answer") from None
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or _MEMORY.search(str(error)):
            raise PosecovError(f"out of memory ({what[:160]}); lower mean.batch, or raise mean.accumulate") from None
        raise


def reader_gone(how: str) -> PosecovError:
    """What to say where a process that reads pictures is gone."""
    return PosecovError(f"a process that reads pictures {how}; if memory is enough, give the same command again")
