import gc
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from films import MILLISECONDS, make_film, points_at, times_of
from tiny_model import POINTS, picture

from posecov.errors import PosecovError
from posecov.video.camera import Camera, quiet_opencv
from posecov.video.reading import Film, list_films, turned

UNEVEN = [0, 10, 90, 100, 250, 251, 300, 700, 720, 1000]


def read(path):
    film = Film(str(path), threads=1)
    return film, list(film.frames())


def test_times_are_those_of_the_film(tmp_path):
    film, frames = read(make_film(tmp_path / "a.mp4", ticks=UNEVEN))
    assert [round(frame.ticks * film.time_base * 1000) for frame in frames] == UNEVEN
    assert [frame.index for frame in frames] == list(range(10))
    np.testing.assert_allclose([frame.time for frame in frames], np.array(UNEVEN) / 1000)
    assert film.trouble() is None
    assert film.expected == 10


def test_times_count_from_the_first_frame(tmp_path):
    film, frames = read(make_film(tmp_path / "a.mkv", ticks=[tick + 500 for tick in UNEVEN]))
    np.testing.assert_allclose([frame.time for frame in frames], np.array(UNEVEN) / 1000)
    assert film.trouble() is None


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_frames_are_upright(tmp_path, turn):
    quiet_opencv()  # Its FFmpeg takes note of that only once in a process.
    path = make_film(tmp_path / "a.mp4", 3, turn=turn)
    film, frames = read(path)
    # OpenCV turns films too; it decides what upright means.
    fine, wanted = cv2.VideoCapture(str(path)).read()
    assert fine
    assert frames[0].image.shape == wanted.shape == (film.height, film.width, 3)
    np.testing.assert_allclose(frames[0].image, wanted, atol=6)


def test_a_display_matrix_may_mirror():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    one = 1 << 16
    np.testing.assert_array_equal(turned(image, np.array([-one, 0, 0, 0, one, 0, 0, 0, 0])), image[:, ::-1])
    np.testing.assert_array_equal(turned(image, np.array([0, one, 0, one, 0, 0, 0, 0, 0])), image.transpose(1, 0, 2))


def test_colours_survive(tmp_path):
    _, (frame, *_) = read(make_film(tmp_path / "a.mp4", 2))
    wanted = picture(POINTS, 320, 240)
    for x, y in np.round(POINTS).astype(int):
        np.testing.assert_allclose(frame.image[y, x].astype(int), wanted[y, x], atol=25)


def test_a_frame_that_has_been_read_does_not_stay_in_memory(tmp_path):
    """Nor until the garbage is collected: frames are large, and that comes late."""
    film = Film(str(make_film(tmp_path / "a.mp4", 30, turn=90)), 1)
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
        alive = [sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()) for _ in film.frames()]
    finally:
        gc.enable()
    assert len(alive) == 30
    assert max(alive) <= before + 2


def test_frames_of_another_size_amid_a_film(tmp_path):
    parts = [make_film(tmp_path / f"{width}.ts", 5, size=(width, 120)).read_bytes() for width in (160, 320)]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    frames = list(Film(str(tmp_path / "a.ts"), 1).frames())
    assert [frame.image.shape for frame in frames] == 5 * [(120, 160, 3)] + 5 * [(120, 320, 3)]
    for frame, width in ((frames[0], 160), (frames[-1], 320)):
        index = frame.index % 5
        assert np.abs(frame.image - picture(points_at(index), width, 120).astype(float)).mean() < 5


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts"])
def test_a_film_cut_short_gives_what_is_there(tmp_path, ending):
    base = Fraction(1, 25) if ending == "avi" else MILLISECONDS
    path = make_film(
        tmp_path / f"a.{ending}", ticks=list(range(60)) if ending == "avi" else [40 * i for i in range(60)], time_base=base
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    film, frames = read(path)
    assert 25 < len(frames) < 45
    trouble = film.trouble()
    assert str(path) in trouble
    assert len(trouble.splitlines()) == 1
    if ending != "ts":  # A stream does not say how long it will be.
        assert f"after {len(frames)} of {'about ' if ending == 'mkv' else ''}60 frames" in trouble


def test_a_damaged_frame_costs_no_other(tmp_path):
    path = make_film(tmp_path / "a.mkv", 60)
    content = bytearray(path.read_bytes())
    middle = len(content) * 6 // 10
    content[middle : middle + 300] = b"\x55" * 300
    path.write_bytes(content)
    film, frames = read(path)
    assert len(frames) >= 58
    assert "damaged" in film.trouble()
    assert any(frame.damaged for frame in frames)


@pytest.mark.parametrize(
    ("content", "hint"),
    [(None, "no such file"), (b"", "empty"), (b"hello" * 99, "not a film"), ("folder", "folder"), ("sound", "audio")],
)
def test_what_is_no_film_is_one_line(tmp_path, content, hint):
    path = tmp_path / "a.mp4"
    if content == "folder":
        path.mkdir()
    elif content == "sound":
        write_sound(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(PosecovError, match=hint) as caught:
        Film(str(path))
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def write_sound(path):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_film_without_frames(tmp_path):
    path = make_film(tmp_path / "a.mp4", 40)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 4])
    with pytest.raises(PosecovError, match="not one frame"):
        Film(str(path))


def test_a_url_that_does_not_answer_is_one_line():
    with pytest.raises(PosecovError, match=r"127\.0\.0\.1:9/a\.mp4: cannot be opened"):
        Film("http://127.0.0.1:9/a.mp4")


def test_a_folder_means_its_films(tmp_path):
    for name in ("b.mp4", "a.MOV", "notes.txt", ".hidden.mp4", "c.part.mp4"):
        (tmp_path / name).touch()
    assert list_films(str(tmp_path)) == [str(tmp_path / "a.MOV"), str(tmp_path / "b.mp4")]
    assert list_films("rtsp://camera/1") == ["rtsp://camera/1"]
    (tmp_path / "none").mkdir()
    with pytest.raises(PosecovError, match="no films"):
        list_films(str(tmp_path / "none"))


def test_times_that_repeat_or_step_back_are_put_in_order(tmp_path):
    film = Film(str(make_film(tmp_path / "a.mp4", 6)))
    stamped = list(film._decoded)
    stamped[0:0] = [film._first]
    for (raw, _), pts in zip(stamped, [100, 200, 200, 150, None, 400], strict=True):
        raw.pts = pts
    film._first, film._decoded = stamped[0], iter(stamped[1:])
    assert [frame.ticks for frame in film.frames()] == [0, 100, 101, 102, 742, 743]


def test_times_of_helper_agree(tmp_path):
    assert times_of(make_film(tmp_path / "a.mp4", 3)) == [0.0, 0.04, 0.08]


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile other.ts\n",
        "<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>other.ts</BaseURL></MPD>",
    ],
)
def test_a_list_of_films_is_no_film(tmp_path, text):
    """FFmpeg would open what it names, wherever that is."""
    make_film(tmp_path / "other.ts", 5)
    for name in ("list.mp4", "list.m3u8", "list.mpd"):
        (tmp_path / name).write_text(text)
        for opened in (Film, Camera):
            with pytest.raises(PosecovError, match="not a film that can be read"):
                opened(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx"), ("a.mpg", "mpeg1video")),
        *(("a.ts", "libx264"), ("a.wmv", "wmv2"), ("a.flv", "flv"), ("a.ogv", "libtheora"), ("a.3gp", "mpeg4")),
        *(("a.mjpeg", "mjpeg"), ("a.webm", "libvpx-vp9"), ("a.mp4", "libsvtav1"), ("a.mp4", "libx265"), ("a.mkv", "ffv1")),
    ],
)
def test_the_usual_containers_are_films(tmp_path, name, codec):
    try:
        path = make_film(tmp_path / name, 6, codec=codec)
    except (ValueError, LookupError, av.FFmpegError):
        pytest.skip(f"this FFmpeg does not write {name}")
    assert len(read(path)[1]) >= 5


@pytest.mark.parametrize("codec", ["magicyuv", "zlib", "cinepak"])
def test_decoders_that_nobody_needs_are_not_run(tmp_path, codec):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, {"magicyuv": "yuv420p", "zlib": "bgr24"}.get(codec, "rgb24")
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="bgr24")))
        container.mux(stream.encode(None))
    for opened in (Film, Camera):
        with pytest.raises(PosecovError, match=f"kept in {codec}, which is not read; convert it to H.264"):
            opened(str(tmp_path / "a.avi"))
