"""``posecov rank PATH... --out DIR``: pictures in the order in which labelling them is worth most (`posecov.ranking`).

Written are ``rank.csv``, a row a picture, and ``rank.png``, the first of them with their overlays. Pictures in which nobody was
found stand at the end of the table with a note. A picture that cannot be read is one line on stderr, the others are still done,
and the exit code is 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from posecov.commands.detecting import Detecting
from posecov.commands.terminal import complain, say
from posecov.errors import PosecovError

if TYPE_CHECKING:
    from posecov.ranking import Ranked


@dataclass(frozen=True)
class Rank:
    """Order pictures by how uncertain their poses are, for labelling: a table (CSV) and a contact sheet (PNG)."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")]
    """Pictures, and folders of pictures."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for rank.csv and rank.png, made when missing."""

    boxes: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """People's boxes, as for 'posecov image'. Without it and --detector one person is searched for."""

    detecting: tyro.conf.OmitArgPrefixes[Detecting] = field(default_factory=Detecting)

    people: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """How many people to search for, at most, where neither boxes nor a detector say where they are."""

    sheet: Annotated[int, tyro.conf.arg(metavar="N")] = 12
    """Pictures on the contact sheet; 0 for none."""

    mass: float = 0.95
    """Probability with which an ellipse on the sheet holds its joint."""

    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """A model that posecov exported (.onnx), instead of the one that ships with posecov."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads of the network; all cores without it."""

    def run(self) -> int:
        """Exit code 0 when every picture was judged, 1 when some were not. Raises PosecovError when nothing could start."""
        from posecov.commands.pictures import gather, progress, who
        from posecov.estimator import PoseEstimator
        from posecov.images import read_image
        from posecov.output import prepare_folder, write_csv
        from posecov.ranking import COLUMNS, csv_row, judge, ordered

        if not 0 < self.mass < 1:
            raise PosecovError(f"--mass must lie between 0 and 1, not {self.mass:g}")
        if self.sheet < 0:
            raise PosecovError(f"--sheet must not be negative, as {self.sheet} is")
        pictures, failed = gather(self.paths)
        found = who(self.detecting, self.boxes, pictures, self.threads, self.people)
        estimator = PoseEstimator(self.model, threads=self.threads)
        folder = prepare_folder(self.out)
        rows: list[Ranked] = []
        for picture in progress(pictures):
            try:
                image = read_image(picture)
                people = found.poses(estimator, picture, image)
                rows.append(judge(picture, people, image.shape[1], image.shape[0]))
            except PosecovError as error:
                complain(error)
                failed = True
        rows = ordered(rows)
        write_csv(folder / "rank.csv", [csv_row(row, number + 1) for number, row in enumerate(rows)], COLUMNS)
        judged = [row for row in rows if row.pose is not None]
        without = f", {len(rows) - len(judged)} without anybody at the end" if len(judged) < len(rows) else ""
        say(f"{folder / 'rank.csv'}: {len(rows)} pictures{without}")
        if judged and self.sheet:
            failed |= not _write_sheet(folder / "rank.png", judged[: self.sheet], self.mass, len(rows))
        return 1 if failed else 0


def _write_sheet(path: Path, rows: "Sequence[Ranked]", mass: float, count: int) -> bool:
    """Write the contact sheet; whether every picture of it could be read again."""
    from posecov.drawing.canvas import pixels_text
    from posecov.drawing.sheet import cell, sheet
    from posecov.images import read_image
    from posecov.output import write_png

    cells, complete = [], True
    for number, row in enumerate(rows):
        pose = row.pose
        assert pose is not None
        captions = [
            f"{number + 1}. {row.picture.name}: {100 * row.uncertainty:.1f} % of the torso",
            ", ".join(f"{pose.names[joint]} {pixels_text(pose.expected_error[joint])}" for joint in row.joints[:3]),
            f"click {row.click}: the others {pixels_text(row.gain)} better in all",
        ]
        try:
            cells.append(cell(read_image(row.picture), pose, captions, mass, row.click))
        except PosecovError as error:  # Gone since it was judged.
            complain(error)
            complete = False
    if cells:
        title = (
            f"the {len(cells)} most uncertain of {count}: mean expected error of the joints seen; {100 * mass:.4g} % ellipses"
        )
        write_png(path, sheet(cells, title))
        say(f"{path}: the first {len(cells)}")
    return complete
