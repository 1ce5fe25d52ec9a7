"""Minutes of load on ``posecov serve``, good requests and bad ones, and whether answers, memory, handles and threads hold.

    python tools/trust/long_server.py --out DIR [--minutes 30] [--model tiny] [--seed 0]
    python tools/trust/long_server.py --out DIR --requests 20000

Every good request must get the answer that the library gives for the same picture; every bad one the status that the README
says, or a closed connection where HTTP itself is broken (`server_load`). From time to time thousands of connections are opened
at once; until they are gone good requests may be told 503, or be cut off, and are repeated. In the end nothing may be held, no
handle and no thread be left over, nothing stand in the server's log, and SIGTERM end it with exit code 0. With ``--requests``
eight clients send nothing but good requests on small pictures. ``DIR`` has ``memory.csv``, ``memory.png`` and ``counts.csv``.
Exit code 1 when anything is not as it must.
"""

import argparse
import contextlib
import random
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import server_load
from server_load import Act, Good, Line
from watching import Watch, counts_of, judge, plot_samples, write_samples

from posecov.commands.demo import demo_photos
from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.files import write_atomic
from posecov.images import read_image
from posecov.output import prepare_folder

_CLIENTS, _STRANGERS, _SLOW_ONES = 8, 4, 6
_FLOOD_EVERY = 120.0  # Seconds.
_FLOOD_MOST = 8000  # Connections, as far as the limit on handles allows.
_RECOVER = 15.0  # Seconds after a flood within which a good request may still be turned away.
_IDLE = 20.0  # Seconds without requests; the server keeps connections for 15.
_SAY_EVERY = 20.0  # Seconds.
_HANDLES = 1024  # Open files that the server may have: what most systems allow.
_SPARE = 3  # Handles at the end above those at the beginning.


class Load:
    """What has been asked and answered so far, by all clients together."""

    def __init__(self, port: int, goods: Sequence[Good], seed: int):
        self.port, self.goods, self._seed = port, goods, seed
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.good = self.repeated = 0
        self.flooded_until = 0.0
        self.over = threading.Event()
        self._lock = threading.Lock()

    @property
    def flooded(self) -> bool:
        """Whether more connections are open than the server takes, or were a moment ago."""
        return time.monotonic() < self.flooded_until

    def note(self, name: str, trouble: Sequence[str]) -> None:
        """A request is over."""
        with self._lock:
            self.counts[name] += 1
            for line in trouble:
                self.wrong.append(f"{name}: {line}")
                print(f"WRONG after {self.good} good: {name}: {line}"[:400], flush=True)

    def customer(self, number: int, most: int | None = None) -> None:
        """Sends good requests, most of them on a connection that is kept, until all is over or ``most`` have been answered."""
        chance = random.Random(f"{self._seed}/customer/{number}")
        line: Line | None = None
        while not self.over.is_set() and (most is None or self.good < most):
            good = chance.choice(self.goods)
            given = None
            with contextlib.suppress(OSError):
                line = line or Line(self.port)
                line.send(good.content)
                given = line.receive()
            if (given is None or given.status == 503) and (self.flooded or (given is not None and most is None)):
                with self._lock:
                    self.repeated += 1
                time.sleep(1.0)
            else:
                trouble = good.wrong(given)
                self.note(f"good: {good.name}", [] if trouble is None else [trouble])
                with self._lock:
                    self.good += trouble is None
            if line is not None and (given is None or given.closes or chance.random() < 0.02):
                line.__exit__()
                line = None
        if line is not None:
            line.__exit__()

    def stranger(self, number: int, acts: dict[str, Act]) -> None:
        """Does one of the acts after the other, in turns of random order."""
        chance = random.Random(f"{self._seed}/{sorted(acts)[0]}/{number}")
        while True:
            for name in chance.sample(sorted(acts), len(acts)):
                if self.over.is_set():
                    return
                if self.flooded:
                    time.sleep(0.5)
                    continue
                try:
                    trouble = acts[name](self.port, chance, self.goods)
                except OSError as error:
                    trouble = [f"{type(error).__name__}: {error}"]
                self.note(name, [] if self.flooded else [line for line in trouble if not line.startswith("503 ")])
                time.sleep(chance.random() * 0.2)

    def flood(self) -> None:
        """Thousands of connections at once, every now and then; they stay for two seconds, some with half a request."""
        most = min(_FLOOD_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
        while not self.over.wait(_FLOOD_EVERY / 4 if not self.counts["flood"] else _FLOOD_EVERY):
            self.flooded_until = time.monotonic() + 600
            sockets, begun = [], 0
            for index in range(most):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", self.port))
                sockets.append(one)
                if index % 2:
                    with contextlib.suppress(OSError):
                        begun += one.send(b"POST /v1/poses HTTP/1.1\r\nHost: he") > 0
            time.sleep(2.0)
            for one in sockets:
                one.close()
            self.flooded_until = time.monotonic() + _RECOVER
            self.note("flood", self._recovers())
            print(f"flood: {len(sockets)} connections, {begun} of them with half a request", flush=True)

    def _recovers(self) -> list[str]:
        end = time.monotonic() + _RECOVER - 1
        while time.monotonic() < end:
            with contextlib.suppress(OSError), Line(self.port) as line:
                line.send(self.goods[0].content)
                if self.goods[0].wrong(line.receive()) is None:
                    return []
            time.sleep(0.5)
        return [f"no good answer within {_RECOVER:g} s after it"]


@contextlib.contextmanager
def serving(model: str, log: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """``posecov serve`` as a process with its token, and the port."""
    token = log.with_name("token")
    token.write_text(server_load.TOKEN)
    options = ["serve", "--port", "0", "--model", model, "--threads", "1", "--token-file", str(token), *server_load.OPTIONS]
    code = f"import sys; from posecov.cli import main; sys.exit(main({options!r}))"
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (_HANDLES, _HANDLES))  # noqa: E731
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=limit
        )
    try:
        assert process.stdout is not None
        address = re.search(r":(\d+)/", process.stdout.readline())
        if address is None:
            raise PosecovError(f"posecov serve does not start; {log} says why")
        yield process, int(address[1])
    finally:
        process.kill()
        process.communicate()


def metric(port: int, name: str) -> float:
    """A number of /metrics."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {server_load.TOKEN}"})
    text = connection.getresponse().read().decode()
    connection.close()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else float("nan")


def end_of(process: subprocess.Popen, port: int, log: Path, before: tuple[float, int, int]) -> list[str]:
    """What is wrong with a server after its load."""
    time.sleep(_IDLE)
    wrong = []
    after = counts_of(process.pid)
    if after is None:
        return [f"the server is gone; {log} may say why"]
    print(f"before: {before[0]:.0f} MB, {before[1]} handles, {before[2]} threads")
    print(f"after:  {after[0]:.0f} MB, {after[1]} handles, {after[2]} threads")
    if after[1] > before[1] + _SPARE or after[2] > before[2]:
        wrong.append(f"{after[1]} handles and {after[2]} threads are left, of {before[1]} and {before[2]} before")
    for name in ("posecov_pictures_inside", "posecov_held_bytes"):
        if (value := metric(port, name)) != 0:
            wrong.append(f"{name} is {value:g} with nobody there")
    process.terminate()
    try:
        code = process.wait(40)
    except subprocess.TimeoutExpired:
        return [*wrong, "it does not end within 40 s"]
    if code != 0:
        wrong.append(f"it ends with exit code {code}")
    if said := log.read_text():
        wrong.append(f"it said: {said[:2000]}")
    return wrong


def in_turn(threads: Sequence[threading.Thread], load: Load, process: subprocess.Popen, seconds: float | None = None) -> None:
    """Let threads work until they are done, the time is over, or the server is gone."""
    start = said = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.2)
        now = time.monotonic()
        if now - said > _SAY_EVERY:
            said = now
            print(f"{now - start:.0f} s: {load.good} good of {sum(load.counts.values())}, {len(load.wrong)} wrong", flush=True)
        if process.poll() is not None or (seconds is not None and now - start > seconds):
            load.over.set()


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="tools/trust/long_server.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--requests", type=int, help="that many good requests instead, of eight clients")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    folder = prepare_folder(options.out)
    estimator = PoseEstimator(options.model, threads=1)
    photos = [read_image(photo)[:, :, ::-1] for photo in demo_photos()]
    plain = options.requests is not None
    sizes, kinds, searched = ((160,), ("JPEG",), 0) if plain else ((64, 160, 512), ("JPEG", "PNG", "WEBP"), 4)
    goods = server_load.good_requests(estimator, photos, sizes, kinds, searched)
    if plain:  # With one box, raw: as many requests as possible.
        goods = [good for good in goods if good.name == "raw, 1 boxes"]
    print(f"{len(goods)} distinct good requests", flush=True)
    start = time.monotonic()
    with serving(options.model, folder / "server.log") as (process, port):
        load = Load(port, goods, options.seed)
        # Threads and caches that are there from then on.
        in_turn([threading.Thread(target=load.customer, args=(-k, 400)) for k in range(1, 2 * _CLIENTS + 1)], load, process)
        metric(port, "posecov_held_bytes")
        load.good = 0
        time.sleep(1.0)
        before = counts_of(process.pid)
        if before is None:
            raise PosecovError(f"the server is gone; {folder / 'server.log'} may say why")
        watch = Watch(process.pid, lambda: load.good)
        table = server_load.bad_requests(next(good for good in goods if good.name == "raw, 1 boxes"))
        acts = server_load.QUICK | {name: server_load.bad(name, *entry) for name, entry in table.items()}
        threads = [threading.Thread(target=load.customer, args=(k, options.requests)) for k in range(_CLIENTS)]
        if not plain:
            threads += [threading.Thread(target=load.stranger, args=(k, acts)) for k in range(_STRANGERS)]
            threads += [threading.Thread(target=load.stranger, args=(k, server_load.SLOW)) for k in range(_SLOW_ONES)]
            threads.append(threading.Thread(target=load.flood))
        in_turn(threads, load, process, None if plain else 60 * options.minutes)
        minutes = (time.monotonic() - start) / 60
        samples = watch.stop()
        wrong = list(load.wrong) + end_of(process, port, folder / "server.log", before)
    write_samples(folder / "memory.csv", samples)
    rows = ["what,count", *(f'"{name}",{count}' for name, count in sorted(load.counts.items()))]
    write_atomic(folder / "counts.csv", ("\n".join(rows) + "\n").encode())
    strange = [count for name, count in load.counts.items() if not name.startswith("good")]
    print(f"{minutes:.1f} minutes: {load.good} good answers, {load.repeated} repeated")
    print(f"{sum(strange)} strange requests of {len(strange)} kinds")
    for verdict in judge(samples, counts=plain):
        print(verdict)
        wrong += [] if verdict.flat else [f"{verdict.what} is not flat"]
    what = f"{options.requests} requests" if plain else f"{minutes:.0f} minutes of good and bad requests"
    plot_samples(folder / "memory.png", samples, f"posecov serve, {what}")
    for said in wrong[:50]:
        print(f"WRONG: {said}"[:600])
    print("nothing wrong" if not wrong else f"{len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PosecovError as error:
        sys.exit(f"tools/trust/long_server.py: {error}")
