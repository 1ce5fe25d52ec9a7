"""What the server says when it does not answer: a status and one line, ``{"error": line}``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import Response

RETRY_SECONDS = 1
"""When to come back, in an answer that says that the server is busy."""


@dataclass
class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        message: one line for whoever wrote the client.
        headers: further ones.
    """

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


def busy(what: str) -> Refused:
    """The server has too much to do."""
    return Refused(503, f"{what}; try again in a moment", {"Retry-After": str(RETRY_SECONDS)})


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that says so."""
    line = " ".join(message.split())
    content = json.dumps({"error": line}).encode()
    return Response(content, status, headers=dict(headers or {}), media_type="application/json")
