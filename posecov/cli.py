"""The console command ``posecov``: options, exit codes and clean endings. The commands themselves are in `posecov.commands`."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

import posecov
from posecov.commands.demo import Demo
from posecov.commands.doctor import Doctor
from posecov.commands.image import Image
from posecov.commands.rank import Rank
from posecov.commands.serve import Serve
from posecov.commands.terminal import complain
from posecov.commands.video import Video
from posecov.commands.webcam import Webcam
from posecov.errors import PosecovError

COMMANDS: dict[str, type] = {
    "demo": Demo,
    "image": Image,
    "video": Video,
    "webcam": Webcam,
    "rank": Rank,
    "serve": Serve,
    "doctor": Doctor,
}
"""Name on the command line to dataclass of options with ``run() -> int``. A new command is a file and a line here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``posecov`` with these arguments (those of the process when None) and return the exit code.

    0: all done. 1: some inputs failed. 2: wrong usage, or nothing could start. 130: interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="posecov: %(message)s")
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal's encoding lacks must not end the run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"posecov {posecov.__version__}\n")
        return 0
    try:
        return _parse(arguments).run()
    except SystemExit as stop:  # tyro ends with 0 after --help and 2 after wrong usage.
        return stop.code if isinstance(stop.code, int) else 2
    except PosecovError as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("posecov: interrupted\n")
        return 130
    except BrokenPipeError:  # The reader of stdout has gone (posecov image ... | head); Python must not flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _parse(arguments: list[str]) -> Any:
    commands: Any = tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in COMMANDS.items())
    union: Any = commands[0]
    for command in commands[1:]:
        union = union | command
    description = "Keypoints with a calibrated covariance. 'posecov --version' says which posecov this is."
    return tyro.cli(union, prog="posecov", description=description, args=arguments)


if __name__ == "__main__":
    sys.exit(main())
