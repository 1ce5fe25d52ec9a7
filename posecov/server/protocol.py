"""What uvicorn does not do by itself: time for headers, patience with slow readers, a limit on connections, errors in JSON."""

import asyncio
import contextlib
import json

from uvicorn.protocols.http.h11_impl import H11Protocol

from posecov.server.limits import Limits
from posecov.server.refusals import RETRY_SECONDS

_REASONS = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}
_LINGER_SECONDS = 1.0  # For the client to take what it was told before the connection closes.


def protocol_with(limits: Limits) -> type[H11Protocol]:
    """uvicorn's protocol for HTTP/1.1 with limits, as `uvicorn.Config` takes it."""
    return type("Protocol", (_Protocol,), {"limits": limits})


class _Protocol(H11Protocol):
    limits: Limits
    _header_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > 2 * self.limits.max_connections:
            transport.abort()  # No time even for an answer.
        elif len(self.connections) > self.limits.max_connections:
            self._end(503, f"{self.limits.max_connections} connections are open; try again in a moment")
        else:
            self._await_header()

    def data_received(self, data: bytes) -> None:
        if self._over or self.transport.is_closing():
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel(self._header_timer)
            self._header_timer = None
        elif self._header_timer is None and not self._over and self.timeout_keep_alive_task is None:
            self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel(self._header_timer)
        self._cancel(self._reader_timer)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader_timer = self.loop.call_later(self.limits.body_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel(self._reader_timer)

    def shutdown(self) -> None:
        if self._over:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        self._end(400, "this is not an HTTP request, or its header is too long")

    def _await_header(self) -> None:
        said = f"the header of the request did not arrive within {self.limits.header_timeout:g} s"
        self._header_timer = self.loop.call_later(self.limits.header_timeout, self._end, 408, said)

    def _end(self, status: int, line: str) -> None:
        """Answer past h11, whatever state it is in, and close."""
        if self._over or self.transport.is_closing():
            return
        self._over = True
        self._cancel(self._header_timer)
        content = json.dumps({"error": line}).encode()
        header = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
            *([f"Retry-After: {RETRY_SECONDS}"] if status == 503 else []),
            "Connection: close",
        ]
        self.transport.write("\r\n".join([*header, "", ""]).encode() + content)
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):  # A client that has gone by now.
                self.transport.write_eof()

    @staticmethod
    def _cancel(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
