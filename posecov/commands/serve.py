"""``posecov serve``: poses over HTTP, and the page that computes them in the browser.

SIGTERM or Ctrl-C ends, with exit code 0, once what is under way is finished.
"""

import gc
import importlib.util
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from posecov.commands.terminal import complain, say
from posecov.errors import PosecovError

TOKEN_VARIABLE = "POSECOV_TOKEN"

_PACKAGES = ("fastapi", "orjson", "uvicorn", "python_multipart", "prometheus_client")


@dataclass(frozen=True)
class Serve:
    """Serve poses over HTTP: POST a picture to /v1/poses."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every one of this machine."""

    port: Annotated[int, tyro.conf.arg(metavar="N")] = 8000
    """Port; 0 takes a free one."""

    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """A model that posecov exported (.onnx); or 'small' or 'tiny', which ship with posecov: small unless told."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads of the network; all cores without it."""

    token_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File with the token that clients must send (Authorization: Bearer TOKEN); else the variable POSECOV_TOKEN, else none."""

    web: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the page under /, instead of the one that ships with posecov."""

    max_bytes: Annotated[int, tyro.conf.arg(metavar="N")] = 20_000_000
    """Of a request's body."""

    max_pixels: Annotated[int, tyro.conf.arg(metavar="N")] = 40_000_000
    """Of a picture."""

    max_boxes: Annotated[int, tyro.conf.arg(metavar="N")] = 64
    """Of a picture."""

    max_concurrent: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """Pictures worked on at once. Each may need 20 bytes a pixel."""

    max_waiting: Annotated[int, tyro.conf.arg(metavar="N")] = 32
    """Pictures that wait for their turn; the next is answered with 503."""

    max_connections: Annotated[int, tyro.conf.arg(metavar="N")] = 256
    """Open at once; the next is answered with 503."""

    timeout: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 30.0
    """For an answer, once the body is there."""

    body_timeout: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 20.0
    """For a body to arrive."""

    def run(self) -> int:
        """Exit code 0. Raises PosecovError when it could not start."""
        for package in _PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise PosecovError(f'posecov serve needs {package}; run pip install "posecov[serve]"')
        import cv2

        from posecov.estimator import PoseEstimator
        from posecov.server.app import create_app
        from posecov.server.limits import Limits
        from posecov.server.running import run
        from posecov.server.web import find_page

        limits = Limits(
            self.max_bytes,
            self.max_pixels,
            self.max_boxes,
            self.max_concurrent,
            self.max_waiting,
            self.max_connections,
            self.timeout,
            self.body_timeout,
        )
        token = read_token(self.token_file)
        app = create_app(PoseEstimator(self.model, threads=self.threads), limits, token=token, page=find_page(self.web))
        cv2.setNumThreads(1)  # Requests run beside each other already, and its threads wait in a loop, on the network's core.
        gc.freeze()  # What is loaded by now stays.
        if token is None and not _is_loopback(self.host):
            complain(f"anybody who reaches {self.host} can use this server; --token-file or {TOKEN_VARIABLE} asks for a token")
        run(app, self.host, self.port, limits, lambda url: say(f"serving on {url} (Ctrl-C ends)"))
        return 0


def read_token(path: Path | None) -> str | None:
    """The token in a file, else in the environment, else None. Raises PosecovError for one that cannot be sent in a header."""
    if path is None:
        text, where = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if text is None:
            return None
    else:
        where = str(path)
        try:
            text = path.read_text(encoding="ascii")
        except (OSError, UnicodeError) as error:
            raise PosecovError(
                f"{path}: cannot read a token from it ({getattr(error, 'strerror', None) or 'not ASCII'})"
            ) from None
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise PosecovError(f"{where}: holds no token; it must be one word of ASCII characters")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
