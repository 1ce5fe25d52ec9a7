"""``posecov image PATH... --out DIR``: for every picture an overlay (PNG) and its poses (JSON).

A folder stands for the pictures in it. People are where ``--boxes`` says (`posecov.boxes`: JSON, COCO or CSV; a picture
that the file does not name is an error, [] says that nobody is there), or where ``--detector`` finds them, or else they
are searched for. A picture that cannot be read is one line on stderr, the others are still done, and the exit code is 1. With
``--csv`` one table, ``poses.csv``, holds the joints of all pictures. ``--fix`` tells where some joints truly are
(`posecov.fixes`): the others move and shrink, which the overlay shows beside what was there before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from posecov.commands.detecting import Detecting
from posecov.commands.terminal import complain, say
from posecov.errors import PosecovError

if TYPE_CHECKING:
    from posecov.commands.pictures import People
    from posecov.estimator import PoseEstimator
    from posecov.fixes import Fixes, Person
    from posecov.pose import Pose


@dataclass(frozen=True)
class Look:
    """What an overlay shows.

    Attributes:
        mass: of the ellipses, which JSON and CSV hold too.
        inner_mass: of further ellipses inside them, or None.
        labels: write the joints' names and expected errors.
        correlations: a joint's name: show which others move with it instead of the sides; or None.
        click: ring the joint whose true place would help most.
    """

    mass: float = 0.95
    inner_mass: float | None = None
    labels: bool = False
    correlations: str | None = None
    click: bool = False


@dataclass(frozen=True)
class Image:
    """Estimate poses in pictures: an overlay (PNG) and the poses (JSON) of each."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")]
    """Pictures, and folders of pictures."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the results, made when missing."""

    boxes: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """People's boxes: JSON {"a.jpg": [[x, y, width, height], ...]}, COCO, COCO detection results, or CSV with the header
    image,x,y,width,height. Without it and --detector people are searched for."""

    detecting: tyro.conf.OmitArgPrefixes[Detecting] = field(default_factory=Detecting)

    people: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """How many people to search for, at most, where neither boxes nor a detector say where they are."""

    mass: float = 0.95
    """Probability with which an ellipse holds its joint."""

    inner_mass: Annotated[float | None, tyro.conf.arg(metavar="MASS")] = None
    """Also draw the smaller ellipses that hold their joints with this probability."""

    labels: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write every joint's name and its expected error in pixels beside it."""

    correlations: Annotated[str | None, tyro.conf.arg(metavar="JOINT")] = None
    """Show which joints move with this one, by colour and arrow, instead of left and right."""

    fix: Annotated[str | None, tyro.conf.arg(metavar="JSON|FILE")] = None
    """Joints whose places are known: {"l_wrist": [x, y]} for one picture, or {"a.jpg": {"l_wrist": [x, y]}}, a list of such
    for several people; as text or in a file. The others follow."""

    click: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Find the joint whose true place would help the others most, ring it, and put it into the JSON."""

    csv: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also write poses.csv, one row a person and joint."""

    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """A model that posecov exported (.onnx); or 'small' or 'tiny', which ship with posecov: small unless told."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """CPU threads of the network; all cores without it."""

    def run(self) -> int:
        """Exit code 0 when every picture was done, 1 when some were not. Raises PosecovError when nothing could start."""
        from posecov.commands.pictures import gather, who
        from posecov.fixes import read_fixes

        look = Look(self.mass, self.inner_mass, self.labels, self.correlations, self.click)
        fixes = None if self.fix is None else read_fixes(self.fix)
        pictures, failed = gather(self.paths)
        people = who(self.detecting, self.boxes, pictures, self.threads, self.people)
        code = annotate(pictures, self.out, look, people, fixes, self.csv, self.model, self.threads)
        return 1 if failed else code


def annotate(
    pictures: Sequence[Path],
    out: Path,
    look: Look,
    people: "People | None" = None,
    fixes: "Fixes | None" = None,
    csv: bool = False,
    model: Path | None = None,
    threads: int | None = None,
) -> int:
    """Write the overlays and poses of pictures, saying what was written; the exit code.

    Raises:
        PosecovError: nothing could start: a wrong mass or joint, no model, a folder that cannot be written.
    """
    from posecov.commands.pictures import People, progress
    from posecov.estimator import PoseEstimator
    from posecov.output import output_stems, prepare_folder, write_csv

    for option, mass in (("--mass", look.mass), ("--inner-mass", look.inner_mass)):
        if mass is not None and not 0 < mass < 1:
            raise PosecovError(f"{option} must lie between 0 and 1, not {mass:g}")
    estimator = PoseEstimator(model, threads=threads)
    for joint in [*([look.correlations] if look.correlations else []), *(fixes.joints if fixes else [])]:
        estimator.metadata.skeleton.index(joint)
    if fixes is not None:
        fixes.check(pictures)
    folder = prepare_folder(out)
    people = people or People()
    rows: list[tuple[Any, ...]] = []
    failed, empty = False, 0
    for picture, stem in progress(list(zip(pictures, output_stems(pictures, folder), strict=True))):
        try:
            found = _one_picture(estimator, picture, folder / stem, look, people, fixes.of(picture) if fixes else [])
            rows += found
            empty += not found
        except PosecovError as error:
            complain(error)
            failed = True
    if csv:
        write_csv(folder / "poses.csv", rows)
        say(f"{folder / 'poses.csv'}: {len(rows)} joints")
    if empty and people.searched_for:
        where = "in 1 picture" if empty == 1 else f"in {empty} pictures"
        complain(f"nobody found {where}; where somebody is there, say with --boxes or --detector where")
    return 1 if failed else 0


def _one_picture(
    estimator: "PoseEstimator",
    picture: Path,
    target: Path,
    look: Look,
    people: "People",
    known: "list[Person]",
) -> list[tuple[Any, ...]]:
    """Write target.png and target.json; the rows of the table."""
    from posecov import output
    from posecov.clicks import expected_gain
    from posecov.commands.pictures import click_inside
    from posecov.drawing import draw_correlations, draw_poses
    from posecov.images import read_image

    image = read_image(picture)
    height, width = image.shape[:2]
    found = people.poses(estimator, picture, image)
    poses = _fixed(picture, found, known)
    clicks = {index: click_inside(pose, width, height) for index, pose in enumerate(poses)} if look.click else {}
    chosen = {index: joint for index, joint in clicks.items() if joint is not None}
    if look.correlations:
        canvas = draw_correlations(image, poses, look.correlations, look.mass)
    else:
        masses = [look.mass] if look.inner_mass is None else [look.mass, look.inner_mass]
        former = {index: pose for index, pose in enumerate(found) if poses[index] is not pose}
        canvas = draw_poses(image, poses, masses, labels=look.labels, former=former, clicks=chosen)
    written = output.picture_document(picture.name, width, height, estimator.metadata.name, look.mass, poses)
    for index, joint in chosen.items():
        gain = float(expected_gain(poses[index])[poses[index].names.index(joint)])
        written["people"][index]["click"] = {"joint": joint, "gain": gain}
    overlay, document = Path(f"{target}.png"), Path(f"{target}.json")
    output.write_png(overlay, canvas)
    output.write_json(document, written)
    who = "nobody found" if not poses else "1 person" if len(poses) == 1 else f"{len(poses)} people"
    say(f"{overlay} {document}: {who}{''.join(map(_what_a_fix_did, found, poses))}")
    return output.csv_rows(str(picture), width, height, look.mass, poses)


def _fixed(picture: Path, poses: "list[Pose]", known: "list[Person]") -> "list[Pose]":
    """The poses once some joints of the first ones are known."""
    if len(known) > len(poses):
        found = "nobody was" if not poses else "only 1 person was" if len(poses) == 1 else f"only {len(poses)} people were"
        raise PosecovError(
            f"{picture}: joints of {len(known)} are fixed, but {found} found; say with --boxes or --detector where they are"
        )
    places = [*known, *({} for _ in poses[len(known) :])]
    try:
        return [pose.condition(person) for pose, person in zip(poses, places, strict=True)]
    except PosecovError as error:
        raise PosecovError(f"{picture}: {error}") from None


def _what_a_fix_did(before: "Pose", after: "Pose") -> str:
    import numpy as np

    if after is before:
        return ""
    new = [name in after.known and name not in before.known for name in after.names]
    others = [name not in after.known for name in after.names]
    mass = before.mass(np.where(np.array(new)[:, None], after.keypoints, np.nan))
    was, now = (float(pose.expected_error[others].mean()) if any(others) else 0.0 for pose in (before, after))
    return (
        f"; {', '.join(after.known)} fixed at the border of the {100 * mass:.0f} % region,"
        f" mean expected error of the others {was:.1f} -> {now:.1f} px"
    )
