"""What only a real server on a real port can show: slow, lying and numerous clients, and the end."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import pytest

from posecov.cli import main
from posecov.errors import PosecovError
from posecov.server.app import create_app
from posecov.server.limits import Limits
from posecov.server.running import prepare

try:
    import resource
except ImportError:  # Windows.
    resource = None

ROOT = Path(__file__).resolve().parent.parent.parent
LIMITS = Limits(max_bytes=200_000, body_timeout=0.6, header_timeout=0.5, max_connections=12)
QUERY = "/v1/poses?boxes=[[100,60,90,110]]"


@contextlib.contextmanager
def serving(app, limits):
    server, listener = prepare(app, "127.0.0.1", 0, limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def port(estimator):
    with serving(create_app(estimator, LIMITS), LIMITS) as port:
        yield port


@pytest.fixture
def content(dots):
    return cv2.imencode(".jpg", dots)[1].tobytes()


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def head(length, *further):
    lines = [f"POST {QUERY} HTTP/1.1", "Host: here", "Content-Type: image/jpeg", *further]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def read_answer(connection):
    """Status, headers and JSON of one answer and no byte more; None when the connection closes without one."""
    top = b""
    while not top.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return None
        top += byte
    status, *lines = top.decode().rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = b""
    while len(body) < int(headers["content-length"]):
        body += connection.recv(int(headers["content-length"]) - len(body))
    return int(status.split()[1]), headers, json.loads(body)


def is_closed(connection):
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def assert_up(port, content):
    with connect(port) as connection:
        connection.sendall(head(len(content)) + content)
        status, _, document = read_answer(connection)
    assert status == 200
    assert len(document["people"]) == 1


def assert_up_soon(port, content):
    end = time.monotonic() + 10
    while True:
        try:
            assert_up(port, content)
            break
        except (AssertionError, TypeError, OSError):
            assert time.monotonic() < end
            time.sleep(0.1)


def test_a_connection_serves_one_picture_after_the_other(port, content):
    with connect(port) as connection:
        for _ in range(3):
            connection.sendall(head(len(content)) + content)
            assert read_answer(connection)[0] == 200


def test_a_body_in_chunks(port, content):
    with connect(port) as connection:
        connection.sendall(head(None, "Transfer-Encoding: chunked"))
        for part in (content[:100], content[100:], b""):
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        assert read_answer(connection)[0] == 200


def test_a_body_that_comes_too_slowly(port, content):
    with connect(port) as connection:
        connection.sendall(head(len(content)))
        answer = None
        for byte in content[:40]:
            time.sleep(0.05)
            try:
                connection.sendall(bytes([byte]))
            except ConnectionError:
                break
        answer = read_answer(connection)
        assert answer[0] == 408
        assert "0.6 s" in answer[2]["error"]
        assert is_closed(connection)
    assert_up(port, content)


def test_a_body_shorter_than_announced_does_not_come_to_its_end(port, content):
    with connect(port) as connection:
        connection.sendall(head(len(content) + 50) + content)
        assert read_answer(connection)[0] == 408
    with connect(port) as connection:
        connection.sendall(head(len(content) + 50) + content)
        connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
        assert answer is None or answer[0] in (400, 408)
    assert_up(port, content)


def test_what_comes_after_the_announced_body_is_no_request(port, content):
    with connect(port) as connection:
        connection.sendall(head(len(content)) + content + b"x" * 1000 + b"\r\n\r\n")
        assert read_answer(connection)[0] == 200
        status, _, said = read_answer(connection)
        assert (status, list(said)) == (400, ["error"])
        assert is_closed(connection)


def test_an_announced_length_that_is_too_long_is_refused_before_the_body_comes(port):
    with connect(port) as connection:
        connection.sendall(head(10_000_000_000, "Expect: 100-continue"))
        status, headers, said = read_answer(connection)
        assert (status, headers["connection"]) == (413, "close")
        assert "0.2 MB" in said["error"]
        assert is_closed(connection)


def test_whoever_sends_too_much_can_read_that_it_was(port):
    with connect(port) as connection:
        connection.sendall(head(300_000))
        connection.sendall(b"x" * 300_000)
        assert read_answer(connection)[0] == 413


def test_chunks_without_end_are_cut_off(port, content):
    with connect(port) as connection:
        connection.sendall(head(None, "Transfer-Encoding: chunked"))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                connection.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                sent += 0x4000
        assert sent < 20_000_000  # What the system's buffers take.
    assert_up(port, content)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET\r\n\r\n",
        b"POST /v1/poses HTTP/1.1\r\nHost: here\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/poses HTTP/1.1\r\nHost: here\r\nContent-Length: many\r\n\r\n",
        b"POST /v1/poses HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: here\r\n" + b"A: b\r\n" * 300_000 + b"\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n",
    ],
)
def test_what_is_not_http(port, content, garbage):
    with connect(port) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection)
        assert answer is None or (answer[0], list(answer[2])) == (400, ["error"])
    assert_up(port, content)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: he"])
def test_a_header_that_never_ends(port, sent):
    with connect(port) as connection:
        connection.sendall(sent)
        for _ in range(4):  # One that drips is not spared.
            time.sleep(0.1)
            if sent:
                connection.sendall(b"r")
        status, _, said = read_answer(connection)
        assert status == 408
        assert "header" in said["error"]
        assert is_closed(connection)


def test_a_second_header_that_never_ends(port):
    with connect(port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert read_answer(connection)[0] == 200
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: he")
        assert read_answer(connection)[0] == 408


def test_more_connections_than_there_may_be(port, content):
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(port)) for _ in range(LIMITS.max_connections)]
        with connect(port) as one_more:
            status, headers, said = read_answer(one_more)
            assert status == 503
            assert int(headers["retry-after"]) >= 1
            assert "12 connections" in said["error"]
        # Those who say nothing do not keep their places.
        assert all(read_answer(connection)[0] == 408 for connection in idle)
    assert_up_soon(port, content)


def test_clients_that_have_gone_before_they_are_turned_away_are_no_error(estimator, content, caplog):
    server, listener = prepare(create_app(estimator, LIMITS), "127.0.0.1", 0, LIMITS)
    port = listener.getsockname()[1]
    for _ in range(LIMITS.max_connections + 1):  # As many as may wait for a server that does not run yet.
        connect(port).close()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert_up_soon(port, content)
    finally:
        server.should_exit = True
        thread.join(20)
    assert [record.getMessage() for record in caplog.records] == []


def test_a_reader_that_does_not_read_is_cut_off(port):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /models/small.onnx HTTP/1.1\r\nHost: here\r\n\r\n")
        time.sleep(1.5)
        received = 0
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(1 << 20):
                received += len(chunk)
        assert received < 18_000_000


def test_pictures_of_clients_that_have_gone_are_given_up(estimator, content, monkeypatch):
    go, started = threading.Event(), threading.Event()
    run = type(estimator.model)._run

    def slow(model, *arguments):
        started.set()
        assert go.wait(20)
        return run(model, *arguments)

    monkeypatch.setattr(type(estimator.model), "_run", slow)
    with serving(create_app(estimator, LIMITS), LIMITS) as port:
        with connect(port) as connection:
            connection.sendall(head(len(content)) + content)
            assert started.wait(10)
        end = time.monotonic() + 10
        while 'route="poses",status="499"' not in metrics(port):
            assert time.monotonic() < end
            time.sleep(0.05)
        go.set()
        assert_up(port, content)


def metrics(port):
    with connect(port) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_a_port_that_is_taken(estimator, port):
    with pytest.raises(PosecovError, match=rf"cannot listen on 127.0.0.1 port {port} \(.*\); give another"):
        prepare(create_app(estimator), "127.0.0.1", port, LIMITS)
    with pytest.raises(PosecovError, match=r"cannot listen on 127\.0\.0\.1 port 99999"):
        prepare(create_app(estimator), "127.0.0.1", 99_999, LIMITS)


@pytest.fixture
def command(model_path):
    """Starts ``posecov serve`` as a process, with limits (soft, hard) on its handles where given; the process and its port."""
    processes = []

    def start(*options, handles=None, **environment):
        arguments = ["serve", "--port", "0", "--model", str(model_path), "--threads", "1", *options]
        code = f"import sys; from posecov.cli import main; sys.exit(main({arguments!r}))"
        limit = handles and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, handles))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, **pipes, preexec_fn=limit
        )
        processes.append(process)
        line = process.stdout.readline()
        address = re.match(r"serving on http://[\d.]+:(\d+)/", line)
        assert address, line + process.stderr.read()
        return process, int(address[1])

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_waits_for_what_is_under_way(command, content, number):
    process, port = command()
    with connect(port) as busy, connect(port) as idle:
        busy.sendall(head(len(content)) + content[:100])
        time.sleep(0.3)
        process.send_signal(number)
        assert is_closed(idle)
        busy.sendall(content[100:])
        status, _, document = read_answer(busy)
        assert is_closed(busy)
    assert status == 200
    assert len(document["people"]) == 1
    out, trouble = process.communicate(timeout=10)
    assert (process.returncode, out, trouble) == (0, "", "")


@pytest.mark.skipif(resource is None, reason="no limits on handles here")
def test_many_more_connections_than_handles_are_turned_away_and_forgotten(command, content):
    process, port = command("--max-connections", "32", handles=(300, 300))
    with contextlib.ExitStack() as stack:
        for _ in range(800):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        time.sleep(1)
    assert_up_soon(port, content)
    process.terminate()
    assert process.communicate(timeout=10)[1] == ""


@pytest.mark.skipif(resource is None, reason="no limits on handles here")
def test_handles_are_asked_for_as_many_as_there_may_be_connections(command):
    _, port = command("--max-connections", "300", handles=(100, 2000))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(200)]
        for client in clients:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        assert all(read_answer(client)[0] == 200 for client in clients)


def test_open_doors_are_warned_of_and_tokens_close_them(command, tmp_path):
    process, port = command("--host", "127.0.0.1", "--token-file", str(write(tmp_path / "token", "from-the-file\n")))
    for token, expected in (("from-the-file", 200), ("other", 401)):
        with connect(port) as connection:
            connection.sendall(f"GET /v1/model HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
            assert read_answer(connection)[0] == expected
    process.terminate()
    assert process.communicate(timeout=10)[1] == ""


@pytest.mark.parametrize("token", [None, "from-the-environment"])
def test_an_address_for_everybody_without_a_token_is_warned_of(model_path, monkeypatch, capfd, token):
    monkeypatch.setattr("posecov.server.running.run", lambda *_: None)
    monkeypatch.delenv("POSECOV_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("POSECOV_TOKEN", token)
    assert main(["serve", "--host", "0.0.0.0", "--model", str(model_path)]) == 0
    trouble = capfd.readouterr().err
    assert ("anybody who reaches 0.0.0.0" in trouble) == (token is None)


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-bytes", "0"], "--max-bytes must be at least 1"),
        (["--timeout", "nan"], "--timeout must be"),
        (["--token-file", "none"], "none: cannot read a token"),
        (["--web", "."], "has no index.html"),
        (["--model", "none.onnx"], "none.onnx: no such file"),
        (["--port", "70000"], "cannot listen"),
        (["--host", "203.0.113.7"], "cannot listen"),
    ],
)
def test_what_cannot_start_says_why(model_path, options, said, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--port", "0", "--model", str(model_path), *options]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert said in lines[-1]


@pytest.mark.parametrize("text", ["", " \n", "two words", "späße", "a\x00b"])
def test_what_is_no_token(text, tmp_path, capfd, model_path):
    path = write(tmp_path / "token", text)
    assert main(["serve", "--model", str(model_path), "--token-file", str(path)]) == 2
    assert str(path) in capfd.readouterr().err


def test_what_is_missing_is_named(monkeypatch, capfd):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve"]) == 2
    assert capfd.readouterr().err == 'posecov: posecov serve needs fastapi; run pip install "posecov[serve]"\n'
