"""An .onnx file looked through before anything opens it: no operators of strangers, no weights from elsewhere on the disk.

ONNX is a tree of protobuf messages; only the fields that matter here are followed, whatever else stands in the file.
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from posecov.files import reason

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")
"""Of operators that come with ONNX Runtime."""

_FOREIGN = ("com.microsoft", "EPContext")  # Names a file that another compiler made, which the GPU's would run.
_DEEPEST = 30  # Messages within messages; protobuf itself stops at 100.

_VARINT, _BYTES = 0, 2
# Fields of the messages of onnx.proto by number: the kind of message in them.
_MESSAGES = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_TEXTS = {"node": {4: "name", 7: "domain"}, "function": {1: "name", 10: "domain"}, "entry": {1: "key", 2: "value"}}
_LOCATION, _EXTERNAL = 14, 1  # Of a tensor's data.


class Unusable(Exception):
    """Why a file is not opened, in words that fit into brackets."""


def look_through(path: Path, beside: bool) -> None:
    """Refuse a file that needs more than itself.

    Args:
        path: the file.
        beside: whether weights may be in other files, in its folder or below.

    Raises:
        Unusable: it is damaged, has operators that ONNX Runtime has not, or weights that are elsewhere.
    """
    found = _Found()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _walk(content, 0, len(content), "model", found, 0)
    except (OSError, ValueError) as error:  # mmap takes no empty file.
        raise Unusable(f"it cannot be read: {reason(error)}") from None
    for domain, name in sorted(found.nodes - found.functions):
        if domain not in DOMAINS or (domain, name) == _FOREIGN:
            raise Unusable(f"it needs the operator {domain}:{name}, which ONNX Runtime does not have")
    for location, offset, length in sorted(found.places):
        _check_place(path.parent, location, offset, length, beside)


@dataclass
class _Found:
    nodes: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    places: set[tuple[str, str, str]] = field(default_factory=set)


def _walk(content: mmap.mmap, start: int, stop: int, kind: str, found: _Found, depth: int) -> dict[str, str]:
    """Follow a message; its texts of `_TEXTS`."""
    if depth > _DEEPEST:
        raise Unusable("its graphs are nested too deeply")
    texts: dict[str, str] = {}
    entries: dict[str, str] = {}
    external = False
    for number, wire, value, begin, end in _fields(content, start, stop):
        if wire == _BYTES and (inner := _MESSAGES.get(kind, {}).get(number)):
            said = _walk(content, begin, end, inner, found, depth + 1)
            if inner == "entry":
                entries[said.get("key", "")] = said.get("value", "")
                external = True
        elif wire == _BYTES and (name := _TEXTS.get(kind, {}).get(number)):
            texts[name] = content[begin:end].decode("utf-8", "replace")
        elif wire == _VARINT and kind == "tensor" and number == _LOCATION and value == _EXTERNAL:
            external = True
    if kind in ("node", "function"):
        (found.nodes if kind == "node" else found.functions).add((texts.get("domain", ""), texts.get("name", "")))
    if external:
        found.places.add((entries.get("location", ""), entries.get("offset", "0"), entries.get("length", "0")))
    return texts


def _fields(content: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Number, wire type, value, and where its bytes begin and end, of every field of a message."""
    at = start
    while at < stop:
        tag, at = _varint(content, at, stop)
        number, wire = tag >> 3, tag & 7
        value = begin = end = at
        if wire == _VARINT:
            value, at = _varint(content, at, stop)
        elif wire == _BYTES:
            size, begin = _varint(content, at, stop)
            at = end = begin + size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise Unusable("it is damaged, or something else")
        if at > stop or not number:
            raise Unusable("it is damaged, or something else")
        yield number, wire, value, begin, end


def _varint(content: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise Unusable("it is damaged, or something else")


def _check_place(folder: Path, location: str, offset: str, length: str, beside: bool) -> None:
    if not beside:
        raise Unusable(f"its weights are in another file, {location[:100]!r}")
    relative = PurePosixPath(location.replace("\\", "/"))
    if relative.is_absolute() or PureWindowsPath(location).drive or ".." in relative.parts or not location.isprintable():
        raise Unusable(f"its weights are in {location[:100]!r}, outside its folder")
    path = folder / relative
    try:
        if not path.is_file():
            raise Unusable(f"part of it is in a second file, which must be beside it under its old name, {location[:100]!r}")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise Unusable(f"its weights are in {location[:100]!r}, a link out of its folder")
        size = path.stat().st_size
    except OSError as error:
        raise Unusable(f"its weights in {location[:100]!r} cannot be read: {reason(error)}") from None
    numbers = [int(text) if re.fullmatch("[0-9]{1,18}", text) else size + 1 for text in (offset, length)]
    if sum(numbers) > size:
        raise Unusable(f"its weights go beyond the end of {location[:100]!r}")
