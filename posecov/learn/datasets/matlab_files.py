"""MATLAB's files (version 5 to 7.2), looked through before SciPy opens them: a damaged one can crash it or fill the memory."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import scipy.io

from posecov.errors import PosecovError
from posecov.files import reason

MAX_BYTES = 2**29
"""Of a file once unpacked: MPII's, the largest of the data sets, has less than half."""

# What numbers are stored as: code of the type -> bytes of one.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXTS = (2, 4, 1, 16, 17, 18)
_INT8, _INT32, _UINT32, _MATRIX, _PACKED = 1, 5, 6, 14, 15
_CELL, _STRUCT, _CHAR, _NUMBERS = 1, 2, 4, range(6, 16)
_DEEPEST = 30
_HEADER = 128


class _Damaged(Exception):
    pass


def load_variable(path: Path, variable: str, **options: Any) -> Any:
    """One variable of a file; None when it has none of this name.

    Args:
        path: the file.
        variable: its name.
        options: of `scipy.io.loadmat`.

    Raises:
        PosecovError: it cannot be read, is damaged, or holds something else than numbers, texts, cells and structures.
    """
    try:
        content = path.read_bytes()
        _look_through(content)
        return scipy.io.loadmat(BytesIO(content), variable_names=[variable], **options).get(variable)
    except OSError as error:
        raise PosecovError(f"{path}: cannot be read ({reason(error)})") from None
    except Exception as error:  # SciPy raises many kinds on a damaged file.
        why = str(error).partition("\n")[0][:120] or type(error).__name__
        raise PosecovError(f"{path}: not a readable MATLAB file ({why})") from None


def _look_through(content: bytes) -> None:
    if len(content) < _HEADER:
        raise _Damaged("it is shorter than a header")
    if content[:10] == b"MATLAB 7.3" or content[512:516] == b"\x89HDF":
        raise _Damaged("version 7.3; save it with -v7")
    if content[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise _Damaged("it has no header of MATLAB 5 to 7.2")
    order = "<" if content[126:128] == b"IM" else ">"
    left, at = MAX_BYTES, _HEADER
    while at < len(content):
        kind, start, stop, _ = _tag(content, at, len(content), order)
        if kind == _PACKED:
            inner = zlib.decompressobj().decompress(content[start:stop], left + 1)
            left -= len(inner)
            if left < 0:
                raise _Damaged(f"unpacked it is larger than {MAX_BYTES // 2**20} MiB")
            kind, begin, end, _ = _tag(inner, 0, len(inner), order)
            _check_matrix(inner, kind, begin, end, order, 0)
            at = stop
        else:
            _check_matrix(content, kind, start, stop, order, 0)
            at = stop


def _tag(data: bytes, at: int, end: int, order: str) -> tuple[int, int, int, int]:
    """An element's type, where its content begins and ends, and where the next element does."""
    if end - at < 8:
        raise _Damaged("it ends within an element")
    first, size = struct.unpack_from(f"{order}II", data, at)
    if first >> 16:  # Four bytes or less stand within the tag.
        kind, size, start, after = first & 0xFFFF, first >> 16, at + 4, at + 8
        if size > 4:
            raise _Damaged("an element is longer than its place")
    else:
        kind, start = first, at + 8
        after = start + size + (0 if kind == _PACKED else -size % 8)
    if start + size > end:
        raise _Damaged("it ends within an element")
    return kind, start, start + size, min(after, end)


def _check_matrix(data: bytes, kind: int, start: int, stop: int, order: str, depth: int) -> None:
    """Raises _Damaged when a matrix does not hold what its own description says."""
    if kind != _MATRIX:
        raise _Damaged(f"an element of type {kind} stands where a matrix belongs")
    if start == stop:
        return  # As empty ones inside structures are written.
    if depth > _DEEPEST:
        raise _Damaged("its structures are nested too deeply")
    kind, begin, end, at = _tag(data, start, stop, order)
    if kind != _UINT32 or end - begin != 8:
        raise _Damaged("a matrix has no flags")
    flags = struct.unpack_from(f"{order}I", data, begin)[0]
    kind, begin, end, at = _tag(data, at, stop, order)
    axes = (end - begin) // 4
    if kind not in (_INT32, _UINT32) or (end - begin) % 4 or not 1 <= axes <= 32:
        raise _Damaged("a matrix has no dimensions")
    count = 1
    for side in struct.unpack_from(f"{order}{axes}i", data, begin):
        if side < 0:
            raise _Damaged("a matrix has a negative dimension")
        count *= side
    kind, begin, end, at = _tag(data, at, stop, order)
    if kind != _INT8:
        raise _Damaged("a matrix has no name")
    what = flags & 0xFF
    if what in _NUMBERS:
        for _ in range(2 if flags & 0x800 else 1):  # Complex numbers have two parts.
            kind, begin, end, at = _tag(data, at, stop, order)
            if kind not in _SIZES or end - begin != count * _SIZES[kind]:
                raise _Damaged("a matrix has not as many numbers as its dimensions say")
    elif what == _CHAR:
        kind, begin, end, at = _tag(data, at, stop, order)
        if kind not in _TEXTS or count > max(1, end - begin):
            raise _Damaged("a text is shorter than its dimensions say")
    elif what in (_CELL, _STRUCT):
        _check_members(data, at, stop, order, count, what == _STRUCT, depth)
    else:
        raise _Damaged(f"it holds something of class {what}, not numbers, texts, cells or structures")


def _check_members(data: bytes, at: int, stop: int, order: str, count: int, named: bool, depth: int) -> None:
    """The matrices of cells, or those of structures behind the names of their fields."""
    fields = 1
    if named:
        kind, begin, end, at = _tag(data, at, stop, order)
        length = struct.unpack_from(f"{order}i", data, begin)[0] if kind == _INT32 and end - begin == 4 else 0
        kind, begin, end, at = _tag(data, at, stop, order)
        if kind != _INT8 or length < 1 or (end - begin) % length:
            raise _Damaged("a structure has no names of fields")
        fields = (end - begin) // length
    # A member takes 8 bytes at least; what has none may be there as often as in small files.
    if count * fields > (stop - at) // 8 or (not fields and count > 1000):
        raise _Damaged("a structure has not as many members as its dimensions say")
    for _ in range(count * fields):
        kind, begin, end, at = _tag(data, at, stop, order)
        _check_matrix(data, kind, begin, end, order, depth + 1)
