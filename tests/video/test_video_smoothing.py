"""Films whose poses are smoothed: in the results, in the film, and in blocks."""

import dataclasses
import json
import os
import sys
import threading

import cv2
import numpy as np
import pytest
from films import make_film, points_at
from small_people import LEGS, STANDING, moving_two, standing
from tiny_model import POINTS

from posecov.cli import main
from posecov.errors import PosecovError
from posecov.tracking.motion import MotionModel
from posecov.tracking.smoother import smooth
from posecov.video.frames import Followed
from posecov.video.plots import courses, joint_correlations
from posecov.video.results import FrameResult, ResultsWriter, read_results
from posecov.video.smoothing import smooth_results, smoothed


def results_of(poses, times, number=1):
    return [
        FrameResult(index, float(time), [] if pose is None else [Followed(number, pose, pose)])
        for index, (pose, time) in enumerate(zip(poses, times, strict=True))
    ]


def test_blocks_give_what_the_whole_film_gives():
    times, poses = moving_two(MotionModel(), 200)
    poses[60:70] = [None] * 10
    whole = smooth(poses, list(times))
    found = list(smoothed(results_of(poses, times), block=40))
    assert [result.frame for result in found] == list(range(200))
    for index, (pose, result) in enumerate(zip(whole, found, strict=True)):
        (person,) = result.people
        np.testing.assert_allclose(person.pose.keypoints, pose.keypoints, atol=0.02)
        np.testing.assert_allclose(person.pose.covariance, pose.covariance, atol=0.02)
        assert person.measured is poses[index]


def test_short_gaps_are_filled_and_long_ones_are_not_and_people_are_kept_apart():
    times = np.arange(80) / 20
    poses = [standing(STANDING + [index, 0]) for index in range(80)]
    others = [standing(STANDING + [0, 300 - index]) for index in range(80)]
    poses[10:15] = [None] * 5
    poses[30:60] = [None] * 30
    frames = [
        dataclasses.replace(first, people=[*second.people, *first.people])
        for first, second in zip(results_of(poses, times), results_of(others, times, 2), strict=True)
    ]
    found = list(smoothed(frames))
    there = {number: [{p.id: p for p in result.people}.get(number) for result in found] for number in (1, 2)}
    assert [index for index, person in enumerate(there[1]) if person is None] == list(range(30, 60))
    assert all(there[2])
    filled = there[1][12]
    assert filled.measured is None
    np.testing.assert_allclose(filled.pose.keypoints, STANDING + [12, 0], atol=0.5)
    assert (filled.pose.sigma > there[1][8].pose.sigma).all()


@pytest.fixture
def video(tmp_path, model_path, capfd, monkeypatch):
    monkeypatch.setattr("posecov.video.progress._EVERY", 1e9)

    def run(*arguments):
        options = ["--out", str(tmp_path / "out"), "--model", str(model_path), "--threads", "1"]
        code = main(["video", *map(str, arguments), *options])
        return code, capfd.readouterr().err.splitlines()

    return run


def shaking(path, frames=24, empty=range(0)):
    """A film in which every other frame is moved by 4 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("films.points_at", lambda index: points_at(index) + [4.0 * (index % 2), 0])
        return make_film(path, frames, empty=empty)


def tracks(path):
    """Keypoints (F, J, 2) of the one person, as they are and as they were estimated."""
    people = [frame.people[0] for frame in read_results(path)[1]]
    return (np.stack([pose.keypoints for pose in poses]) for poses in zip(*((p.pose, p.measured) for p in people), strict=True))


@pytest.mark.parametrize(("mode", "calmer"), [("none", 1.0), ("live", 0.5), ("offline", 0.1)])
def test_results_and_film_show_the_same_calmer_poses_beside_those_measured(video, tmp_path, monkeypatch, mode, calmer):
    drawn = []
    monkeypatch.setattr("posecov.video.run.draw_poses", lambda image, poses, mass, **_: drawn.append(poses) or image)
    assert video(shaking(tmp_path / "a.mp4"), "--smooth", mode) == (0, [])
    header, _ = read_results(tmp_path / "out" / "a.jsonl")
    assert header.get("smooth", "none") == mode
    poses, measured = tracks(tmp_path / "out" / "a.jsonl")
    index = np.arange(1, 24)
    np.testing.assert_allclose(measured[1:, 0, 0], POINTS[0, 0] + 0.8 * index + 4 * (index % 2), atol=1)
    np.testing.assert_array_equal([people[0].keypoints for people in drawn], poses)
    shake = [np.square(np.diff(points[4:], 2, axis=0)).mean() for points in (poses, measured)]
    assert shake[0] <= calmer**2 * shake[1]


def test_somebody_unseen_for_a_moment_is_filled_in_and_said_to_be_unseen(video, tmp_path):
    film = make_film(tmp_path / "a.mp4", 45, empty=range(26, 32))
    for mode in ("live", "offline"):
        video(film, "--smooth", mode, "--save", "jsonl", "csv")
        people = [frame.people for frame in read_results(tmp_path / "out" / "a.jsonl")[1]]
        assert {person.id for frame in people for person in frame} == {1}
        unseen = [index for index, frame in enumerate(people) if frame and frame[0].measured is None]
        assert unseen
        last, first = unseen[0] - 1, people[unseen[0]][0].pose
        assert (first.sigma >= people[last][0].pose.sigma).all()
        assert (tmp_path / "out" / "a.csv").read_text().count("\n") == 45 + 3


def test_a_film_that_cannot_be_read_twice_is_smoothed_live(video, tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    content = make_film(tmp_path / "a.mkv", 12).read_bytes()
    pipe = tmp_path / "pipe.mkv"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes(content), daemon=True)
    feeder.start()
    assert video(pipe, "--save", "jsonl") == (0, [])
    feeder.join(10)
    header, frames = read_results(tmp_path / "out" / "pipe.jsonl")
    assert header["smooth"] == "live"
    assert sum(1 for _ in frames) == 12


def test_what_cannot_be_smoothed_stays_as_measured(tmp_path, monkeypatch):
    times, path = np.arange(5) / 10, tmp_path / "a.part.jsonl"
    header = {"format": "posecov-frames-1", "skeleton": json.loads(json.dumps(LEGS.to_dict())), "degrees_of_freedom": None}
    writer = ResultsWriter(path, header)
    for result in results_of([standing()] * 5, times):
        writer.write(result)
    writer.close()
    before, write = path.read_bytes(), ResultsWriter.write

    def full(self, result):
        if result.frame == 3:
            raise OSError(28, "No space left on device")
        write(self, result)

    with monkeypatch.context() as patch:
        patch.setattr(ResultsWriter, "write", full)
        with pytest.raises(PosecovError, match=r"No space left on device.*--resume"):
            smooth_results(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    smooth_results(path)
    found, frames = read_results(path)
    assert found == header | {"smooth": "offline"}
    for frame in frames:
        (person,) = frame.people
        np.testing.assert_array_equal(person.measured.keypoints, np.float32(STANDING))
        assert (person.pose.sigma < person.measured.sigma).all()


def test_smoothing_that_was_interrupted_goes_on(video, tmp_path, monkeypatch):
    film = make_film(tmp_path / "a.mp4", 10)
    with monkeypatch.context() as patch:

        def interrupt(*_, **__):
            raise KeyboardInterrupt

        patch.setattr("posecov.video.run.smooth_results", interrupt)
        code, lines = video(film)
    assert code == 130
    assert "a.part.jsonl" in lines[0]
    assert "--resume" in lines[0]
    monkeypatch.setattr("posecov.video.people.Watcher.__call__", None)
    assert video(film, "--resume") == (0, [])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jsonl", "a.mp4"]


def test_plots_are_pictures_beside_the_film(video, tmp_path):
    assert video(make_film(tmp_path / "a.mp4", 12), "--plots", "--save", "jsonl") == (0, [])
    folder = tmp_path / "out"
    assert sorted(path.name for path in folder.iterdir()) == ["a.correlations.png", "a.errors.png", "a.jsonl"]
    for name in ("errors", "correlations"):
        drawn = cv2.imread(str(folder / f"a.{name}.png"))
        assert min(drawn.shape[:2]) > 300
        assert drawn.std() > 5
    _, times, people = courses(folder / "a.jsonl")
    assert len(times) == 12
    assert people[1].expected.shape == (12, 4)
    assert people[1].least[0] == int(people[1].expected.mean(axis=1).argmax())
    (folder / "a.errors.png").unlink()
    assert video(tmp_path / "a.mp4", "--plots", "--save", "jsonl", "--resume") == (0, [])
    assert (folder / "a.errors.png").exists()


def test_a_film_with_nobody_can_be_plotted_too(video, tmp_path):
    assert video(make_film(tmp_path / "a.mp4", 4, empty=range(4)), "--plots", "--save", "jsonl") == (0, [])
    assert (tmp_path / "out" / "a.correlations.png").exists()


def test_plots_without_matplotlib_are_one_line_before_anything_is_done(video, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, (line,) = video(make_film(tmp_path / "a.mp4", 4), "--plots")
    assert code == 2
    assert 'pip install -e ".[plots]"' in line
    assert not (tmp_path / "out").exists()


def test_joints_that_err_together_correlate_whatever_way_the_picture_is_turned():
    both = np.array([[1.0, 0.5, -0.25], [0.5, 1.0, 0.0], [-0.25, 0.0, 1.0]])
    sigma = np.repeat([1.0, 3.0, 0.5], 2)
    covariance = np.kron(both, np.eye(2)) * sigma[:, None] * sigma
    np.testing.assert_allclose(joint_correlations(covariance), both, atol=1e-12)
    turn = np.kron(np.eye(3), np.array([[0.6, -0.8], [0.8, 0.6]]))
    np.testing.assert_allclose(joint_correlations(turn @ covariance @ turn.T), both, atol=1e-12)
