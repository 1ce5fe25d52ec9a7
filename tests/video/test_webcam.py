import http.client
import re
import socket
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import make_film, times_of

from posecov.cli import main
from posecov.errors import PosecovError
from posecov.video.camera import Camera
from posecov.video.results import read_results
from posecov.video.showing import LOOPBACK, Browser, has_windows


@pytest.fixture
def webcam(model_path, capfd):
    """Runs ``posecov webcam`` with the tiny model: exit code, lines on stdout, lines on stderr."""

    def run(*arguments):
        code = main(["webcam", *map(str, arguments), "--model", str(model_path), "--threads", "1"])
        said = capfd.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


def made(folder, ending):
    (path,) = folder.glob(f"*{ending}")
    return path


def test_a_camera_is_recorded(webcam, tmp_path):
    code, said, trouble = webcam(make_film(tmp_path / "cam.mp4", 40), "--out", tmp_path / "out", "--show", "nothing")
    assert (code, trouble) == (0, [])
    _, frames = read_results(made(tmp_path / "out", ".jsonl"))
    times = [frame.time for frame in frames]
    # Frames may be dropped, but what is kept has the time at which it was shown.
    assert 3 <= len(times) <= 40
    assert 1.0 < times[-1] <= 1.7
    np.testing.assert_allclose(times_of(made(tmp_path / "out", ".mp4")), times, atol=1e-3)
    assert f"{len(times)} frames" in said[-1]


def test_it_ends_after_some_time(webcam, tmp_path):
    start = time.monotonic()
    options = ("--out", tmp_path / "out", "--show", "nothing", "--save", "jsonl", "--seconds", "0.3")
    assert webcam(make_film(tmp_path / "cam.mp4", 200), *options)[0] == 0
    assert time.monotonic() - start < 5
    assert list(read_results(made(tmp_path / "out", ".jsonl"))[1])[-1].time <= 0.3


@pytest.mark.parametrize("source", ["97", "missing.mp4", "text.mp4", "http://127.0.0.1:9/stream"])
def test_no_such_camera_is_one_line(webcam, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("hello" * 99)
    code, said, trouble = webcam(source, "--out", "out", "--show", "nothing")
    assert (code, said, len(trouble)) == (2, [], 1)
    assert source in trouble[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_fills_ends_a_recording_with_one_line(webcam, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("time.strftime", lambda _: "now")
    (tmp_path / "out" / "cam-now.part.mp4").symlink_to("/dev/full")
    before = threading.active_count()
    code, _, trouble = webcam(make_film(tmp_path / "cam.mp4", 60), "--out", tmp_path / "out", "--show", "nothing")
    assert (code, len(trouble)) == (1, 1), trouble
    assert "No space left" in trouble[0]
    assert "cam-now.part.jsonl" in trouble[0]
    assert list(read_results(tmp_path / "out" / "cam-now.part.jsonl")[1])
    assert threading.active_count() == before


class Vanishing:
    """A capture that gives some pictures and then nothing, as OpenCV's does when a camera is unplugged."""

    def __init__(self, pictures, source=None):
        self.left = pictures

    def isOpened(self):
        return True

    def get(self, _):
        return 0.0

    def read(self):
        time.sleep(0.01)
        self.left -= 1
        return (True, np.full((240, 320, 3), 40, np.uint8)) if self.left >= 0 else (False, None)

    def release(self):
        pass


@pytest.mark.parametrize("pictures", [10, 0])
def test_a_camera_that_vanishes_is_one_line_and_what_was_recorded_is_kept(webcam, tmp_path, monkeypatch, pictures):
    monkeypatch.setattr("posecov.video.camera._LOST_AFTER", 0.2)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: Vanishing(pictures))
    before = threading.active_count()
    code, _, trouble = webcam("0", "--out", tmp_path / "out", "--show", "nothing")
    assert (code, len(trouble)) == (1 if pictures else 2, 1)
    assert "camera 0: gives no more pictures" in trouble[0]
    if pictures:
        assert len(list(read_results(made(tmp_path / "out", ".jsonl"))[1])) == len(times_of(made(tmp_path / "out", ".mp4"))) > 0
    assert threading.active_count() == before


def test_the_newest_frame_is_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("posecov.video.camera._LOST_AFTER", 0.2)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: Vanishing(1000))
    camera = Camera("0")
    frames = camera.frames()
    first = next(frames)
    time.sleep(0.5)
    second, asked = next(frames), time.monotonic()
    assert second.index == 1
    assert second.time - first.time > 0.4
    assert camera.dropped > 20
    assert time.monotonic() - asked < 0.1
    camera.close()


def pictures_from(browser, count):
    """JPEGs from the stream, and the connection."""
    connection = http.client.HTTPConnection(LOOPBACK, int(browser.url.split(":")[2].strip("/")), timeout=10)
    connection.request("GET", "/stream")
    response = connection.getresponse()
    assert response.status == 200
    assert re.fullmatch(r"multipart/x-mixed-replace; boundary=(\w+)", response.headers["Content-Type"])
    found = []
    for _ in range(count):
        lines = [response.readline() for _ in range(4)]
        assert lines[0].startswith(b"--")
        size = int(lines[2].split(b":")[1])
        found.append(cv2.imdecode(np.frombuffer(response.read(size), np.uint8), cv2.IMREAD_COLOR))
        response.readline()
    connection.close()
    return found


def test_pictures_are_served_on_this_computer_alone():
    before = threading.active_count()
    with Browser(0) as browser:
        assert browser.url.startswith("http://127.0.0.1:")
        assert browser(np.full((48, 64, 3), 200, np.uint8))
        feeding = threading.Event()

        def feed():
            while not feeding.wait(0.02):
                browser(np.full((48, 64, 3), 90, np.uint8))

        feeder = threading.Thread(target=feed)
        feeder.start()
        first, *_, last = pictures_from(browser, 4)
        feeding.set()
        feeder.join()
        assert first.shape == (48, 64, 3)
        np.testing.assert_allclose(last, 90, atol=3)
        port = int(browser.url.split(":")[2].strip("/"))
        for host, path, status in ((None, "/", 200), (None, "/other", 404), ("evil.example", "/", 403)):
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
            connection.request("GET", path, headers={} if host is None else {"Host": host})
            assert connection.getresponse().status == status
            connection.close()
        with pytest.raises(PosecovError, match="--port"):
            Browser(port)
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.02)
    assert threading.active_count() <= before
    with pytest.raises(ConnectionError):
        socket.create_connection((LOOPBACK, port), timeout=1)


def test_the_page_shows_the_camera(webcam, tmp_path, monkeypatch):
    seen = {}

    def watch(line):
        match = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        if match:
            browser = type("At", (), {"url": match.group(0)})
            thread = threading.Thread(target=lambda: seen.update(picture=pictures_from(browser, 2)[-1]))
            seen["thread"] = thread
            thread.start()

    monkeypatch.setattr("posecov.commands.webcam.say", watch)
    assert webcam(make_film(tmp_path / "cam.mp4", 50), "--show", "browser", "--port", "0")[0] == 0
    seen["thread"].join(10)
    assert seen["picture"].shape == (480, 640, 3)


def test_windows_are_asked_for_at_run_time(monkeypatch, webcam):
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "QT5", raising=False)
    assert has_windows({"DISPLAY": ":0"})
    monkeypatch.setattr("sys.platform", "linux")
    assert not has_windows({})
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "", raising=False)
    assert not has_windows({"DISPLAY": ":0"})
    code, _, trouble = webcam("0", "--show", "window")
    assert (code, len(trouble)) == (2, 1)
    assert "--show browser" in trouble[0]


def test_q_ends(webcam, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("posecov.video.showing.has_windows", lambda: True)
    for name in ("namedWindow", "resizeWindow", "destroyWindow"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 3 else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    start = time.monotonic()
    assert webcam(make_film(tmp_path / "cam.mp4", 500))[0] == 0
    assert shown == [(480, 640, 3)] * 3
    assert time.monotonic() - start < 10
