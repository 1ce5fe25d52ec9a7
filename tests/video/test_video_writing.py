import os
from fractions import Fraction

import av
import numpy as np
import pytest
from films import pictures_of, points_at, times_of
from tiny_model import POINTS, picture

from posecov.errors import PosecovError
from posecov.video.writing import FilmWriter, finish_film

UNEVEN = [0, 10, 90, 100, 250, 251, 300, 700, 720, 1000]


def write(path, ticks=UNEVEN, time_base=Fraction(1, 1000), size=(320, 240), close=True):
    writer = FilmWriter(path, time_base, Fraction(25), threads=1)
    for index, tick in enumerate(ticks):
        writer.write(picture(points_at(index), *size), tick)
    if close:
        writer.close()
    return writer


@pytest.mark.parametrize("time_base", [Fraction(1, 1000), Fraction(1, 90_000), Fraction(1001, 30_000)])
def test_times_are_kept(tmp_path, time_base):
    write(tmp_path / "a.part.mp4", time_base=time_base)
    finish_film(tmp_path / "a.part.mp4", tmp_path / "a.mp4")
    np.testing.assert_allclose(times_of(tmp_path / "a.mp4"), [float(tick * time_base) for tick in UNEVEN], atol=1e-9)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_the_finished_film_starts_at_once_and_plays_everywhere(tmp_path):
    write(tmp_path / "a.part.mp4", size=(321, 239))
    finish_film(tmp_path / "a.part.mp4", tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert b"moof" not in content
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 322, 240)


def test_colours_survive(tmp_path):
    write(tmp_path / "a.mp4", ticks=[0, 1])
    image = pictures_of(tmp_path / "a.mp4")[0].astype(int)
    for x, y in np.round(POINTS).astype(int):
        np.testing.assert_allclose(image[y, x], picture(POINTS, 320, 240)[y, x], atol=25)


def test_a_film_can_be_read_while_it_is_written(tmp_path):
    writer = write(tmp_path / "a.part.mp4", ticks=[40 * i for i in range(150)], close=False)
    assert len(times_of(tmp_path / "a.part.mp4")) >= 50
    writer.abandon()


def test_frames_of_another_size_are_scaled(tmp_path):
    writer = write(tmp_path / "a.mp4", ticks=[0, 1], close=False)
    writer.write(picture(POINTS, 200, 100), 2)
    writer.close()
    assert {image.shape for image in pictures_of(tmp_path / "a.mp4")} == {(240, 320, 3)}


def test_a_full_disk_is_one_line(tmp_path):
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full here")
    (tmp_path / "a.mp4").symlink_to("/dev/full")
    writer = FilmWriter(tmp_path / "a.mp4", Fraction(1, 25), Fraction(25), threads=1)

    def fill():
        for index in range(150):
            writer.write(picture(POINTS, 320, 240), index)

    # Whatever is asked of it afterwards is refused in the same words, and does not end the process.
    for again in (fill, lambda: writer.write(picture(POINTS, 320, 240), 200), writer.close):
        with pytest.raises(PosecovError, match=r"a\.mp4: cannot be written .*space"):
            again()
    writer.abandon()
    with pytest.raises(PosecovError, match="cannot be written"):
        FilmWriter(tmp_path / "none" / "a.mp4", Fraction(1, 25), Fraction(25))


def test_without_room_for_a_copy_the_fragmented_film_takes_the_name(tmp_path, monkeypatch):
    write(tmp_path / "a.part.mp4")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("posecov.video.writing._copy", full)
    finish_film(tmp_path / "a.part.mp4", tmp_path / "a.mp4")
    assert len(times_of(tmp_path / "a.mp4")) == 10
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
