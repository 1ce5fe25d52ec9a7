"""Keeping the application up on a port until somebody says that it is enough."""

import math
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from posecov.errors import PosecovError
from posecov.files import reason
from posecov.server.limits import Limits
from posecov.server.protocol import protocol_with

_BACKLOG = 64  # Connections that wait to be taken, and how many are taken before one that is too many can be closed.
_KEEP_ALIVE_SECONDS = 15
_SPARE_HANDLES = 512  # Beside those of connections that are served or told that they are too many.
# Seconds that a thread may keep Python's lock while others wait: 0.005 is usual, but a request has many short turns.
_TURN = 0.001
_MAX_HEADER = 16_384  # Bytes, of a request's line and headers together.


def prepare(app: ASGIApp, host: str, port: int, limits: Limits) -> tuple[uvicorn.Server, socket.socket]:
    """A server that is ready to run, and the socket that it will listen on.

    Args:
        app: `app.create_app`.
        host: address to listen on.
        port: 0 takes a free one.
        limits: of connections and time.

    Raises:
        PosecovError: the port cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise PosecovError(f"cannot listen on {host} port {port} ({reason(error)}); give another --host or --port") from None
    config = uvicorn.Config(
        app,
        http=protocol_with(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(limits.body_timeout + limits.timeout) + 1,
        h11_max_incomplete_event_size=_MAX_HEADER,
    )
    return uvicorn.Server(config), listener


def run(app: ASGIApp, host: str, port: int, limits: Limits, ready: Callable[[str], object]) -> None:
    """Serve until SIGTERM or Ctrl-C; what is under way is then finished, which takes no longer than its time-outs.

    Args:
        app: as for `prepare`, with the three that follow.
        host: address to listen on.
        port: 0 takes a free one.
        limits: of connections and time.
        ready: told the address once connections are taken.

    Raises:
        PosecovError: the port cannot be used.
    """
    server, listener = prepare(app, host, port, limits)
    sys.setswitchinterval(_TURN)
    _make_room(2 * limits.max_connections + _SPARE_HANDLES)

    def stop(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signals that ended it once more at the end; they have been heard.
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with listener:
            name = f"[{host}]" if ":" in host else host
            ready(f"http://{name}:{listener.getsockname()[1]}/")
            server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_room(handles: int) -> None:
    """Let this process have so many open files, as far as the system allows."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = handles if hard == resource.RLIM_INFINITY else min(handles, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
