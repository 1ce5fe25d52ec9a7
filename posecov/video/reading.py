"""Films from files and URLs, frame by frame, with PyAV: right times, upright, and whatever is still there of damaged ones."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter

from posecov.errors import PosecovError
from posecov.files import reason
from posecov.images import MAX_PIXELS, MIN_SIDE
from posecov.video.frames import Frame

EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
    *(".ogv", ".3gp", ".mjpeg", ".mjpg", ".gif"),
)
"""What counts as a film in a folder."""

UNFINISHED = ".part"
"""Ending of the stem of a film that posecov is still writing."""

_SECONDS_TO_OPEN, _SECONDS_TO_READ = 10.0, 10.0  # Of a URL that does not answer.
_RATE = Fraction(25)  # Where a film does not say how fast it is.
# FFmpeg's other formats are rare, or lists that open further files, wherever these may be.
_CONTAINERS = ",".join(
    (
        *("mov", "matroska", "avi", "mpeg", "mpegvideo", "mpegts", "asf", "flv", "ogg", "mjpeg", "mjpeg_2000", "gif", "apng"),
        *("h264", "hevc", "m4v", "ivf", "obu", "yuv4mpegpipe", "nut", "mxf", "dv", "wtv", "rm"),
    )
)
# What cameras, editors and the web write. FFmpeg has hundreds of decoders more; the worst faults were in some that few need.
_CODECS = frozenset(
    (
        *("h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "h263", "mjpeg", "theora", "vc1"),
        *("msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "flv1", "vp6", "vp6f", "rv30", "rv40", "dvvideo"),
        *("prores", "dnxhd", "rawvideo", "v210", "ffv1", "huffyuv", "ffvhuff", "utvideo", "jpeg2000", "gif", "apng", "png"),
    )
)
# Of others none runs while a film is opened either.
_DECODERS = ",".join(sorted(_CODECS | {"libdav1d", "libaom-av1", "libvpx", "libvpx-vp9", "msmpeg4"}))
_SIDE_DATA: Any = SideDataContainer  # Of a frame, which its types do not say.
_log = logging.getLogger(__name__)


def is_url(source: str) -> bool:
    """Whether this is a URL rather than a path."""
    scheme, mark, _ = source.partition("://")
    return bool(mark) and scheme.isalnum()


def list_films(source: str) -> list[str]:
    """The films that an argument stands for: those of a folder, sorted by name, or itself.

    Raises:
        PosecovError: a folder without films, or one that cannot be read.
    """
    if is_url(source):
        return [source]
    try:
        if not Path(source).is_dir():
            return [source]
        entries = sorted(Path(source).iterdir())
    except (OSError, ValueError) as error:
        raise PosecovError(f"{source}: cannot be read ({reason(error)})") from None
    films = [p for p in entries if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".") and p.is_file()]
    films = [p for p in films if not p.stem.endswith(UNFINISHED)]
    if not films:
        raise PosecovError(f"{source}: no films in this folder (looked for {' '.join(EXTENSIONS)})")
    return [str(film) for film in films]


class Film:
    """An opened film.

    Attributes:
        source: path or URL.
        width: of the upright frames in pixels.
        height: of the upright frames in pixels.
        time_base: seconds of a tick.
        rate: frames per second on average.
        expected: number of frames that the film promises, or what its duration lets expect, or None.
    """

    def __init__(self, source: str, threads: int | None = None):
        """Open a film and decode its first frame.

        Args:
            source: path or URL.
            threads: CPU threads of the decoder; None leaves it to FFmpeg.

        Raises:
            PosecovError: one line: no such file, not a film, no frame in it, frames too small or too large.
        """
        self.source = source
        self._container = _open(source)
        self._reformatter = VideoReformatter()  # A frame's own would start its threads anew for every frame.
        self._broken: str | None = None
        self._read = self._lost = self._damaged = 0
        self._first_damage: float | None = None
        self._end = self._latest = 0.0
        try:
            if not self._container.streams.video:
                raise PosecovError(f"{source}: there is no picture in it, only {_contents(self._container)}; give a film")
            self._stream = self._container.streams.video[0]
            context = self._stream.codec_context
            codec = "an unknown way" if context is None else context.codec.canonical_name
            if codec not in _CODECS:
                raise PosecovError(f"{source}: its pictures are kept in {codec}, which is not read; convert it to H.264")
            self._stream.thread_type = "AUTO"
            self._stream.thread_count = threads or 0
            self.time_base = Fraction(self._stream.time_base or Fraction(1, 90_000))
            self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or _RATE)
            self._counted = self._stream.frames or None
            self._duration = _duration(self._container, self._stream)
            estimate = None if self._duration is None else round(self._duration * self.rate)
            self.expected = self._counted or estimate
            self._decoded = self._decode()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise PosecovError(f"{source}: not one frame can be read{_because(self._broken)}; the film is empty or damaged")
            self.height, self.width = self._first[1].shape[:2]
        except BaseException:
            self._container.close()
            raise

    def frames(self) -> Iterator[Frame]:
        """The frames in order, once. What cannot be decoded is left out; see `trouble` afterwards."""
        try:
            step = max(1, round(1 / (self.rate * self.time_base)))
            origin = last = None
            entry, self._first = self._first, None
            while entry is not None:
                raw, image = entry
                if raw.pts is None:
                    ticks = 0 if last is None else last + step
                else:
                    origin = raw.pts - (0 if last is None else last + step) if origin is None else origin
                    ticks = raw.pts - origin
                # Some films repeat times or step back; a file to be written must not.
                last = ticks if last is None else max(ticks, last + 1)
                seconds, self._end = float(last * self.time_base), float((last + step) * self.time_base)
                self._latest = max(self._end, 0.0 if raw.pts is None else float((raw.pts + step) * self.time_base))
                if raw.is_corrupt:
                    self._damage(seconds)
                yield Frame(self._read, seconds, last, image, bool(raw.is_corrupt))
                self._read += 1
                del raw, image, entry
                entry = next(self._decoded, None)
        finally:
            self.close()

    def trouble(self) -> str | None:
        """After `frames`: one line that says what was wrong with the film, or None."""
        read, lost = self._read, self._lost
        if self._broken is not None or self._is_short():
            of = (
                ""
                if self.expected is None or self.expected <= read
                else f" of {'' if self._counted else 'about '}{self.expected}"
            )
            why = _because(self._broken)
            return f"{self.source}: ends after {read}{of} frames{why}: cut short or damaged; those are done, get the film again"
        if self._first_damage is not None:
            count = "1 frame is damaged" if self._damaged == 1 else f"{self._damaged} frames are damaged"
            gone = "" if not lost else ", lost" if lost == self._damaged else f", {lost} of them lost"
            first = f"{self._first_damage:.2f} s"
            return f"{self.source}: {count}{gone} (first near {first}); the others are done, mind the poses from there on"
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def _is_short(self) -> bool:
        """Whether much less came than was promised; a little may be hidden by an edit list, or a last frame be long."""
        if self._counted is not None:
            return self._read + self._lost < self._counted - 2 - 0.02 * self._counted
        # Containers differ in whether they count from 0 or from their first frame.
        return self._duration is not None and self._latest < float(self._duration) * 0.98 - 0.5

    def _damage(self, seconds: float) -> None:
        self._damaged += 1
        if self._first_damage is None:
            self._first_damage = seconds

    def _decode(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Decoded frames and their upright BGR pictures."""
        for packet in self._packets():
            try:
                # One by one: at the end the decoder hands out a frame for each of its threads at once.
                for frame in self._stream.decode(packet):
                    yield frame, self._upright(frame)
            except (av.FFmpegError, ValueError) as error:
                _log.debug("%s: a packet cannot be decoded", self.source, exc_info=error)
                self._lost += 1
                self._damage(self._end)

    def _packets(self) -> Iterator[Any]:
        try:
            # The last packet is empty, as None is below: it makes the decoder hand out what it still holds.
            yield from self._container.demux(self._stream)
        except (av.FFmpegError, OSError) as error:
            _log.debug("%s: reading breaks off", self.source, exc_info=error)
            self._broken = reason(error)
            yield None

    def _upright(self, frame: Any) -> np.ndarray:
        if frame.width * frame.height > MAX_PIXELS:
            raise PosecovError(
                f"{self.source}: its frames have more than {MAX_PIXELS // 1_000_000} megapixels; make it smaller"
            )
        if min(frame.width, frame.height) < MIN_SIDE:
            size = f"{frame.width} x {frame.height}"
            raise PosecovError(f"{self.source}: frames of {size} pixels are too small; a side must have at least {MIN_SIDE}")
        # Asked for its own side data, a frame would refer to itself, and stay in memory until the garbage is collected.
        matrix = _SIDE_DATA(frame).get("DISPLAYMATRIX")
        image = self._reformatter.reformat(frame, format="bgr24").to_ndarray()
        return image if matrix is None else turned(image, np.frombuffer(bytes(matrix), dtype="=i4"))


def turned(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A picture as a film's display matrix wants it shown, to a quarter turn.

    Args:
        image: (H, W, 3).
        matrix: (9,) integers a b u c d v x y w of ISO 14496-12: a point (p, q) is shown at (a p + c q, b p + d q).

    Returns:
        (H, W, 3) or (W, H, 3), contiguous.
    """
    a, b, _, c, d = (int(number) for number in matrix[:5])
    if abs(a) + abs(d) < abs(b) + abs(c):
        image = image.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _open(source: str) -> Any:
    if not is_url(source):
        path = Path(source)
        try:
            if path.is_dir():
                raise PosecovError(f"{source}: is a folder; give a film")
            if not path.exists():
                raise PosecovError(f"{source}: no such file")
            if path.is_file() and path.stat().st_size == 0:
                raise PosecovError(f"{source}: the file is empty; give a film")
        except (OSError, ValueError) as error:
            raise PosecovError(f"{source}: cannot be read ({reason(error)})") from None
        source = str(path.absolute())  # FFmpeg takes what stands before a colon for a protocol.
    options = {} if is_url(source) else {"format_whitelist": _CONTAINERS, "codec_whitelist": _DECODERS}
    try:
        return av.open(source, timeout=(_SECONDS_TO_OPEN, _SECONDS_TO_READ), options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        what = "cannot be opened" if is_url(source) else "not a film that can be read, or cut short"
        raise PosecovError(f"{source}: {what} ({reason(error)}); give a film such as MP4, MOV, MKV or AVI") from None


def _contents(container: Any) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _duration(container: Any, stream: Any) -> Fraction | None:
    """Seconds of film, where it cannot be the sound that they measure."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if container.duration and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    return None


def _because(why: str | None) -> str:
    return "" if why is None else f" ({why})"
