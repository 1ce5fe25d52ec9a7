"""A camera from the first picture until somebody has had enough."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.video.camera import TIME_BASE, Camera
from posecov.video.frames import Frame
from posecov.video.pipeline import Pipeline
from posecov.video.recording import Recording
from posecov.video.results import make_header
from posecov.video.run import Settings, stages_of
from posecov.video.showing import Nowhere, Show


@dataclass(frozen=True)
class LiveOutcome:
    """What became of a live run.

    Attributes:
        files: that were made.
        frames: that were done.
        dropped: that came too fast.
        speed: frames done per second.
        trouble: a line about how the camera was lost or the disk became full, or None.
    """

    files: list[Path]
    frames: int
    dropped: int
    speed: float
    trouble: str | None


def run_live(
    estimator: PoseEstimator,
    camera: Camera,
    show: Show,
    settings: Settings,
    folder: Path | None = None,
    seconds: float | None = None,
) -> LiveOutcome:
    """Show and record a camera until the film ends, the user has had enough (also by Ctrl-C), or the camera is lost.

    Args:
        estimator: the pose network.
        camera: open; it is closed here.
        show: where to.
        settings: how; a live run is never resumed, and smoothed live at best.
        folder: for recordings, which exists; None for none.
        seconds: after which to end.

    Raises:
        PosecovError: nothing could start: the camera never gave a picture, or no file could be opened.
    """
    if settings.smooth == "offline":
        settings = replace(settings, smooth="live")
    recording: Recording | None = None
    trouble: str | None = None
    frames, start = 0, time.monotonic()
    source = camera.frames()
    try:
        first = next(source, None)
        if first is None:
            raise PosecovError(f"{camera.source}: not one picture came; see that it works in another program")
        if folder is not None:
            height, width = first.image.shape[:2]
            header = make_header(camera.name, width, height, estimator.metadata, estimator.model.path, settings.smooth)
            stem = f"{camera.name}-{time.strftime('%Y%m%d-%H%M%S')}"
            recording = Recording(folder, stem, settings.save, header, TIME_BASE, camera.rate, threads=settings.threads)
        draw = True if not isinstance(show, Nowhere) else None
        stages = stages_of(settings.watcher(estimator), recording, settings.mass, draw)
        # The network itself takes frames from the camera, and one place is left between stages: whatever waits gets old.
        seen_frames = map(stages.pop("infer"), _until(first, source, seconds))
        with Pipeline(seen_frames, stages, depth=1) as pipeline:
            try:
                for seen in pipeline.results:
                    frames += 1
                    if seen.canvas is not None and not show(seen.canvas):
                        pipeline.stop()
                        break
                for _ in pipeline.results:  # What is under way is recorded.
                    frames += 1
            except KeyboardInterrupt:
                pipeline.stop()
                for _ in pipeline.results:
                    frames += 1
    except KeyboardInterrupt:
        pass
    except PosecovError as error:
        if not frames:
            if recording is not None:
                recording.abandon()
            raise
        trouble = str(error)
    except cv2.error as error:
        trouble = f"{camera.source}: OpenCV failed ({str(error).splitlines()[0]})"
    finally:
        camera.close()
    speed = frames / max(time.monotonic() - start, 1e-9)
    files: list[Path] = []
    if recording is not None:
        try:
            files = recording.finish(settings.radius)
        except PosecovError as error:
            recording.abandon()
            trouble = f"{trouble or error}; {frames} frames are in {' and '.join(map(str, recording.parts))}"
    return LiveOutcome(files, frames, camera.dropped, speed, trouble)


def _until(first: Frame, rest: Iterator[Frame], seconds: float | None) -> Iterator[Frame]:
    yield first
    del first
    for frame in rest:
        if seconds is not None and frame.time > seconds:
            return
        yield frame
