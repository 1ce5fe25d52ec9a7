"""Writing files whole."""

import os
import secrets
from pathlib import Path

from posecov.errors import PosecovError


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file whole: whoever reads it sees the old one or the new one, also after a crash.

    Raises:
        PosecovError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    temporary = path.with_name(temporary_name())
    try:
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise PosecovError(f"{path}: cannot be written ({reason(error)})") from None


def temporary_name() -> str:
    """A file name that nobody has. Not made from the target's name: that may already be as long as names can be."""
    return f".posecov-{secrets.token_hex(6)}.part"


def reason(error: Exception) -> str:
    """Why, in the words of the system or of FFmpeg, whose errors have them in the same place."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
