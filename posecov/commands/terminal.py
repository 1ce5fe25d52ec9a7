"""What commands say: results on stdout, trouble on stderr, each a line."""

import sys


def say(line: str) -> None:
    """A line of result on stdout."""
    print(line, flush=True)


def complain(trouble: object) -> None:
    """A line of trouble on stderr."""
    print(f"posecov: {trouble}", file=sys.stderr, flush=True)
