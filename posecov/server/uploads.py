"""A request's body, in memory and within limits, as the picture and the fields in it.

Starlette's own parser of forms puts files on disk; a client's picture never gets there.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from posecov.server.limits import Limits
from posecov.server.refusals import Refused
from posecov.server.workers import Workers

FIELDS = ("boxes", "mass")
"""What may stand in a form beside the picture, or in the query."""

UNNAMED = "picture"
"""What a picture without a name is called in the answer."""

_MAX_FIELD = 65_536  # Bytes of a field.
_MAX_NAME = 255  # Characters of a file name.
_DRAIN_SECONDS = 1.0


class Gone(Exception):
    """The client has closed the connection."""


@dataclass
class Upload:
    """What a client has sent.

    Attributes:
        name: the picture's file name, without folders.
        content: the picture's bytes.
        fields: text by name, of `FIELDS`.
    """

    name: str = UNNAMED
    content: bytearray = field(default_factory=bytearray)
    fields: dict[str, str] = field(default_factory=dict)


async def read_upload(request: Request, limits: Limits, workers: Workers) -> Upload:
    """Read a body: a form with the picture in its field ``file``, or the picture itself.

    Its bytes are held by ``workers`` until the caller releases ``len(upload.content)``; nothing stays held on failure.

    Raises:
        Refused: 400 a broken form, 408 too slow, 411 no length, 413 too long, 415 neither form nor picture, 503 too
            much at once.
        Gone: the client has.
    """
    take, upload, finish = _taker(request)
    length = request.headers.get("content-length")
    if length is None and "transfer-encoding" not in request.headers:
        raise Refused(411, "the request has no Content-Length; send the picture as its body")
    if length is not None and int(length) > limits.max_bytes:
        raise _too_long(limits)
    taken = 0
    try:
        async with asyncio.timeout(limits.body_timeout):
            async for chunk in _chunks(request):
                taken += len(chunk)
                workers.hold(len(chunk))
                if taken > limits.max_bytes:
                    raise _too_long(limits)
                take(chunk)
        finish()
    except TimeoutError:
        workers.release(taken)
        raise Refused(408, f"the body did not arrive within {limits.body_timeout:g} s") from None
    except BaseException:
        workers.release(taken)
        raise
    workers.release(taken - len(upload.content))
    return upload


async def dismiss(request: Request, limits: Limits) -> dict[str, str]:
    """Throw away what a refused client is still sending, for a moment: one whose connection closes under it sees no answer.

    Returns:
        Headers of the refusal: what may still come belongs to no request, so the connection ends.
    """
    if not {"content-length", "transfer-encoding"} & set(request.headers):
        return {}
    # A client that waits to be asked for its body is not asked.
    if "expect" not in request.headers or getattr(request.state, "asked", False):
        with contextlib.suppress(TimeoutError, Gone):
            left = 2 * limits.max_bytes
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for chunk in _chunks(request):
                    left -= len(chunk)
                    if left < 0:
                        break
    return {"Connection": "close"}


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    request.state.asked = True
    while not getattr(request.state, "whole", False):
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Gone
        request.state.whole = not message.get("more_body", False)
        yield message.get("body", b"")


def _taker(request: Request) -> tuple[Callable[[bytes], Any], Upload, Callable[[], None]]:
    """What takes the chunks of a body, what comes of them, and what checks in the end that it is whole."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"multipart/form-data":
        form = _Form(options.get(b"boundary", b""))
        return form.take, form.upload, form.finish
    if kind not in (b"", b"application/octet-stream") and not kind.startswith(b"image/"):
        what = "multipart/form-data with a field 'file', image/* or application/octet-stream"
        raise Refused(415, f"the content type must be {what}, not {kind.decode('latin-1')[:100]}")
    upload = Upload()
    return upload.content.extend, upload, lambda: None


def _too_long(limits: Limits) -> Refused:
    return Refused(413, f"the body is longer than {limits.max_bytes / 1e6:g} MB; send a smaller picture")


class _Form:
    """Takes a form apart as it arrives."""

    def __init__(self, boundary: bytes):
        self.upload = Upload()
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._target: bytearray | None = None
        self._texts: dict[str, bytearray] = {}
        self._seen: set[str] = set()
        self._ended = False
        if not boundary:
            raise Refused(400, "the form's content type names no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_of_header,
                    "on_headers_finished": self._end_of_headers,
                    "on_part_data": self._part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise Refused(400, "the form's boundary is too long") from None

    def take(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Refused(400, f"the form cannot be read ({error})") from None

    def finish(self) -> None:
        if not self._ended:
            raise Refused(400, "the form ends before its last boundary")
        if "file" not in self._seen:
            raise Refused(400, "the form has no field 'file' with the picture")
        for name, text in self._texts.items():
            try:
                self.upload.fields[name] = text.decode()
            except UnicodeDecodeError:
                raise Refused(400, f"the field {name!r} is not UTF-8 text") from None

    def _end(self) -> None:
        self._ended = True

    def _end_of_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_of_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode(errors="replace")
        if name not in ("file", *FIELDS):
            raise Refused(400, f"the form has a field {name[:100]!r}; it may have 'file', {', '.join(map(repr, FIELDS))}")
        if name in self._seen:
            raise Refused(400, f"the form has the field {name!r} twice; send one picture a request")
        self._seen.add(name)
        if name == "file":
            self._target = self.upload.content
            self.upload.name = file_name(options.get(b"filename", b"").decode(errors="replace"))
        else:
            self._target = self._texts.setdefault(name, bytearray())

    def _part(self, data: bytes, start: int, end: int) -> None:
        assert self._target is not None
        if self._target is not self.upload.content and len(self._target) + end - start > _MAX_FIELD:
            raise Refused(400, f"a field of the form is longer than {_MAX_FIELD} bytes")
        self._target.extend(memoryview(data)[start:end])


def file_name(name: str) -> str:
    """The last part of a name that may be a path, without what does not print; `UNNAMED` where nothing is left."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in last if c.isprintable())[:_MAX_NAME].strip() or UNNAMED
