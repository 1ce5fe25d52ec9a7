"""``posecov video FILE... --out DIR``: for every film an annotated film (MP4) and its poses (JSON Lines).

A folder stands for the films in it, and a URL for what lies there. People are searched for over the whole frame, followed, and
smoothed once the whole film is known. While a film is being done its files are called ``NAME.part.mp4`` and ``NAME.part.jsonl``
and can be read; a run that was stopped leaves them, and ``--resume`` goes on from there (`posecov.video.recording`). A damaged
film is one line on stderr, what could be read of it is done, as are the other films, and the exit code is 1.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import tyro

from posecov.commands.detecting import Detecting
from posecov.commands.terminal import complain, say
from posecov.errors import PosecovError

Kind = Literal["film", "jsonl", "csv", "coco", "npz"]


@dataclass(frozen=True)
class Video:
    """Estimate poses in films: an annotated film (MP4) and the poses (JSON Lines) of each."""

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILM...")]
    """Films, folders of films, and URLs."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the results, made when missing."""

    save: tuple[Kind, ...] = ("film", "jsonl")
    """What to write: the annotated film, JSON Lines, a table with DeepLabCut's header, COCO keypoint results, NumPy arrays."""

    mass: float = 0.95
    """Probability with which an ellipse holds its joint."""

    radius: Annotated[float | None, tyro.conf.arg(metavar="PX")] = None
    """Likelihoods in csv and coco are probabilities that a joint lies within so many pixels of where it is said to be; without
    it 2 % of the frame's shorter side."""

    look_every: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 0.5
    """While nobody is seen, look over the whole frame so often; 0 is every frame."""

    look_again: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 2.0
    """While somebody is seen, look for further people so often; each look takes as long as some 50 frames."""

    smooth: Literal["none", "live", "offline"] = "offline"
    """Poses as estimated, given the frames before (Kalman filter), or given the whole film (it is read twice; what comes from a
    URL or a pipe is read once, and smoothed live instead)."""

    plots: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also plot (PNG) how far off each joint is expected to be over time, and which joints are wrong together."""

    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on where an earlier run was stopped; films that it finished are left alone."""

    detecting: tyro.conf.OmitArgPrefixes[Detecting] = field(default_factory=Detecting)

    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """A model that posecov exported (.onnx), instead of the one that ships with posecov."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads of the network, of the decoder and of the encoder; all cores without it."""

    def run(self) -> int:
        """Exit code 0 when every film was done, 1 when some were not. Raises PosecovError when nothing could start."""
        from posecov.estimator import PoseEstimator
        from posecov.output import output_stems, prepare_folder
        from posecov.video.plots import PLOTS, require_matplotlib
        from posecov.video.reading import list_films
        from posecov.video.recording import finished_files
        from posecov.video.run import Settings, Stopped, run_film

        check_numbers(self.mass, self.look_every, self.radius, self.look_again)
        if not self.save:
            raise PosecovError("--save needs at least one of film, jsonl, csv, coco, npz")
        if not self.paths:
            raise PosecovError("no films given; name files, folders or URLs")
        save = (*self.save, *(PLOTS if self.plots else ()))
        if self.plots:
            require_matplotlib()
        films: dict[str, str] = {}
        failed = False
        for path in self.paths:
            try:
                # A film named twice, itself and by its folder, is done once.
                films |= {_place(film): film for film in list_films(path)}
            except PosecovError as error:
                complain(error)
                failed = True
        estimator = PoseEstimator(self.model, threads=self.threads)
        folder = prepare_folder(self.out)
        settings = Settings(
            save,
            self.mass,
            self.radius,
            self.look_every,
            self.resume,
            self.threads,
            smooth=self.smooth,
            look_again=self.look_again,
            detector=self.detecting.open(self.threads),
        )
        stems = output_stems([_named(film) for film in films.values()], folder, ".mp4")
        for film, stem in zip(films.values(), stems, strict=True):
            if self.resume and (files := finished_files(folder, stem, save)):
                say(f"{' '.join(map(str, files))}: done already")
                continue
            try:
                with termination_as_interruption():
                    outcome = run_film(estimator, film, folder, stem, settings)
            except PosecovError as error:
                complain(error)
                failed = True
                continue
            except Stopped as stopped:
                complain(stopped)
                raise
            if outcome.trouble is not None:
                complain(outcome.trouble)
                failed = True
            frames = "1 frame" if outcome.frames == 1 else f"{outcome.frames} frames"
            people = f"somebody in {outcome.occupied}" if outcome.occupied else "nobody found"
            say(f"{' '.join(map(str, outcome.files))}: {frames}, {people}, {outcome.speed:.1f} frames/s")
        return 1 if failed else 0


def check_numbers(mass: float, look_every: float, radius: float | None, look_again: float) -> None:
    """PosecovError when an option is out of range."""
    if not 0 < mass < 1:
        raise PosecovError(f"--mass must lie between 0 and 1, not {mass:g}")
    for name, period in (("--look-every", look_every), ("--look-again", look_again)):
        if not 0 <= period < float("inf"):
            raise PosecovError(f"{name} must be a number of seconds, 0 or more, not {period:g}")
    if radius is not None and not 0 < radius < float("inf"):
        raise PosecovError(f"--radius must be a number of pixels above 0, not {radius:g}")


@contextmanager
def termination_as_interruption() -> Iterator[None]:
    """Let SIGTERM (a service that is stopped, a job that is over) do what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _place(film: str) -> str:
    from posecov.video.reading import is_url

    return film if is_url(film) else str(Path(film).resolve())


def _named(film: str) -> Path:
    """A path to take the results' name from."""
    from posecov.video.reading import is_url

    return Path(Path(unquote(urlsplit(film).path)).name or urlsplit(film).hostname or "stream") if is_url(film) else Path(film)
