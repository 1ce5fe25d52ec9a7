"""Small films for tests: the coloured dots that `tiny_model` finds, moving, with times, turns and damage to order."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from tiny_model import POINTS, picture

WIDTH, HEIGHT = 320, 240
MILLISECONDS = Fraction(1, 1000)


def points_at(index: int) -> np.ndarray:
    """(3, 2): where the dots are in frame ``index``."""
    return POINTS + np.array([0.8, 0.4]) * index


def make_film(
    path: Path,
    frames: int = 30,
    *,
    ticks: list[int] | None = None,
    time_base: Fraction = MILLISECONDS,
    turn: int = 0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    empty: range = range(0),
    gop: int = 10,
    codec: str = "libx264",
    format: str | None = None,
) -> Path:
    """Write a film.

    Args:
        path: of the film; its ending chooses the container.
        frames: how many.
        ticks: their times; 40 ms apart when None.
        time_base: of the ticks in seconds.
        turn: degrees by which players shall turn it.
        size: width and height.
        empty: frames without dots.
        gop: distance of key frames.
        codec: FFmpeg's name.
        format: of the container.
    """
    ticks = [40 * index for index in range(frames)] if ticks is None else ticks
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", format=format, options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "0", "crf": "12", "preset": "ultrafast"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = gop
        if turn:
            stream.set_display_rotation(turn)
        for index, tick in enumerate(ticks):
            points = np.full((3, 2), -100.0) if index in empty else points_at(index)
            frame = av.VideoFrame.from_ndarray(picture(points, *size), format="bgr24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def times_of(path: Path) -> list[float]:
    """Times of a film's frames in seconds."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def pictures_of(path: Path) -> list[np.ndarray]:
    """A film's frames, BGR."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
