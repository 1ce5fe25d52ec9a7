"""``posecov webcam [SOURCE]``: poses of a camera, live, in a window or on a page of this computer; recorded with ``--out``.

SOURCE is the number of a camera, a URL, or a film, which is played at its own speed. The newest frame is always the next to be
done and those that came meanwhile are dropped, so that the picture does not lag behind. q, Ctrl-C, or the end of the film ends,
with exit code 0; a camera that is lost ends with what was recorded kept, one line and exit code 1.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from posecov.commands.detecting import Detecting
from posecov.commands.terminal import complain, say
from posecov.commands.video import Kind, check_numbers, termination_as_interruption
from posecov.errors import PosecovError

if TYPE_CHECKING:
    from posecov.video.showing import Show


@dataclass(frozen=True)
class Webcam:
    """Show poses of a camera, live; with --out record them."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = "0"
    """Number of a camera, URL of a stream, or a film."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to record into, made when missing. Each run gets files of its own."""

    show: Literal["auto", "window", "browser", "nothing"] = "auto"
    """Where to: auto is a window where OpenCV has windows, else nothing when recording, else a page of this computer."""

    port: Annotated[int, tyro.conf.arg(metavar="N")] = 8321
    """Of the page; 0 takes any."""

    seconds: Annotated[float | None, tyro.conf.arg(metavar="S")] = None
    """End after so long."""

    save: tuple[Kind, ...] = ("film", "jsonl")
    """What to record: as for posecov video."""

    mass: float = 0.95
    """Probability with which an ellipse holds its joint."""

    radius: Annotated[float | None, tyro.conf.arg(metavar="PX")] = None
    """Of the likelihoods in csv and coco, in pixels; 2 % of the frame's shorter side without it."""

    look_every: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 0.5
    """While nobody is seen, look over the whole frame so often; 0 is every frame."""

    look_again: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 5.0
    """While somebody is seen, look for further people so often; the picture stands still meanwhile."""

    smooth: Literal["none", "live"] = "live"
    """Poses as estimated, or given the frames before (Kalman filter)."""

    detecting: tyro.conf.OmitArgPrefixes[Detecting] = field(default_factory=Detecting)

    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """A model that posecov exported (.onnx), instead of the one that ships with posecov."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads of the network and of the encoder; all cores without it."""

    def run(self) -> int:
        """Exit code 0 or, when the camera was lost, 1. Raises PosecovError when nothing could start."""
        from posecov.estimator import PoseEstimator
        from posecov.output import prepare_folder
        from posecov.video.camera import Camera
        from posecov.video.live import run_live
        from posecov.video.run import Settings
        from posecov.video.showing import Browser

        check_numbers(self.mass, self.look_every, self.radius, self.look_again)
        if self.seconds is not None and not self.seconds > 0:
            raise PosecovError(f"--seconds must be above 0, not {self.seconds:g}")
        if not self.save:
            raise PosecovError("--save needs at least one of film, jsonl, csv, coco, npz")
        estimator = PoseEstimator(self.model, threads=self.threads)
        folder = None if self.out is None else prepare_folder(self.out)
        settings = Settings(
            self.save,
            self.mass,
            self.radius,
            self.look_every,
            threads=self.threads,
            smooth=self.smooth,
            look_again=self.look_again,
            detector=self.detecting.open(self.threads),
        )
        with termination_as_interruption(), self._show() as show:
            camera = Camera(self.source)
            if isinstance(show, Browser):
                say(f"live on {show.url} (Ctrl-C ends)")
            outcome = run_live(estimator, camera, show, settings, folder, self.seconds)
        if outcome.trouble is not None:
            complain(outcome.trouble)
        made = f"{' '.join(map(str, outcome.files))}: " if outcome.files else ""
        say(f"{made}{outcome.frames} frames, {outcome.speed:.1f} frames/s, {outcome.dropped} dropped")
        return 0 if outcome.trouble is None else 1

    def _show(self) -> "Show":
        from posecov.video.showing import Browser, Nowhere, Window, has_windows

        where = self.show
        if where == "auto":
            where = "window" if has_windows() else "nothing" if self.out is not None else "browser"
        if where == "window":
            if not has_windows():
                raise PosecovError("OpenCV has no windows here (its headless build, or no screen); add --show browser")
            return Window(self.source)
        if where == "nothing":
            return Nowhere()
        return Browser(self.port)
