import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from films import make_film, pictures_of, points_at, times_of

from posecov.cli import main
from posecov.video.frames import Followed
from posecov.video.people import LastSeen
from posecov.video.progress import plain_line
from posecov.video.reading import Film
from posecov.video.results import read_results

ROOT = Path(__file__).resolve().parent.parent.parent
UNEVEN = [0, 10, 90, 100, 250, 251, 300, 700, 720, 1000]


@pytest.fixture
def video(tmp_path, model_path, capfd, monkeypatch):
    """Runs ``posecov video`` with the tiny model: exit code, lines on stdout, lines on stderr without those of progress."""
    monkeypatch.setattr("posecov.video.progress._EVERY", 1e9)

    def run(*arguments, out=tmp_path / "out"):
        options = ["--out", str(out), "--model", str(model_path), "--threads", "1"]
        code = main(["video", *map(str, arguments), *options])
        said = capfd.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def keypoints(path):
    """(F, 3, 2) as estimated of the one person in each frame."""
    return np.array([[person.measured.keypoints[:3] for person in frame.people] for frame in read_results(path)[1]])[:, 0]


def test_a_film_gives_a_film_and_its_poses(video, tmp_path):
    film = make_film(tmp_path / "walk.mp4", ticks=UNEVEN)
    code, said, trouble = video(film)
    assert (code, trouble) == (0, [])
    assert names(tmp_path / "out") == ["walk.jsonl", "walk.mp4"]
    assert "10 frames, somebody in 10" in said[0]
    np.testing.assert_allclose(times_of(tmp_path / "out" / "walk.mp4"), np.array(UNEVEN) / 1000, atol=1e-6)
    header, frames = read_results(tmp_path / "out" / "walk.jsonl")
    assert (header["width"], header["height"], header["source"]) == (320, 240, "walk.mp4")
    np.testing.assert_allclose([frame.time for frame in frames], np.array(UNEVEN) / 1000)
    np.testing.assert_allclose(
        keypoints(tmp_path / "out" / "walk.jsonl"), np.stack([points_at(i) for i in range(10)]), atol=0.6
    )
    # Drawn on, and every picture at its own time: ellipses are where the dots are.
    for index in (0, 9):
        drawn, (x, y) = pictures_of(tmp_path / "out" / "walk.mp4")[index], np.round(points_at(index)[0] * 2 + 0.5).astype(int)
        assert drawn.shape == (480, 640, 3)
        assert drawn[y, x].max() > 100


def test_every_form_of_results(video, tmp_path):
    film = make_film(tmp_path / "walk.mp4", 6)
    code, said, _ = video(film, "--save", "csv", "coco", "npz", "--radius", "5")
    assert code == 0
    assert names(tmp_path / "out") == ["walk.coco.json", "walk.csv", "walk.npz"]
    assert "within_5px" in (tmp_path / "out" / "walk.csv").read_text()
    assert all(name in said[0] for name in names(tmp_path / "out"))


def test_a_turned_film_is_upright(video, tmp_path):
    assert video(make_film(tmp_path / "a.mp4", 4, turn=90))[0] == 0
    header, _ = read_results(tmp_path / "out" / "a.jsonl")
    assert (header["width"], header["height"]) == (240, 320)
    assert pictures_of(tmp_path / "out" / "a.mp4")[0].shape == (640, 480, 3)
    points = keypoints(tmp_path / "out" / "a.jsonl")[0]
    a, b = points_at(0)[0], points[0]
    # Turned counter-clockwise: what was right is up.
    np.testing.assert_allclose(b, [a[1], 319 - a[0]], atol=0.6)


def test_nobody_then_somebody(video, tmp_path):
    film = make_film(tmp_path / "a.mp4", 30, empty=range(10))
    code, said, _ = video(film, "--save", "jsonl")
    assert code == 0
    there = [bool(frame.people) for frame in read_results(tmp_path / "out" / "a.jsonl")[1]]
    # Looked for every half second: found with the first frame from 0.5 s on.
    assert there == [index >= 13 for index in range(30)]
    assert "somebody in 17" in said[0]
    video(film, "--save", "jsonl", "--look-every", "0")
    assert sum(bool(frame.people) for frame in read_results(tmp_path / "out" / "a.jsonl")[1]) == 20


def test_somebody_who_has_gone_is_given_up(video, tmp_path):
    video(make_film(tmp_path / "a.mp4", 40, empty=range(10, 40)), "--save", "jsonl")
    there = [bool(frame.people) for frame in read_results(tmp_path / "out" / "a.jsonl")[1]]
    assert all(there[:10])
    assert not any(there[25:])


BAD = {
    "missing.mp4": lambda path: None,
    "empty.mp4": lambda path: path.touch(),
    "text.mp4": lambda path: path.write_text("hello" * 99),
    "headless.mp4": lambda path: path.write_bytes(make_film(path, 20).read_bytes()[:700]),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_film_is_one_line_and_the_others_are_done(video, tmp_path, name):
    BAD[name](tmp_path / name)
    code, said, trouble = video(tmp_path / name, make_film(tmp_path / "good.mp4", 3), "--save", "jsonl")
    assert (code, len(said), len(trouble)) == (1, 1, 1)
    assert str(tmp_path / name) in trouble[0]
    assert names(tmp_path / "out") == ["good.jsonl"]


@pytest.mark.parametrize("kind", ["cut", "damaged"])
def test_what_can_be_read_of_a_damaged_film_is_done(video, tmp_path, kind):
    film = make_film(tmp_path / "a.mkv", 60)
    content = bytearray(film.read_bytes())
    middle = len(content) * 6 // 10
    film.write_bytes(content[:middle] if kind == "cut" else content[:middle] + b"\x55" * 300 + content[middle + 300 :])
    code, said, trouble = video(film)
    assert (code, len(said), len(trouble)) == (1, 1, 1)
    assert str(film) in trouble[0]
    assert names(tmp_path / "out") == ["a.jsonl", "a.mp4"]
    count = len(list(read_results(tmp_path / "out" / "a.jsonl")[1]))
    assert count == len(times_of(tmp_path / "out" / "a.mp4"))
    assert count >= (25 if kind == "cut" else 58)


@pytest.mark.parametrize(
    "options",
    [
        ["--mass", "1"],
        ["--radius", "0"],
        ["--look-every", "-1"],
        ["--look-again", "nan"],
        ["--threads", "0"],
        ["--model", "none.onnx"],
    ],
)
def test_what_cannot_start_is_one_line(video, tmp_path, options, model_path, capfd):
    code = main(
        ["video", str(make_film(tmp_path / "a.mp4", 2)), "--out", str(tmp_path / "out"), "--model", str(model_path), *options]
    )
    trouble = capfd.readouterr().err.splitlines()
    assert (code, len(trouble)) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(video, tmp_path):
    (tmp_path / "taken").touch()
    code, said, trouble = video(make_film(tmp_path / "a.mp4", 2), out=tmp_path / "taken")
    assert (code, said, len(trouble)) == (2, [], 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("name", ["a.part.mp4", "a.part.jsonl"])
def test_a_full_disk_costs_the_film_only(video, tmp_path, name):
    films = [make_film(tmp_path / f"{stem}.mp4", 60) for stem in "ab"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to("/dev/full")
    before = threading.active_count()
    code, said, trouble = video(*films)
    assert (code, len(said), len(trouble)) == (1, 1, 1)
    assert "No space left" in trouble[0]
    assert name in trouble[0]
    assert {"b.jsonl", "b.mp4"} <= set(names(tmp_path / "out"))
    assert threading.active_count() == before


def test_a_disk_that_fills_later_leaves_what_was_done(video, tmp_path, model_path):
    resource = pytest.importorskip("resource")
    film, out = make_film(tmp_path / "a.mp4", 120), tmp_path / "out"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # noqa: E731
    running = start(film, out, model_path, "--smooth", "live", preexec_fn=limit)
    said, trouble = running.communicate(timeout=120)
    assert (running.returncode, said) == (1, "")
    (line,) = [line for line in trouble.splitlines() if "frames/s" not in line]
    assert "a.part" in line
    assert "cannot be written (File too large)" in line
    done = len(list(read_results(out / "a.part.jsonl")[1]))
    assert done > 10
    assert len(list(Film(str(out / "a.part.mp4")).frames())) > 10  # Its last frame is cut off.
    assert video(film, "--resume", "--smooth", "live")[0] == 0
    assert len(times_of(out / "a.mp4")) == 120


def test_films_beside_their_results(video, tmp_path):
    film = make_film(tmp_path / "a.mp4", 2)
    before = film.read_bytes()
    assert video(film, out=tmp_path)[0] == 0
    assert film.read_bytes() == before
    assert {"a_pose.mp4", "a_pose.jsonl"} <= set(names(tmp_path))


def start(film, out, model_path, *options, **further):
    command = [sys.executable, "-m", "posecov.cli", "video", str(film), "--out", str(out), "--model", str(model_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # Whoever runs in the background ignores SIGINT, and children inherit that.
    further.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *options, "--threads", "1"], env=environment, **pipes, **further)


def wait_for_lines(path, count):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} does not grow")


@pytest.mark.parametrize(("how", "smooth"), [("SIGINT", "live"), ("SIGTERM", "offline"), ("SIGKILL", "none")])
def test_a_stopped_run_is_readable_and_goes_on(video, tmp_path, model_path, how, smooth):
    film, out = make_film(tmp_path / "a.mp4", 100, gop=25), tmp_path / "out"
    # A search in every frame makes it slow enough to be stopped.
    options = ("--smooth", smooth, "--look-again", "0")
    running, least = start(film, out, model_path, *options), 50 if how == "SIGKILL" else 10
    wait_for_lines(out / "a.part.jsonl", least)
    running.send_signal(getattr(signal, how))
    _, trouble = running.communicate(timeout=60)
    assert "Traceback" not in trouble
    assert names(out) == ["a.part.jsonl", *(["a.part.mp4"] if smooth != "offline" else [])]
    done = len(list(read_results(out / "a.part.jsonl")[1]))
    assert least <= done < 100
    if how == "SIGKILL":
        assert len(times_of(out / "a.part.mp4")) >= 25
    else:
        assert running.returncode == 130
        assert "--resume" in trouble
        assert smooth == "offline" or len(times_of(out / "a.part.mp4")) == done
    code, said, trouble = video(film, "--resume", *options)
    assert (code, trouble) == (0, [])
    assert "100 frames" in said[0]
    assert names(out) == ["a.jsonl", "a.mp4"]
    video(film, *options, out=tmp_path / "whole")
    assert (out / "a.jsonl").read_bytes() == (tmp_path / "whole" / "a.jsonl").read_bytes()
    assert times_of(out / "a.mp4") == times_of(tmp_path / "whole" / "a.mp4")
    assert "done already" in video(film, "--resume")[1][0]


def test_whole_results_are_drawn_without_inference(video, tmp_path, monkeypatch):
    film = make_film(tmp_path / "a.mp4", 5)
    video(film, "--save", "jsonl")
    results = (tmp_path / "out" / "a.jsonl").read_bytes()
    monkeypatch.setattr("posecov.video.people.Watcher.__call__", None)
    assert video(film, "--resume", "--save", "film", "jsonl", "csv")[0] == 0
    assert names(tmp_path / "out") == ["a.csv", "a.jsonl", "a.mp4"]
    assert (tmp_path / "out" / "a.jsonl").read_bytes() == results


def test_results_of_another_film_are_not_gone_on_with(video, tmp_path):
    film = make_film(tmp_path / "a.mp4", 5)
    video(film, "--save", "jsonl")
    make_film(film, 5, ticks=[0, 1, 2, 3, 4])
    code, _, trouble = video(film, "--resume")
    assert (code, len(trouble)) == (1, 1)
    assert "begin anew" in trouble[0]


def test_a_tracker_has_one_place(estimator, tmp_path):
    from posecov.video.run import Settings, run_film

    class Named(LastSeen):
        def update(self, poses, time_s):
            return [Followed(40 + f.id, f.pose, f.measured) for f in super().update(poses, time_s)]

    run_film(estimator, str(make_film(tmp_path / "a.mp4", 3)), tmp_path, "b", Settings(save=("jsonl",), follow=Named))
    assert [[p.id for p in frame.people] for frame in read_results(tmp_path / "b.jsonl")[1]] == [[41]] * 3


def test_progress_is_a_plain_line_where_there_is_no_terminal(video, tmp_path, monkeypatch):
    monkeypatch.setattr("posecov.video.progress._EVERY", 0.0)
    _, _, lines = video(make_film(tmp_path / "a.mp4", 3), "--save", "jsonl")
    done = [f"posecov: a.mp4{what}: {n} of 3" for what in ("", ", smoothing") for n in (1, 2, 3)]
    assert [line.split(" frames,")[0] for line in lines] == done
    assert plain_line("a.mp4", 50, 200, 2.5) == "a.mp4: 50 of 200 frames, 2.5 frames/s, 1:00 left"
    assert plain_line("a.mp4", 50, None, 2.5) == "a.mp4: 50 frames, 2.5 frames/s"


def test_an_error_in_drawing_ends_all_threads(video, tmp_path, monkeypatch):
    before = threading.active_count()

    def broken(*_, **__):
        raise MemoryError

    monkeypatch.setattr("posecov.video.run.draw_poses", broken)
    with pytest.raises(MemoryError):
        video(make_film(tmp_path / "a.mp4", 40), "--smooth", "live")
    assert threading.active_count() == before
    assert len(list(read_results(tmp_path / "out" / "a.part.jsonl")[1])) == 0
