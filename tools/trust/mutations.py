"""Mutations of files: of any bytes, of JSON and YAML by their structure, of PNG, MP4 and ONNX by their own."""

import copy
import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Mutate = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
"""(content, randomness, all seeds of the reader) -> mutated content."""

_INTEGERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_HEADER = 256  # Bytes in which integers are changed more often than elsewhere.
_DEEP = 3000

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 1e-300, 1e308, float("inf"), float("nan"), 10**400, -(10**30), 2**63,
    "", "x", "0", "\0", "\ud800", "nan", "../../escaped", "/etc/passwd", "C:\\windows\\x", "..\\..\\x", "a" * 5000, "a/" * 3000,
    "\x1b[2J\n", [], {}, [[]], [{}],
    {"": None}, [None] * 50, [0] * 4, [1e308] * 4, "2024-13-45", "l_wrist", "im1.jpg",
)  # fmt: skip


def raw(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One to four changes that know nothing of the format."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice((_flip, _flip, _cut, _remove, _repeat, _swap, _noise, _integer, _integer, _integer, _splice))(
            data, chance, seeds
        )
    return bytes(data)


def _flip(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    for _ in range(chance.choice((1, 1, 2, 8, 40)) if data else 0):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _block(data: bytearray, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 2, 4, 8, 16, 64, 512, 4096)))


def _remove(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    start, stop = _block(data, chance)
    del data[start:stop]


def _repeat(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    start, stop = _block(data, chance)
    data[stop:stop] = data[start:stop] * chance.choice((1, 1, 3, 20))


def _swap(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    a, b, c, d = sorted(chance.randrange(len(data) + 1) for _ in range(4))
    data[a:d] = data[c:d] + data[b:c] + data[a:b]


def _noise(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    start, stop = _block(data, chance)
    data[start:stop] = chance.randbytes(stop - start)


def _splice(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    """A part of another seed over a part of this one."""
    other = chance.choice(seeds)
    start, stop = _block(bytearray(other), chance)
    here = chance.randrange(len(data) + 1)
    data[here : here + stop - start] = other[start:stop]


def _integer(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    size = chance.choice((1, 2, 4, 4, 8))
    if len(data) >= size:
        place = min(_place(data, chance), len(data) - size)
        value = chance.choice(_INTEGERS) % 2 ** (8 * size)
        data[place : place + size] = value.to_bytes(size, chance.choice(("little", "big")))


def _place(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(min(len(data), _HEADER) if chance.random() < 0.5 else len(data))


def png(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Chunks changed, exchanged, repeated or left out, with right checksums: without these a decoder stops at the first."""
    if chance.random() < 0.3:
        return raw(content, chance, seeds)
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = struct.unpack(">I", content[at : at + 4])[0]
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    _shuffle(chunks, chance)
    if chunks and chance.random() < 0.8:
        number = chance.choice((0, chance.randrange(len(chunks))))
        chunks[number] = (chunks[number][0], raw(chunks[number][1], chance, [chunk for _, chunk in chunks]))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return content[:8] + body


def boxes(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """MP4: boxes of any depth changed, exchanged, repeated or left out, with right lengths around them."""
    if chance.random() < 0.4:
        return raw(content, chance, seeds)
    return _boxes(content, chance, seeds)


def _boxes(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    found, at = [], 0
    while at + 8 <= len(content):
        length = struct.unpack(">I", content[at : at + 4])[0]
        if not 8 <= length <= len(content) - at:
            break
        found.append((content[at + 4 : at + 8], content[at + 8 : at + length]))
        at += length
    if not found:
        return raw(content, chance, seeds)
    _shuffle(found, chance)
    inner = [i for i, (kind, _) in enumerate(found) if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf")]
    number = chance.choice(inner) if inner and chance.random() < 0.9 else chance.randrange(len(found) or 1)
    if found:
        kind, body = found[number]
        found[number] = (kind, (_boxes if number in inner else raw)(body, chance, seeds))
    return b"".join(struct.pack(">I", len(body) + 8) + kind + body for kind, body in found) + content[at:]


def _shuffle(parts: list[Any], chance: random.Random) -> None:
    if parts and chance.random() < 0.3:
        one, two = chance.randrange(len(parts)), chance.randrange(len(parts))
        what = chance.randrange(3)
        if what == 0:
            parts[one], parts[two] = parts[two], parts[one]
        elif what == 1:
            parts.insert(one, parts[two])
        else:
            del parts[one]


def json_text(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Values, keys and places of a JSON document changed; also documents too deep to be read."""
    if chance.random() < 0.3:
        return raw(content, chance, seeds)
    try:
        lines = [json.loads(line) for line in content.splitlines()] if content.count(b"\n{") else [json.loads(content)]
    except ValueError:
        return raw(content, chance, seeds)
    for _ in range(chance.choice((1, 1, 2, 5))):
        number = chance.randrange(len(lines))
        lines[number] = structure(lines[number], chance)
    text = "\n".join(map(json.dumps, lines)) + ("\n" if content.endswith(b"\n") else "")
    if chance.random() < 0.03:
        nested = "[" * _DEEP + "]" * _DEEP if chance.random() < 0.5 else '{"a":' * _DEEP + "1" + "}" * _DEEP
        text = text.replace("1", nested, 1)
    return text.encode("utf-8", "surrogatepass")


def yaml_text(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """The same for YAML, whose own traps are tags, aliases that grow, dates and merge keys."""
    import yaml

    choice = chance.random()
    if choice < 0.3:
        return raw(content, chance, seeds)
    if choice < 0.45:
        traps = (
            "!!python/object/apply:os.system ['true']", "!!python/name:os.system", "&a [*a]", "2024-99-99", "0x", "1:99:99",
            "{<<: [{a: 1}, {b: 2}]}", "{? [a, b] : c}", "!!binary x", "!!timestamp x", "!!int x", "!!float x",
            "!!set {a, b}", "!!omap [a]",
            "!!bool 7", "0b", "0o9", "+.inf", "=", "? ", "- - - -", "[" * _DEEP, "{a: " * _DEEP, "'", '"\\ud800"',
            "&a0 [x,x,x,x,x,x,x,x]\n" + "\n".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)),
        )  # fmt: skip
        lines = content.decode().splitlines()
        number = chance.randrange(len(lines))
        key = lines[number].partition(":")[0]
        lines[number] = f"{key}: {chance.choice(traps)}" if chance.random() < 0.7 else chance.choice(traps)
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    document = yaml.safe_load(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        document = structure(document, chance)
    return yaml.safe_dump(document).encode("utf-8", "surrogatepass")


def table(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """CSV: cells, rows and columns changed."""
    if chance.random() < 0.3:
        return raw(content, chance, seeds)
    rows = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(chance.choice((1, 1, 2, 5))):
        row = rows[chance.choice((0, chance.randrange(len(rows))))]
        what, column = chance.randrange(6), chance.randrange(len(row)) if row else 0
        if what == 0:
            _shuffle(rows, chance)
            rows = rows or [[""]]
        elif what == 1:
            _shuffle(row, chance)
        elif row:
            quoted = ('"', '"a', "a" * 200_000, "1_0", "１", "\r", "\0", "", " ", '"\n"')
            row[column] = str(chance.choice((*_VALUES, *quoted)))
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")


def structure(document: Any, chance: random.Random) -> Any:
    """A document with one value, key or place changed."""
    places: list[tuple[Any, Any]] = []
    stack, seen = [document], set()
    while stack:
        value = stack.pop()
        if id(value) in seen:  # YAML's aliases: few values, but as a tree without an end.
            continue
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            places.append((value, key))
            stack.append(inner)
    if not places or chance.random() < 0.02:
        return copy.deepcopy(chance.choice(_VALUES))
    parent, key = chance.choice(places)
    what = chance.randrange(8)
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(parent, dict):
        parent[str(chance.choice(_VALUES))[:100]] = parent.pop(key)
    elif what == 2 and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif what == 3:
        other, place = chance.choice(places)
        there = place in other if isinstance(other, dict) else place < len(other)
        parent[key] = copy.deepcopy(other[place]) if there else None
    elif what == 4:
        parent[key] = [parent[key]]
    else:
        parent[key] = copy.deepcopy(chance.choice(_VALUES))
    return document


def network(content: bytes, chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """ONNX: attributes, shapes, operators, types and wires changed, so that the file still parses."""
    import onnx

    if chance.random() < 0.3:
        return raw(content, chance, seeds)
    model = onnx.load_from_string(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change_network(model, chance)
    return model.SerializeToString()


def _change_network(model: Any, chance: random.Random) -> None:
    nodes, tensors = list(model.graph.node), list(model.graph.initializer)
    values = [*model.graph.input, *model.graph.output]
    if not nodes:
        return
    node = chance.choice(nodes)
    whole = chance.choice((0, 1, -1, -2, 2, 3, 7, 255, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63)))
    what = chance.randrange(12)
    if what == 0:
        node.op_type = chance.choice(
            [n.op_type for n in nodes] + ["Loop", "If", "Scan", "Nonsense", "EPContext", "Resize", "Einsum"]
        )
    elif what == 1:
        node.domain = chance.choice(("", "com.microsoft", "ai.onnx.ml", "custom", "a" * 3000))
    elif what == 2 and node.input:
        names = [name for other in nodes for name in (*other.input, *other.output)]
        node.input[chance.randrange(len(node.input))] = chance.choice((*names, "", "missing"))
    elif what == 3 and node.attribute:
        attribute = chance.choice(node.attribute)
        if attribute.ints:
            attribute.ints[chance.randrange(len(attribute.ints))] = whole
        else:
            attribute.i = whole
            attribute.type = chance.choice((attribute.type, 1, 2, 3, 4, 6, 7))
    elif what == 4 and tensors:
        tensor = chance.choice(tensors)
        if tensor.dims and chance.random() < 0.7:
            tensor.dims[chance.randrange(len(tensor.dims))] = whole
        else:
            tensor.dims.append(whole)
    elif what == 5 and tensors:
        tensor = chance.choice(tensors)
        tensor.raw_data = raw(tensor.raw_data, chance, [b"\xff" * 64])
    elif what == 6 and tensors:
        chance.choice(tensors).data_type = chance.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 99))
    elif what == 7 and values:
        shape = chance.choice(values).type.tensor_type.shape
        if shape.dim:
            shape.dim[chance.randrange(len(shape.dim))].dim_value = whole
    elif what == 8:
        model.graph.node.remove(node)
    elif what == 9:
        model.graph.node.append(node)
    elif what == 10 and model.metadata_props:
        entry = chance.choice(model.metadata_props)
        entry.value = json_text(entry.value.encode(), chance, [b"[]"]).decode("utf-8", "replace")
    elif what == 11:
        model.opset_import[0].version = max(min(whole, 2**40), -(2**40))
