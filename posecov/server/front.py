"""What every request passes first: the token, the headers of the answer, the counters."""

import hmac
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from posecov.server.limits import Limits
from posecov.server.metrics import Metrics
from posecov.server.refusals import refusal
from posecov.server.uploads import dismiss
from posecov.server.web import HEADERS

ROUTES = {
    "/v1/poses": "poses",
    "/v1/model": "model",
    "/metrics": "metrics",
    "/healthz": "healthz",
    "/openapi.json": "openapi",
}
"""What a path is called in the metrics; all others are "page"."""

GUARDED = ("poses", "model", "metrics")
"""What needs the token where there is one: health is for probes, the page computes in the browser and knows nothing."""


class Front:
    """ASGI application before the application."""

    def __init__(self, app: ASGIApp, token: str | None, limits: Limits, metrics: Metrics):
        self._app, self._limits, self._metrics = app, limits, metrics
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route, start, status = ROUTES.get(scope["path"], "page"), time.perf_counter(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if route != "page":
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            if route in GUARDED and not self._may(scope):
                said = "this needs the server's token, as Authorization: Bearer TOKEN"
                headers = {"WWW-Authenticate": "Bearer", **await dismiss(Request(scope, receive), self._limits)}
                await refusal(401, said, headers)(scope, receive, send_on)
            else:
                await self._app(scope, receive, send_on)
        finally:
            self._metrics.request(route, status, time.perf_counter() - start)

    def _may(self, scope: Scope) -> bool:
        if self._token is None:
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)
