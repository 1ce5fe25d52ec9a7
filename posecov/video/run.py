"""One film from the first frame to the last."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from posecov.drawing import draw_poses
from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.video.frames import Frame, Seen
from posecov.video.people import LOOK_EVERY, Follow, LastSeen, Watcher
from posecov.video.pipeline import Pipeline
from posecov.video.progress import Progress
from posecov.video.reading import Film
from posecov.video.recording import Recording
from posecov.video.results import make_header

NewFollow = Callable[[], Follow]
"""Makes whoever follows people through one film. This is the one place for a tracker: ``follow`` of `Settings`."""


@dataclass(frozen=True)
class Settings:
    """How films are done.

    Attributes:
        save: ``film``, ``jsonl``, and names of `tables.TABLES`.
        mass: probability with which a drawn ellipse holds its joint.
        radius: of the tables' probabilities in pixels (`tables.radius_of`).
        look_every: seconds between looks over the whole frame while nobody is known.
        resume: go on with what an earlier run left.
        threads: of the decoder and the encoder.
        follow: who is who from frame to frame.
    """

    save: tuple[str, ...] = ("film", "jsonl")
    mass: float = 0.95
    radius: float | None = None
    look_every: float = LOOK_EVERY
    resume: bool = False
    threads: int | None = None
    follow: NewFollow = LastSeen


@dataclass(frozen=True)
class Outcome:
    """What became of a film.

    Attributes:
        files: that were made.
        frames: in them.
        occupied: of these, frames with somebody in them.
        speed: frames per second, without those of an earlier run.
        seconds: that each stage has worked, by name.
        trouble: a line about what is wrong with the film, or None.
    """

    files: list[Path]
    frames: int
    occupied: int
    speed: float
    seconds: dict[str, float]
    trouble: str | None


class Stopped(KeyboardInterrupt):
    """The run was interrupted; the message says what was kept."""


def run_film(estimator: PoseEstimator, source: str, folder: Path, stem: str, settings: Settings) -> Outcome:
    """Do one film.

    Args:
        estimator: the pose network.
        source: path or URL of the film.
        folder: for the results; it exists.
        stem: name of the results without ending.
        settings: how.

    Raises:
        PosecovError: the film cannot be read, or the results cannot be written; what was done by then is kept.
        Stopped: interrupted, with what was read by then done and kept.
    """
    film = Film(source, settings.threads)
    try:
        header = make_header(Path(source).name, film.width, film.height, estimator.metadata, estimator.model.path)
        recording = Recording(
            folder,
            stem,
            settings.save,
            header,
            film.time_base,
            film.rate,
            resume=settings.resume,
            threads=settings.threads,
        )
    except BaseException:
        film.close()
        raise
    watcher = Watcher(estimator, settings.follow(), settings.look_every)
    stages = stages_of(watcher, recording, settings.mass)
    frames = occupied = 0
    try:
        with (
            Pipeline(film.frames(), stages) as pipeline,
            Progress(Path(source).name, film.expected, recording.stored) as progress,
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
        files = recording.finish(settings.radius)
    except PosecovError as error:
        recording.abandon()
        raise PosecovError(f"{error} [{_kept(source, recording, frames)}]" if frames else str(error)) from None
    except BaseException:
        recording.abandon()
        raise
    return Outcome(files, frames, occupied, progress.speed, pipeline.seconds, film.trouble())


def stages_of(watcher: Watcher, recording: Recording | None, mass: float, draw: bool | None = None) -> dict[str, Callable]:
    """The stages of a pipeline from `Frame` to `Seen`: infer, draw, write.

    Args:
        watcher: finds the people.
        recording: where to write; None for nowhere.
        mass: of the ellipses.
        draw: whether to draw; where None, as the recording needs it.
    """
    wanted = draw if draw is not None else recording is not None and recording.draws

    def infer(frame: Frame) -> Seen:
        done = None if recording is None else recording.earlier(frame)
        if done is None:
            return Seen(frame, watcher(frame.image, frame.time))
        watcher.replay([person.pose for person in done.people], frame.time)
        return Seen(frame, done.people)

    def drawn(seen: Seen) -> Seen:
        return replace(seen, canvas=draw_poses(seen.frame.image, [person.pose for person in seen.people], mass))

    stages: dict[str, Callable] = {"infer": infer}
    if wanted:
        stages["draw"] = drawn
    if recording is not None:
        stages["write"] = recording.write
    return stages


def _kept(source: str, recording: Recording, frames: int) -> str:
    what = " and ".join(map(str, recording.parts))
    return f"{source}: stopped after {max(frames, recording.stored)} frames, which are in {what}; --resume goes on from there"
