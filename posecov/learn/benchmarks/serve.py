"""What serving costs: pictures per second against the bare session, waiting times, memory over good and bad requests."""

import contextlib
import http.client
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.geometry import crop_map, warp

_BATCH = 8  # Crops a call of the bare session.
_SIDE = 256  # Of the pictures, in pixels.
_BOX = [48.0, 16.0, 160.0, 224.0]
_HEADERS = {"Content-Type": "image/jpeg"}


@dataclass(frozen=True)
class Ask:
    """A request and the status that it must get."""

    path: str
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(_HEADERS))


def measure(
    weights: Path, threads: int = 1, clients: int = 8, rounds: int = 3, requests: int = 400, long: int = 2000
) -> dict[str, float]:
    """Requests with one box each, of clients that send the next once they have the last answer.

    Server and bare session take turns. The clients, in this process, use the same cores as the server, at its expense.

    Args:
        weights: a deployed model.
        threads: of the network, on both sides.
        clients: at once.
        rounds: of server and session in turns.
        requests: a round, all clients together.
        long: good and bad requests for the memory, all clients together.

    Returns:
        ``serve_requests_per_second`` and ``serve_session_crops_per_second`` (medians over rounds) and the median of their
        ratios ``serve_over_session``; ``serve_p50_ms``, ``serve_p99_ms`` and ``serve_p99_over_p50`` of the answers;
        ``serve_crops_per_batch``; ``serve_wrong`` answers among good and bad ones; ``serve_memory_mb`` of the server at the end
        and ``serve_growth_mb``, over the last three quarters of the long run.

    Raises:
        PosecovError: no such model, or the server does not start.
    """
    estimator = PoseEstimator(weights, threads=threads)
    pictures = [_picture(seed) for seed in range(16)]
    good = [Ask(f"/v1/poses?boxes=[{str(_BOX).replace(' ', '')}]", _jpeg(picture)) for picture in pictures]
    size, padding = estimator.metadata.input_size, estimator.metadata.padding
    crops = np.stack([warp(picture, crop_map(np.array(_BOX), size, padding), size) for picture in pictures[:_BATCH]])
    session = _session(weights, threads)
    inputs = {"image": estimator.model._input(crops)}
    bare: list[float] = []
    served: list[float] = []
    waits: list[float] = []
    with _server(weights, threads, clients) as (process, port):
        _load(port, good, clients, 10 * clients)
        for _ in range(rounds):
            bare.append(_crops_per_second(session, inputs, requests))
            start = time.perf_counter()
            found, wrong = _load(port, good, clients, requests)
            served.append(requests / (time.perf_counter() - start))
            waits += found
        batches = _batches(port)
        quarter = max(clients, long // 4)
        bad = _bad(good[0])
        mixed = [ask for index, ask in enumerate(good) for ask in (ask, bad[index % len(bad)])]
        memory = []
        for _ in range(4):
            wrong += _load(port, mixed, clients, quarter)[1]
            memory.append(_resident_mb(process.pid))
    p50, p99 = (1e3 * float(np.quantile(waits, q)) for q in (0.5, 0.99))
    return {
        "serve_threads": threads,
        "serve_clients": clients,
        "serve_requests_per_second": statistics.median(served),
        "serve_session_crops_per_second": statistics.median(bare),
        "serve_over_session": statistics.median(s / b for s, b in zip(served, bare, strict=True)),
        "serve_p50_ms": p50,
        "serve_p99_ms": p99,
        "serve_p99_over_p50": p99 / p50,
        "serve_crops_per_batch": batches,
        "serve_mixed_requests": 4 * quarter,
        "serve_wrong": wrong,
        "serve_memory_mb": memory[-1],
        "serve_growth_mb": memory[-1] - memory[0],
    }


def _picture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)


def _jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()


def _bad(good: Ask) -> list[Ask]:
    """What strangers send."""
    return [
        Ask("/v1/poses", b"not a picture", 415),
        Ask("/v1/poses", good.body[: len(good.body) // 3], 415),
        Ask("/v1/poses?boxes=[[1,2", good.body, 400),
        Ask("/v1/poses?boxes=[[9999,0,50,50]]", good.body, 422),
        Ask("/v1/poses", b"--x\r\n", 400, {"Content-Type": "multipart/form-data; boundary=x"}),
        Ask("/v1/poses", bytes(1_500_000), 413),
        Ask("/nothing", b"", 404),
    ]


@contextlib.contextmanager
def _server(weights: Path, threads: int, clients: int) -> Iterator[tuple[subprocess.Popen, int]]:
    options = ["--port", "0", "--model", str(weights), "--threads", str(threads), "--max-bytes", "1000000"]
    code = f"import sys; from posecov.cli import main; sys.exit(main({['serve', *options]!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r":(\d+)/", line)
        if address is None:
            raise PosecovError("posecov serve does not start; what it said stands above")
        yield process, int(address[1])
    finally:
        process.terminate()
        process.communicate()


def _load(port: int, asks: Sequence[Ask], clients: int, count: int) -> tuple[list[float], int]:
    """Seconds that each of ``count`` requests took, and how many answers had another status than they must."""
    seconds: list[float] = []
    wrong: list[int] = []
    numbers = iter(range(count))
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return
            ask = asks[number % len(asks)]
            start = time.perf_counter()
            try:
                connection.request("POST", ask.path, ask.body, ask.headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            seconds.append(time.perf_counter() - start)
            if status != ask.status:
                wrong.append(status)

    workers = [threading.Thread(target=client) for _ in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return seconds, len(wrong)


def _session(weights: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])


def _crops_per_second(session: ort.InferenceSession, inputs: dict[str, np.ndarray], crops: int) -> float:
    calls = max(1, crops // _BATCH)
    start = time.perf_counter()
    for _ in range(calls):
        session.run(None, inputs)
    return calls * _BATCH / (time.perf_counter() - start)


def _batches(port: int) -> float:
    """Crops in a call of the network, on average."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    total, count = (
        float(re.search(rf"^posecov_batch_crops_{key} (\S+)", text, re.MULTILINE)[1])  # type: ignore[index]
        for key in ("sum", "count")
    )
    return total / count


def _resident_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6
    except (OSError, ValueError):
        raise PosecovError("memory can be measured on Linux only") from None
