"""Live sources through OpenCV: cameras, streams, and films played as if they were cameras. Only the newest frame counts."""

import os
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecov.errors import PosecovError
from posecov.video.frames import Frame
from posecov.video.reading import Film, is_url

TIME_BASE = Fraction(1, 1000)
"""Seconds of a tick of a camera's frames."""

_RATE = Fraction(30)  # Of cameras that do not say how fast they are.
_LOST_AFTER = 2.0  # Seconds without a picture after which a camera that says so is gone.
_SILENT_AFTER = 10.0  # Seconds without a picture after which a driver that says nothing is given up.


class Camera:
    """An open camera, read by a thread of its own as fast as it gives pictures; those that nobody takes in time are dropped.

    Attributes:
        source: as given.
        name: of results: ``camera0``, or the stem of a film.
        rate: frames per second as far as known.
        dropped: frames that were not taken.
    """

    def __init__(self, source: str):
        """Open a source.

        Args:
            source: number of a camera, path of a film (played at its own speed) or URL of a stream.

        Raises:
            PosecovError: there is no such camera or film, or it cannot be opened.
        """
        self.source = source
        self.name = f"camera{source}" if source.isdigit() else Path(source).stem or "camera"
        self.dropped = 0
        quiet_opencv()
        if not source.isdigit() and not is_url(source) and not Path(source).exists():
            raise PosecovError(f"{source}: no such file; give the number of a camera (0), a film or a URL")
        if not source.isdigit() and not is_url(source) and Path(source).is_file():
            Film(source).close()  # Refuses what is no film, such as a list that would open further files.
        self._capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
        if not self._capture.isOpened():
            what = f"camera {source}" if source.isdigit() else source
            hint = (
                "see that it is plugged in and that no other program uses it, or give another number"
                if source.isdigit()
                else ("give the number of a camera (0), a film or the URL of a stream")
            )
            raise PosecovError(f"{what}: cannot be opened; {hint}")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 1000 else _RATE
        # A stream's length is negative or 0.
        self._is_film = not source.isdigit() and self._capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        self._change = threading.Condition()
        self._newest: tuple[float, np.ndarray] | None = None
        self._over = self._closing = False
        self._thread = threading.Thread(target=self._grab, daemon=True, name="camera")
        self._thread.start()

    def frames(self) -> Iterator[Frame]:
        """The newest frame, whenever one is asked for; waits for one that is new. Ends with a film.

        Raises:
            PosecovError: the camera gives no more pictures.
        """
        index, last, start = 0, -1, 0.0
        while (entry := self._take()) is not None:
            taken, image = entry
            start = taken if index == 0 else start
            last = max(round((taken - start) / TIME_BASE), last + 1)
            yield Frame(index, float(last * TIME_BASE), last, image)
            del image, entry
            index += 1

    def close(self) -> None:
        """Let go of the camera."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join(_LOST_AFTER)
        if not self._thread.is_alive():  # A driver that hangs would hang here too.
            self._capture.release()

    def _take(self) -> tuple[float, np.ndarray] | None:
        """The newest frame that has not been taken and its time in seconds; None at the end of a film."""
        with self._change:
            deadline = time.monotonic() + _SILENT_AFTER
            while self._newest is None and not self._over and not self._closing:
                if time.monotonic() > deadline:
                    raise self._gone(f"no picture for {_SILENT_AFTER:.0f} seconds")
                self._change.wait(0.5)
            entry, self._newest = self._newest, None
            if entry is None and self._over and not self._is_film:
                raise self._gone("gives no more pictures")
            return entry

    def _gone(self, what: str) -> PosecovError:
        name = f"camera {self.source}" if self.source.isdigit() else self.source
        return PosecovError(f"{name}: {what}; see that it is still connected and start again")

    def _grab(self) -> None:
        start, failing_since = time.monotonic(), None
        while not self._closing:
            taken, image = self._read()
            now = time.monotonic()
            if image is None:
                failing_since = failing_since or now
                if self._is_film or now - failing_since > _LOST_AFTER:
                    break
                time.sleep(0.05)
                continue
            failing_since = None
            if self._is_film and start + taken > now:
                time.sleep(start + taken - now)
            with self._change:
                self.dropped += self._newest is not None
                self._newest = (taken if self._is_film else now - start, image)
                self._change.notify_all()
        with self._change:
            self._over = True
            self._change.notify_all()

    def _read(self) -> tuple[float, np.ndarray | None]:
        """Place in a film in seconds, and the next picture (H, W, 3) uint8 BGR, or None."""
        try:
            fine, image = self._capture.read()
        except cv2.error:
            return 0.0, None
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self._is_film else 0.0
        return position, image if fine and image is not None and image.size else None


def quiet_opencv() -> None:
    """Keep OpenCV and its FFmpeg from writing to the terminal: what matters is said in one line."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    logging: Any = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging is not None:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
