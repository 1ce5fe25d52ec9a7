"""Annotated films as H.264 in MP4, readable while they grow (in fragments), whole and quick to start at the end."""

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from posecov.errors import PosecovError
from posecov.files import reason, temporary_name

_BT709 = 1  # ITU-T H.273's number, the same for primaries, transfer and matrix.
_KEY_FRAMES = 2.0  # Seconds between pictures at which a player can start.
_FRAGMENT = 0.5  # Seconds of film that, with the few frames that the encoder looks ahead, are lost when writing is killed.
# About as good as veryfast at crf 20, in less time and larger files: the processors are the network's.
_CODEC = {"crf": "22", "preset": "superfast", "bf": "0"}
_FRAGMENTED = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": str(round(_FRAGMENT * 1e6)),
    "flush_packets": "1",
}
_FREE = "free some space or give another --out"


class FilmWriter:
    """Writes frames with their own times.

    The file is a fragmented MP4, which players open even when writing was killed. Without B-frames a frame's time is also its
    place in the stream, so that nothing has to be shifted.
    """

    def __init__(self, path: Path, time_base: Fraction, rate: Fraction, threads: int | None = None):
        """Open a file; the first frame sets the size.

        Args:
            path: of the file, replaced when there.
            time_base: seconds of a tick.
            rate: frames per second on average; sets the distance of key frames.
            threads: CPU threads of the encoder; None leaves it to x264.

        Raises:
            PosecovError: the file cannot be written.
        """
        self.path = path
        self._time_base, self._rate, self._threads = time_base, rate, threads
        self._stream: Any = None
        self._reformatter = VideoReformatter()  # A frame's own would start its threads anew for every frame.
        self._failure: PosecovError | None = None
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._refused(error) from None
        # Through a Python file, so that a full disk is an OSError here and not something that FFmpeg keeps to itself.
        self._container = av.open(self._file, "w", format="mp4", options=dict(_FRAGMENTED))

    def write(self, image: np.ndarray, ticks: int) -> None:
        """Add a frame.

        Args:
            image: (H, W, 3) uint8, BGR. Odd sides are made even by repeating the last row or column, and sizes other than the
                first frame's are scaled to it.
            ticks: its time, greater than that of the frame before.

        Raises:
            PosecovError: the disk is full.
        """
        height, width = image.shape[:2]
        even: Any = image
        if height % 2 or width % 2:
            even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._stream is None:
            self._open_stream(even.shape[1], even.shape[0])
        context = self._stream.codec_context
        if even.shape[:2] != (context.height, context.width):
            even = cv2.resize(even, (context.width, context.height), interpolation=cv2.INTER_AREA)
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(even), format="bgr24")
        frame = self._reformatter.reformat(
            frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = ticks, self._time_base
        self._mux(frame)

    def close(self) -> None:
        """Write what the encoder still holds and close the file. Raises PosecovError when the disk is full."""
        try:
            if self._stream is not None:
                self._mux(None)
            self._container.close()
            self._file.close()
        except (av.FFmpegError, OSError) as error:
            raise self._refused(error) from None
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is, whatever happens."""
        for close in (self._container.close, self._file.close):
            with contextlib.suppress(av.FFmpegError, OSError):
                close()

    def _open_stream(self, width: int, height: int) -> None:
        if "libx264" not in av.codecs_available:
            raise PosecovError("this PyAV has no H.264 encoder (libx264); install PyAV's own wheel: pip install av")
        stream: Any = self._container.add_stream("libx264", rate=self._rate, options=dict(_CODEC))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.gop_size = max(1, round(_KEY_FRAMES * self._rate))
        context.thread_count = self._threads or 0
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = ColorRange.MPEG
        self._stream = stream

    def _mux(self, frame: Any) -> None:
        # FFmpeg's muxer, asked again after it has failed, may crash the process.
        if self._failure is not None:
            raise self._failure
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            self._failure = self._refused(error)
            raise self._failure from None

    def _refused(self, error: Exception) -> PosecovError:
        return PosecovError(f"{self.path}: cannot be written ({reason(error)}); {_FREE}")


def finish_film(part: Path, target: Path) -> None:
    """Make a finished film of a fragmented one, without encoding again: its index in front, so that it starts at once.

    Where there is no room for a second copy, the fragmented film takes the name: it plays as well.

    Raises:
        PosecovError: not even that can be done.
    """
    temporary = target.with_name(temporary_name())
    try:
        try:
            _copy(part, temporary)
            temporary.replace(target)
            part.unlink()
        except (av.FFmpegError, OSError):
            part.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise PosecovError(f"{target}: cannot be written ({reason(error)}); the film is {part}") from None


def _copy(source: Path, target: Path) -> None:
    options = {"movflags": "faststart"}
    with av.open(str(source)) as given, av.open(str(target), "w", format="mp4", options=options) as made:
        stream = given.streams.video[0]
        copy = made.add_stream_from_template(stream)
        for packet in given.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                made.mux(packet)
