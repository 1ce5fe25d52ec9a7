import pytest
from films import make_film

from posecov.learn.benchmarks.video import measure, panned_film
from posecov.video.reading import Film


def test_figures_are_there(model_path, tmp_path):
    figures = measure(model_path, make_film(tmp_path / "a.mp4", 20))
    stages = {f"video_{stage}_ms" for stage in ("read", "infer", "draw", "write")}
    assert stages < set(figures)
    assert figures["video_frames"] == 20
    assert figures["video_crops_per_frame"] >= 1
    ratio = figures["video_frames_per_second"] / figures["video_network_frames_per_second"]
    assert figures["video_over_network"] == pytest.approx(ratio)
    assert 0 < figures["video_first_pose_s"] < 10


def test_the_film_that_is_made(tmp_path):
    pytest.importorskip("skimage")
    film = Film(str(panned_film(tmp_path / "a.mp4", 3)))
    assert [(frame.image.shape, frame.ticks * film.time_base) for frame in film.frames()][2] == ((720, 1280, 3), 2 / film.rate)
