"""What `tools/trust/long_server.py` sends: good requests with the answers that they must get, and whatever else may come."""

import contextlib
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from posecov.estimator import PoseEstimator
from posecov.server.limits import Limits
from posecov.server.questions import Question, answer

LIMITS = Limits(max_bytes=1_000_000, max_pixels=4_000_000, body_timeout=3.0)
"""Of the server under load."""

OPTIONS = ["--max-bytes", "1000000", "--max-pixels", "4000000", "--body-timeout", "3"]
"""The same for the command line."""

TOKEN = "a-token-for-the-load"
_PATIENCE = 60.0  # Seconds for any answer.
_NEAR = 0.05  # Pixels between the same joint alone and in a batch with others; as a share, between covariances.


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP.
        document: its JSON.
        closes: whether the server said that it closes the connection.
    """

    status: int
    document: Any
    closes: bool


class Line:
    """A connection to the server."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
            self.socket.close()

    def send(self, content: bytes) -> None:
        """Send all, or as much as the server takes before it closes: what it said can still be read."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(content)

    def receive(self) -> Answer | None:
        """The next answer, 100 Continue left out; None where the connection ends without one."""
        with contextlib.suppress(ConnectionError):
            while (first := self._file.readline().split()) and len(first) > 1:
                headers = {}
                while (line := self._file.readline().strip()) and line:
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                if int(first[1]) == 100:
                    continue
                body = self._file.read(int(headers.get("content-length", 0)))
                is_json = body and headers.get("content-type", "").startswith("application/json")
                return Answer(int(first[1]), json.loads(body) if is_json else None, headers.get("connection") == "close")
        return None

    def reset(self) -> None:
        """Go without a word: the server sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(frozen=True)
class Good:
    """A request that must be answered.

    Attributes:
        name: of its kind.
        content: the whole request.
        head: how many bytes of it are the header.
        expected: the document.
    """

    name: str
    content: bytes
    head: int
    expected: dict[str, Any]

    def wrong(self, given: Answer | None) -> str | None:
        """What is wrong with an answer, if anything."""
        if given is None or given.status != 200:
            return "no answer" if given is None else f"{given.status} {given.document}"
        return difference(self.expected, given.document)


def head(path: str, *further: str, method: str = "POST", token: str | None = TOKEN, version: str = "1.1") -> bytes:
    """The header of a request."""
    access = [] if token is None else [f"Authorization: Bearer {token}"]
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: here", *access, *further, "", ""]).encode("latin-1")


def post(body: bytes, query: str = "", *further: str, kind: str | None = "image/jpeg", **options: Any) -> bytes:
    """A POST to /v1/poses."""
    kinds = [] if kind is None else [f"Content-Type: {kind}"]
    return head(f"/v1/poses{query}", *kinds, f"Content-Length: {len(body)}", *further, **options) + body


def form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """A multipart body with the boundary ``edge``; each part its disposition's parameters and its content."""
    body = b"".join(
        b"--edge\r\nContent-Disposition: form-data; " + what.encode() + b"\r\n\r\n" + text + b"\r\n" for what, text in parts
    )
    return body + (b"--edge--\r\n" if end else b"")


FORM = "multipart/form-data; boundary=edge"


def difference(expected: dict[str, Any], given: dict[str, Any]) -> str | None:
    """Where two documents of a picture differ by more than rounding, if they do."""
    for key in ("image", "width", "height", "model", "mass"):
        if expected[key] != given[key]:
            return f"{key} is {given[key]!r}, not {expected[key]!r}"
    if len(expected["people"]) != len(given["people"]):
        return f"{len(given['people'])} people, not {len(expected['people'])}"
    for number, (one, other) in enumerate(zip(expected["people"], given["people"], strict=True)):
        points = [[[joint["x"], joint["y"]] for joint in person["keypoints"].values()] for person in (one, other)]
        covariances = [np.array(person["covariance"]) for person in (one, other)]
        apart = np.abs(np.array(points[0]) - np.array(points[1])).max()
        wider = np.abs(covariances[0] - covariances[1]).max() / np.abs(covariances[0]).max()
        if apart > _NEAR or wider > _NEAR:
            return f"person {number} is {apart:.3g} px off, covariance {100 * wider:.2g} %"
    return None


def pictures(photos: Sequence[np.ndarray], sizes: Sequence[int], kinds: Sequence[str]) -> Iterator[tuple[str, bytes, int, int]]:
    """Name, content, width and height of photos (H, W, 3) RGB in several sizes and formats."""
    for number, photo in enumerate(photos):
        for side in sizes:
            image = Image.fromarray(photo)
            image.thumbnail((side, side))
            for kind in kinds:
                content = BytesIO()
                image.save(content, kind)
                yield f"photo{number}-{side}.{kind.lower()}", content.getvalue(), *image.size


def good_requests(
    estimator: PoseEstimator, photos: Sequence[np.ndarray], sizes: Sequence[int], kinds: Sequence[str], searched: int
) -> list[Good]:
    """Pictures raw and in forms, with one and several boxes, and the smallest ``searched`` without.

    Args:
        estimator: tells what the answers are.
        photos: (H, W, 3) uint8 RGB.
        sizes: longer sides in pixels.
        kinds: formats in Pillow's words.
        searched: pictures that are sent without boxes too.
    """
    found = []
    made = sorted(pictures(photos, sizes, kinds), key=lambda entry: entry[2] * entry[3])
    for index, (name, content, width, height) in enumerate(made):
        one = [[0.1 * width, 0.05 * height, 0.8 * width, 0.9 * height]]
        many = one + [[0.02 * k * width, 0.1 * height, 0.5 * width, 0.6 * height] for k in range(4)]
        asked = [(f"{len(boxes)} boxes", json.dumps(boxes).replace(" ", "")) for boxes in (one, many)]
        for what, boxes in [*asked, *([("search", None)] if index < searched else [])]:
            fields = {} if boxes is None else {"boxes": boxes}
            for mass in ("0.95", "0.5") if what == "1 boxes" else ("0.95",):
                question = Question.from_fields(fields | {"mass": mass}, LIMITS)
                document = json.loads(answer(estimator, "picture", content, question, LIMITS)[0])
                query = "?" + "&".join(f"{key}={value}" for key, value in (fields | {"mass": mass}).items())
                raw = post(content, query, kind="application/octet-stream")
                found.append(Good(f"raw, {what}", raw, raw.index(b"\r\n\r\n") + 4, document))
                parts = [(f'name="file"; filename="{name}"', content), ('name="mass"', mass.encode())]
                parts += [('name="boxes"', boxes.encode())] if boxes is not None else []
                sent = post(form(*parts), kind=FORM)
                found.append(Good(f"form, {what}", sent, sent.index(b"\r\n\r\n") + 4, document | {"image": name}))
    return found


def bomb(width: int, height: int, whole: bool) -> bytes:
    """A small PNG of many black pixels; not whole it has none of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height if whole else 0), 9)
    top = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return top + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bad_requests(good: Good) -> dict[str, tuple[bytes, set[int | None]]]:
    """By name what to send, and the statuses that may come back; None is a connection that ends without an answer.

    Args:
        good: in a raw body, with boxes.
    """
    content, boxes = good.content[good.head :], "?boxes=[[1,1,50,50]]"
    chunked = head("/v1/poses", "Content-Type: image/jpeg", "Transfer-Encoding: chunked")
    file = ('name="file"; filename="a.jpg"', content)

    def asks(query: str) -> bytes:
        return post(content, query)

    def forms(*parts: tuple[str, bytes], end: bool = True, kind: str = FORM) -> bytes:
        return post(form(*parts, end=end), kind=kind)

    return {
        "text for a picture": (post(b"not a picture" * 50), {415}),
        "a picture cut short": (post(content[: len(content) // 2], boxes), {415}),
        "0 bytes": (post(b""), {415}),
        "0 bytes in a form": (forms((file[0], b"")), {415}),
        "bomb, header alone": (post(bomb(60_000, 60_000, False)), {413}),
        "bomb, 144 megapixels in 18 kB": (post(bomb(12_000, 12_000, True)), {413}),
        "too small a picture": (post(bomb(4, 4, True)), {415}),
        "no length": (head("/v1/poses", "Content-Type: image/jpeg"), {411}),
        "a length that is too long": (head("/v1/poses", "Content-Type: image/jpeg", "Content-Length: 99999999999"), {413}),
        "too long a body": (post(bytes(1_200_000)), {413}),
        "chunks, too long": (chunked + 10 * (b"20000\r\n" + bytes(0x20000) + b"\r\n"), {413}),
        "a chunk of no size": (chunked + b"many\r\nabc\r\n", {400, None}),
        "unknown field": (forms(file, ('name="who"', b"me")), {400}),
        "field twice": (forms(file, file), {400}),
        "no file": (forms(('name="mass"', b"0.5")), {400}),
        "a long field": (forms(file, ('name="boxes"', b"[" * 70_000)), {400}),
        "not UTF-8": (forms(file, ('name="boxes"', b"\xff\xfe")), {400}),
        "a form without end": (forms(file, end=False), {400}),
        "a form without boundary": (forms(file, kind="multipart/form-data"), {400}),
        "a form of rubbish": (post(random.Random(1).randbytes(5000), kind=FORM), {400}),
        "text as content type": (post(content, boxes, kind="text/plain"), {415}),
        "JSON as content type": (post(b'{"image": 1}', kind="application/json"), {415}),
        "boxes: half of JSON": (asks("?boxes=[[1,2"), {400}),
        "boxes: an object": (asks("?boxes={}"), {400}),
        "boxes: three numbers": (asks("?boxes=[[1,2,3]]"), {400}),
        "boxes: true": (asks("?boxes=[[true,1,20,20]]"), {400}),
        "boxes: text": (asks('?boxes=[["1","2","30","40"]]'), {400}),
        "boxes: deep": (asks("?boxes=" + "[" * 6000), {400}),
        "boxes: NaN": (asks("?boxes=[[NaN,1,20,20]]"), {422}),
        "boxes: NaN wide": (asks("?boxes=[[1,1,NaN,20]]"), {422}),
        "boxes: Infinity": (asks("?boxes=[[1,1,Infinity,20]]"), {422}),
        "boxes: 1e999": (asks("?boxes=[[1,1,1e999,20]]"), {422}),
        "boxes: 400 digits": (asks("?boxes=[[" + "9" * 400 + ",1,20,20]]"), {422}),
        "boxes: 6000 digits": (asks("?boxes=[[" + "9" * 6000 + ",1,20,20]]"), {400}),
        "boxes: outside": (asks("?boxes=[[99999,1,20,20]]"), {422}),
        "boxes: flat": (asks("?boxes=[[1,1,0,20]]"), {422}),
        "boxes: too many": (asks("?boxes=[" + ",".join(65 * ["[1,1,20,20]"]) + "]"), {422}),
        **{f"mass {text}": (asks(f"?mass={text}"), {400}) for text in ("0", "1", "nan", "-inf", "much", "")},
        "unknown query": (asks("?size=3"), {400}),
        "query twice": (asks("?mass=0.5&mass=0.6"), {400}),
        "query and form": (post(form(file, ('name="mass"', b"0.5")), "?mass=0.5", kind=FORM), {400}),
        **{f"{method} /v1/poses": (head("/v1/poses", "Content-Length: 0", method=method), {405}) for method in _METHODS},
        "POST /v1/model": (head("/v1/model", "Content-Length: 0"), {405}),
        **{f"path {path[:20]}": (head(path, method="GET"), {404, 400}) for path in _PATHS},
        "many headers": (head("/healthz", *(f"X-{k}: y" for k in range(40_000)), method="GET"), {400, None}),
        "a long header": (head("/healthz", "X: " + "y" * 400_000, method="GET"), {400, None}),
        "a long path": (head("/" + "a" * 400_000, method="GET"), {400, None}),
        "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300) + b"\r\n\r\n", {400, None}),
        "rubbish": (random.Random(2).randbytes(3000) + b"\r\n\r\n", {400, None}),
        "a length below 0": (head("/v1/poses", "Content-Length: -1"), {400}),
        "two lengths": (head("/v1/poses", "Content-Length: 1", "Content-Length: 2"), {400}),
        "a length and chunks": (
            head("/v1/poses", "Content-Length: 5", "Transfer-Encoding: chunked", "Content-Type: image/jpeg")
            + b"3\r\nabc\r\n0\r\n\r\n",
            {400, 415},
        ),
        "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", {400}),
        "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", {400, 404}),
        "no token": (post(content, boxes, token=None), {401}),
        "another token": (post(content, boxes, token="guessed"), {401}),
        "an empty token": (post(content, boxes, token=""), {401}),
        "two tokens": (post(content, boxes, "Authorization: Bearer other"), {401}),
        "another scheme": (post(content, boxes, "Authorization: Basic " + TOKEN, token=None), {401}),
        "metrics without token": (head("/metrics", method="GET", token=None), {401}),
    }


_METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW")
_PATHS = (
    *("/nothing", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/models/..%2f..%2fsecret.onnx", "/models/x.onnx"),
    "//v1/poses",
)


def named(good: Good, name: str) -> bytes:
    """A good raw request as a form whose file has this name, without boxes or mass."""
    sent = form((f'name="file"; filename="{name}"', good.content[good.head :]), ('name="boxes"', b"[[1,1,60,60]]"))
    return post(sent, kind=FORM)


NAMES = {
    "../../etc/hostname": "hostname",
    "/absolute/photo.jpg": "photo.jpg",
    "C:\\\\people\\\\photo.jpg": "photo.jpg",
    "a\tb\x01.jpg": "ab.jpg",
    "..": "..",
    "/": "picture",
    "ü€.jpg": "ü€.jpg",
    "x" * 3000: "x" * 255,
}
"""File names as a form has them, and as the answer must."""


# Everything below takes the port, a source of chance and the good requests, and returns what went wrong, a line each.
Act = Callable[[int, random.Random, Sequence[Good]], list[str]]


def pipelined(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """Several requests at once on a connection; the answers come in their order, with one that is refused amid them."""
    chosen = [chance.choice(goods) for _ in range(3)]
    nothing = head("/nothing", method="GET")
    with Line(port) as line:
        line.send(chosen[0].content + nothing + chosen[1].content + chosen[2].content)
        answers = [line.receive() for _ in range(4)]
    wrong = [chosen[0].wrong(answers[0]), chosen[1].wrong(answers[2]), chosen[2].wrong(answers[3])]
    wrong += [None if answers[1] is not None and answers[1].status == 404 else f"{answers[1]} in place of 404"]
    return [line for line in wrong if line is not None]


def in_chunks(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """A body in chunks, after 100 Continue or not."""
    good = chance.choice(goods)
    lines = [line for line in good.content[: good.head].split(b"\r\n")[:-2] if not line.startswith(b"Content-Length")]
    expects = [b"Expect: 100-continue"] if chance.random() < 0.5 else []
    body = good.content[good.head :]
    cuts = sorted(chance.sample(range(1, len(body)), 3))
    with Line(port) as line:
        line.send(b"\r\n".join([*lines, *expects, b"Transfer-Encoding: chunked", b"", b""]))
        for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            line.send(f"{end - start:x}\r\n".encode() + body[start:end] + b"\r\n")
        line.send(b"0\r\n\r\n")
        wrong = good.wrong(line.receive())
    return [] if wrong is None else [wrong]


def longer_than_announced(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """The picture is answered; what comes after it is no request."""
    good = chance.choice(goods)
    with Line(port) as line:
        line.send(good.content + b"x" * 500 + b"\r\n\r\n")
        wrong, after = good.wrong(line.receive()), line.receive()
        closed = line.receive() is None
    lines = [] if wrong is None else [wrong]
    if after is not None and after.status != 400:
        lines.append(f"{after} for what follows the body")
    return lines if closed else [*lines, "the connection stays open"]


def shorter_than_announced(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """Half a body and then silence, or the end of the sending side."""
    good = chance.choice(goods)
    end = chance.randrange(good.head, len(good.content))
    with Line(port) as line:
        line.send(good.content[:end])
        quiet = chance.random() < 0.5
        if not quiet:
            line.socket.shutdown(socket.SHUT_WR)
        return _refused(line.receive(), {408} if quiet else {400, 408, None})


def slow_header(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """A header that drips, and never ends."""
    with Line(port) as line:
        for byte in (chance.choice(goods).content[:40] if chance.random() < 0.7 else b"") + b"X" * 5:
            line.send(bytes([byte]))
            time.sleep(0.1)
        return _refused(line.receive(), {408})


def slow_body(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """A body that drips, too slowly or just fast enough."""
    good = chance.choice(goods)
    body, fast = good.content[good.head :], chance.random() < 0.5
    with Line(port) as line:
        line.send(good.content[: good.head])
        if fast:
            for start in range(0, len(body), len(body) // 8 + 1):
                line.send(body[start : start + len(body) // 8 + 1])
                time.sleep(0.1)
            wrong = good.wrong(line.receive())
            return [] if wrong is None else [wrong]
        for byte in body[:40]:
            line.send(bytes([byte]))
            time.sleep(0.1)
        return _refused(line.receive(), {408})


def slow_reader(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """Whoever reads slowly, but reads, gets everything."""
    good = chance.choice(goods)
    with Line(port) as line:
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.send(good.content)
        time.sleep(1.0)
        wrong = good.wrong(line.receive())
    return [] if wrong is None else [wrong]


def vanishing(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """A client that goes: in the header, in the body, or while its picture is worked on; closing or with a reset."""
    good = chance.choice(goods)
    end = chance.choice([chance.randrange(1, good.head), chance.randrange(good.head, len(good.content)), len(good.content)])
    with Line(port) as line:
        line.send(good.content[:end])
        time.sleep(chance.random() * 0.05)
        if chance.random() < 0.5:
            line.reset()
    return []


def strange_name(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
    """A file name that may be a path is no more than a name in the answer."""
    name = chance.choice(list(NAMES))
    with Line(port) as line:
        line.send(named(next(good for good in goods if good.name.startswith("raw, 1")), name))
        given = line.receive()
    if given is None or given.status != 200:
        return [f"{given} for the name {name[:40]!r}"]
    return [] if given.document["image"] == NAMES[name] else [f"{given.document['image'][:40]!r} for the name {name[:40]!r}"]


def _refused(given: Answer | None, allowed: set[int | None]) -> list[str]:
    """What is wrong with a refusal: its status, or that it is not one line of JSON."""
    if given is None:
        return [] if None in allowed else ["closed without an answer"]
    if given.status not in allowed:
        return [f"{given.status} {given.document}, not {' or '.join(map(str, sorted(allowed, key=str)))}"]
    error = (given.document or {}).get("error")
    return [] if isinstance(error, str) and error and "\n" not in error else [f"{given.status} with {given.document}"]


def bad(name: str, content: bytes, allowed: set[int | None]) -> Act:
    """One of `bad_requests` as an act; half of them hold the connection afterwards to a good request, where it stays open."""

    def act(port: int, chance: random.Random, goods: Sequence[Good]) -> list[str]:
        with Line(port) as line:
            line.send(content)
            given = line.receive()
            if name.startswith("HEAD"):
                return [] if given is not None and given.status in allowed else [f"{given}"]
            wrong = _refused(given, allowed)
            if given is not None and not given.closes and given.status != 400 and chance.random() < 0.5:
                good = chance.choice(goods)
                line.send(good.content)
                after = line.receive()
                trouble = None if after is None else good.wrong(after)
                wrong += [] if trouble is None else [f"and after it {trouble}"]
        return wrong

    return act


QUICK: dict[str, Act] = {
    "pipelined": pipelined,
    "in chunks": in_chunks,
    "longer than announced": longer_than_announced,
    "vanishing": vanishing,
    "strange name": strange_name,
}
"""Acts that take no longer than an answer."""

SLOW: dict[str, Act] = {
    "shorter than announced": shorter_than_announced,
    "slow header": slow_header,
    "slow body": slow_body,
    "slow reader": slow_reader,
}
"""Acts that take seconds, by themselves or because the server waits."""
