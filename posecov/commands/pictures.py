"""What commands over many pictures share: which pictures, who is in them, how far along they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from posecov.commands.terminal import complain
from posecov.errors import PosecovError

if TYPE_CHECKING:
    import numpy as np

    from posecov.commands.detecting import Detecting
    from posecov.detectors import PersonDetector
    from posecov.estimator import PoseEstimator
    from posecov.pose import Pose

_MANY = 3  # Pictures from which a progress bar is worth its line.
_Job = TypeVar("_Job")


def gather(paths: Sequence[Path]) -> tuple[list[Path], bool]:
    """The pictures that paths stand for, each once, and whether some path had none, which is then said.

    Raises:
        PosecovError: no paths.
    """
    from posecov.images import list_images

    if not paths:
        raise PosecovError("no pictures given; name files or folders")
    pictures: dict[Path, Path] = {}
    failed = False
    for path in paths:
        try:
            # A picture named twice, itself and by its folder, is done once.
            pictures |= {picture.resolve(): picture for picture in list_images([path])}
        except PosecovError as error:
            complain(error)
            failed = True
    return list(pictures.values()), failed


def progress(jobs: Sequence[_Job]) -> Iterable[_Job]:
    """The jobs, with a bar on stderr where there are many of them and somebody watches."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = len(jobs) < _MANY or not console.is_terminal
    return track(jobs, "posecov", console=console, disable=quiet, transient=True)


@dataclass(frozen=True)
class People:
    """Who is in the pictures: what a file of boxes says, what a detector finds, or else those who are searched for."""

    boxes: "dict[str, np.ndarray] | None" = None
    detector: "PersonDetector | None" = None
    most: int = 6

    @property
    def searched_for(self) -> bool:
        """Whether nothing but the pose network says where they are."""
        return self.boxes is None and self.detector is None

    def poses(self, estimator: "PoseEstimator", picture: Path, image: "np.ndarray") -> "list[Pose]":
        """The poses in a picture.

        Raises:
            PosecovError: the file of boxes does not name the picture, or the detector cannot be run on it.
        """
        from posecov.boxes import boxes_of

        if self.detector is not None:
            return estimator(image, self.detector(image)[0])
        people = None if self.boxes is None else boxes_of(self.boxes, picture)
        if self.boxes is not None and people is None:
            raise PosecovError(f"{picture}: the file of boxes does not name it; add it, with [] when nobody is there")
        return estimator(image, people, most=self.most)


def who(detecting: "Detecting", boxes: Path | None, pictures: Sequence[Path], threads: int | None, most: int) -> People:
    """Who is in pictures, from the options of a command.

    Raises:
        PosecovError: the options do not go together, or a file of theirs cannot be used.
    """
    from posecov.boxes import check_ids

    if most < 1:
        raise PosecovError(f"--people must be at least 1, not {most}")
    if boxes is None:
        return People(detector=detecting.open(threads), most=most)
    found = detecting.boxes(boxes)
    check_ids(boxes, found, pictures)
    return People(found)


def click_inside(pose: "Pose", width: int, height: int) -> str | None:
    """The joint inside the picture whose true place helps most, None when all of them are known or outside."""
    from posecov.clicks import best_click
    from posecov.output import outside

    flags = outside(pose.keypoints, width, height)
    seen = [name for name, out in zip(pose.names, flags, strict=True) if not out and name not in pose.known]
    return best_click(pose, seen) if seen else None
