"""``posecov image PATH... --out DIR``: for every picture an overlay (PNG) and its poses (JSON).

A folder stands for the pictures in it. People are where ``--boxes`` says (`posecov.boxes`: JSON, COCO or CSV; a picture
that the file does not name is an error, [] says that nobody is there), or else one person is searched for. A picture that
cannot be read is one line on stderr, the others are still done, and the exit code is 1. With ``--csv`` one table,
``poses.csv``, holds the joints of all pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from posecov.commands.terminal import complain, say
from posecov.errors import PosecovError

if TYPE_CHECKING:
    import numpy as np

    from posecov.estimator import PoseEstimator

_MANY = 3  # Pictures from which a progress bar is worth its line.


@dataclass(frozen=True)
class Image:
    """Estimate poses in pictures: an overlay (PNG) and the poses (JSON) of each."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")]
    """Pictures, and folders of pictures."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the results, made when missing."""

    boxes: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """People's boxes: JSON {"a.jpg": [[x, y, width, height], ...]}, COCO, or CSV with the header image,x,y,width,height.
    Without it one person is searched for."""

    mass: float = 0.95
    """Probability with which an ellipse holds its joint."""

    csv: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write poses.csv, one row a person and joint."""

    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """A model that posecov exported (.onnx), instead of the one that ships with posecov."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads of the network; all cores without it."""

    def run(self) -> int:
        """Exit code 0 when every picture was done, 1 when some were not. Raises PosecovError when nothing could start."""
        from posecov.boxes import read_boxes
        from posecov.images import list_images

        if not self.paths:
            raise PosecovError("no pictures given; name files or folders")
        boxes = None if self.boxes is None else read_boxes(self.boxes)
        pictures: dict[Path, Path] = {}
        failed = False
        for path in self.paths:
            try:
                # A picture named twice, itself and by its folder, is done once.
                pictures |= {picture.resolve(): picture for picture in list_images([path])}
            except PosecovError as error:
                complain(error)
                failed = True
        code = annotate(list(pictures.values()), self.out, self.mass, boxes, self.csv, self.model, self.threads)
        return 1 if failed else code


def annotate(
    pictures: Sequence[Path],
    out: Path,
    mass: float,
    boxes: "dict[str, np.ndarray] | None" = None,
    csv: bool = False,
    model: Path | None = None,
    threads: int | None = None,
) -> int:
    """Write the overlays and poses of pictures, saying what was written; the exit code.

    Raises:
        PosecovError: nothing could start: a wrong mass, no model, a folder that cannot be written.
    """
    from rich.console import Console
    from rich.progress import track

    from posecov.estimator import PoseEstimator
    from posecov.output import output_stems, prepare_folder, write_csv

    if not 0 < mass < 1:
        raise PosecovError(f"--mass must lie between 0 and 1, not {mass:g}")
    estimator = PoseEstimator(model, threads=threads)
    folder = prepare_folder(out)
    rows: list[tuple[Any, ...]] = []
    failed = False
    jobs = list(zip(pictures, output_stems(pictures, folder), strict=True))
    console = Console(stderr=True)
    quiet = len(jobs) < _MANY or not console.is_terminal
    for picture, stem in track(jobs, "posecov", console=console, disable=quiet, transient=True):
        try:
            rows += _one_picture(estimator, picture, folder / stem, mass, boxes)
        except PosecovError as error:
            complain(error)
            failed = True
    if csv:
        write_csv(folder / "poses.csv", rows)
        say(f"{folder / 'poses.csv'}: {len(rows)} joints")
    return 1 if failed else 0


def _one_picture(
    estimator: "PoseEstimator", picture: Path, target: Path, mass: float, boxes: "dict[str, np.ndarray] | None"
) -> list[tuple[Any, ...]]:
    """Write target.png and target.json; the rows of the table."""
    from posecov import output
    from posecov.boxes import boxes_of
    from posecov.drawing import draw_poses
    from posecov.images import read_image

    image = read_image(picture)
    height, width = image.shape[:2]
    people = None if boxes is None else boxes_of(boxes, picture)
    if boxes is not None and people is None:
        raise PosecovError(f"{picture}: the file of boxes does not name it; add it, with [] when nobody is there")
    poses = estimator(image, people)
    overlay, document = Path(f"{target}.png"), Path(f"{target}.json")
    output.write_png(overlay, draw_poses(image, poses, mass))
    output.write_json(document, output.picture_document(picture.name, width, height, estimator.metadata.name, mass, poses))
    who = "nobody found" if not poses else "1 person" if len(poses) == 1 else f"{len(poses)} people"
    say(f"{overlay} {document}: {who}")
    return output.csv_rows(str(picture), width, height, mass, poses)
