"""One film from the first frame to the last."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from posecov.drawing import draw_poses
from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.video.frames import Frame, Seen
from posecov.video.people import LOOK_AGAIN, LOOK_EVERY, Detector, Follow, Tracks, Watcher
from posecov.video.pipeline import Pipeline
from posecov.video.progress import Progress
from posecov.video.reading import Film, is_url
from posecov.video.recording import Recording, part_of, smoothed_already
from posecov.video.results import make_header
from posecov.video.smoothing import smooth_results

NewFollow = Callable[[], Follow]
"""Makes whoever follows people through one film."""

Smoothing = Literal["none", "live", "offline"]


@dataclass(frozen=True)
class Settings:
    """How films are done.

    Attributes:
        save: ``film``, ``jsonl``, and names of `recording.MADE`.
        mass: probability with which a drawn ellipse holds its joint.
        radius: of the tables' probabilities in pixels (`tables.radius_of`).
        look_every: seconds between looks over the whole frame while nobody is seen.
        resume: go on with what an earlier run left.
        threads: of the decoder and the encoder.
        follow: who is who from frame to frame; `Tracks` when None.
        smooth: ``none`` for the poses as estimated; ``live`` for the filter's, given the frames up to each one; ``offline`` for
            those given the whole film, which then is read twice.
        look_again: seconds between looks for further people while somebody is seen.
        detector: tells where people are; the pose network searches for them when None.
    """

    save: tuple[str, ...] = ("film", "jsonl")
    mass: float = 0.95
    radius: float | None = None
    look_every: float = LOOK_EVERY
    resume: bool = False
    threads: int | None = None
    follow: NewFollow | None = None
    smooth: Smoothing = "offline"
    look_again: float = LOOK_AGAIN
    detector: Detector | None = None

    def watcher(self, estimator: PoseEstimator) -> Watcher:
        """Whoever finds and follows people through one film."""
        follow = Tracks(estimator.metadata.skeleton, self.smooth == "live") if self.follow is None else self.follow()
        return Watcher(estimator, follow, self.look_every, self.look_again, self.detector)


@dataclass(frozen=True)
class Outcome:
    """What became of a film.

    Attributes:
        files: that were made.
        frames: in them.
        occupied: of these, frames with somebody in them.
        speed: frames per second, without those of an earlier run; smoothed offline of the whole way.
        seconds: that each stage has worked, by name.
        processor_seconds: of these those that its thread has computed (`Pipeline`).
        trouble: a line about what is wrong with the film, or None.
    """

    files: list[Path]
    frames: int
    occupied: int
    speed: float
    seconds: dict[str, float]
    processor_seconds: dict[str, float]
    trouble: str | None


class Stopped(KeyboardInterrupt):
    """The run was interrupted; the message says what was kept."""


def run_film(estimator: PoseEstimator, source: str, folder: Path, stem: str, settings: Settings) -> Outcome:
    """Do one film.

    Args:
        estimator: the pose network.
        source: path or URL of the film. What can be read but once, a URL or a pipe, is smoothed live at best.
        folder: for the results; it exists.
        stem: name of the results without ending.
        settings: how.

    Raises:
        PosecovError: the film cannot be read, or the results cannot be written; what was done by then is kept.
        Stopped: interrupted, with what was read by then done and kept.
    """
    if settings.smooth == "offline" and (is_url(source) or not Path(source).is_file()):
        settings = replace(settings, smooth="live")
    if settings.smooth != "offline":
        return _pass(estimator, source, folder, stem, settings)
    film = Film(source, settings.threads)
    film.close()
    header = make_header(Path(source).name, film.width, film.height, estimator.metadata, estimator.model.path, "offline")
    drawing = replace(settings, resume=True)
    if settings.resume and smoothed_already(folder, stem, header):
        return _pass(estimator, source, folder, stem, drawing)
    measuring, start = replace(settings, save=("jsonl",), smooth="none"), time.monotonic()
    measured = _pass(estimator, source, folder, stem, measuring, finish=False)
    _smooth(source, part_of(folder / stem, "jsonl"), measured.frames)
    if "film" not in settings.save:  # It need not be read again.
        recording = Recording(folder, stem, settings.save, header, film.time_base, film.rate, resume=True)
        files = recording.finish(settings.radius)
        return replace(measured, files=files, speed=measured.frames / (time.monotonic() - start))
    drawn = _pass(estimator, source, folder, stem, drawing)
    speed = drawn.frames / (time.monotonic() - start)
    seconds, processor = (
        {name: first.get(name, 0.0) + then[name] for name in then}
        for first, then in ((measured.seconds, drawn.seconds), (measured.processor_seconds, drawn.processor_seconds))
    )
    trouble = measured.trouble or drawn.trouble
    return replace(drawn, speed=speed, seconds=seconds, processor_seconds=processor, trouble=trouble)


def _smooth(source: str, results: Path, frames: int) -> None:
    try:
        with Progress(f"{Path(source).name}, smoothing", frames) as progress:
            smooth_results(results, advance=progress.advance)
    except KeyboardInterrupt:
        raise Stopped(f"{source}: stopped; its poses, not smoothed yet, are in {results}; --resume smooths them") from None


def _pass(estimator: PoseEstimator, source: str, folder: Path, stem: str, settings: Settings, finish: bool = True) -> Outcome:
    """Read a film from the first frame to the last. Smoothed offline its poses are known by then, and it is drawn."""
    film = Film(source, settings.threads)
    try:
        facts = (film.width, film.height, estimator.metadata, estimator.model.path)
        recording = Recording(
            folder,
            stem,
            settings.save,
            make_header(Path(source).name, *facts, settings.smooth),
            film.time_base,
            film.rate,
            resume=settings.resume,
            threads=settings.threads,
        )
    except BaseException:
        film.close()
        raise
    drawing = settings.smooth == "offline"
    stages = stages_of(None if drawing else settings.watcher(estimator), recording, settings.mass)
    name, skipped = (f"{Path(source).name}, drawing", 0) if drawing else (Path(source).name, recording.stored)
    files: list[Path] = []
    frames = occupied = 0
    try:
        with (
            Pipeline(film.frames(), stages) as pipeline,
            Progress(name, film.expected, skipped) as progress,
        ):
            interrupted = False
            while True:
                try:
                    for seen in pipeline.results:
                        frames += 1
                        occupied += bool(seen.people)
                        progress.advance()
                    break
                except KeyboardInterrupt:
                    if interrupted:  # Twice: at once.
                        raise
                    interrupted = True
                    pipeline.stop()
        if interrupted:
            recording.stop()
            raise Stopped(_kept(source, recording, frames))
        if finish:
            files = recording.finish(settings.radius)
        else:
            recording.stop()
    except PosecovError as error:
        recording.abandon()
        raise PosecovError(f"{error} [{_kept(source, recording, frames)}]" if frames else str(error)) from None
    except BaseException:
        recording.abandon()
        raise
    times = (pipeline.seconds, pipeline.processor_seconds)
    return Outcome(files, frames, occupied, progress.speed, *times, film.trouble())


def stages_of(
    watcher: Watcher | None, recording: Recording | None, mass: float, draw: bool | None = None
) -> dict[str, Callable]:
    """The stages of a pipeline from `Frame` to `Seen`: infer, draw, write.

    Args:
        watcher: finds the people; None where the recording has those of all frames.
        recording: where to write; None for nowhere.
        mass: of the ellipses.
        draw: whether to draw; where None, as the recording needs it.
    """
    wanted = draw if draw is not None else recording is not None and recording.draws

    def infer(frame: Frame) -> Seen:
        done = None if recording is None else recording.earlier(frame)
        if watcher is None:
            if done is None:
                raise PosecovError("the film has grown since its poses were estimated; leave --resume out to begin anew")
            return Seen(frame, done.people)
        if done is None:
            return Seen(frame, watcher(frame.image, frame.time))
        watcher.replay([person.measured for person in done.people if person.measured is not None], frame.time)
        return Seen(frame, done.people)

    def drawn(seen: Seen) -> Seen:
        poses, ids = [person.pose for person in seen.people], [person.id for person in seen.people]
        # One person alone who never was lost needs no number.
        numbers = ids if ids not in ([], [1]) else None
        return replace(seen, canvas=draw_poses(seen.frame.image, poses, mass, numbers=numbers, spare=False))

    stages: dict[str, Callable] = {"infer": infer}
    if wanted:
        stages["draw"] = drawn
    if recording is not None:
        stages["write"] = recording.write
    return stages


def _kept(source: str, recording: Recording, frames: int) -> str:
    what = " and ".join(map(str, recording.parts))
    return f"{source}: stopped after {max(frames, recording.stored)} frames, which are in {what}; --resume goes on from there"
