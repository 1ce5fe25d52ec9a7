"""Data sets as a configuration names them."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from posecov.errors import PosecovError
from posecov.learn.datasets.coco import read_coco
from posecov.learn.datasets.lsp import read_lsp, read_lspet
from posecov.learn.datasets.mpii import TRAIN_FILES, VALIDATION_FILES, read_mpii
from posecov.learn.datasets.pictures import picture_folder
from posecov.learn.datasets.problems import Problems
from posecov.learn.datasets.record import Reading, Record, onto_skeleton
from posecov.skeleton import Skeleton, canonical_joint, load_skeleton
from posecov.suggest import nearest

log = logging.getLogger(__name__)


def _lsp(root: Path, problems: Problems) -> Reading:
    folder = root / "lsp"
    return Reading(read_lsp(folder, "train", problems), load_skeleton("lsp14").keypoints, folder / "joints.mat")


def _lspet(root: Path, problems: Problems) -> Reading:
    folder = root / "lspet"
    return Reading(read_lspet(folder, problems), load_skeleton("lsp14").keypoints, folder / "joints.mat")


def _mpii(files: Sequence[str], source: str) -> Callable[[Path, Problems], Reading]:
    def read(root: Path, problems: Problems) -> Reading:
        folder = root / "mpii"
        for name in files:
            if (folder / name).is_file():
                return read_mpii(folder / name, problems, source)
        raise PosecovError(f"{folder}: none of {', '.join(files)} is there")

    return read


def _coco(part: str, source: str) -> Callable[[Path, Problems], Reading]:
    def read(root: Path, problems: Problems) -> Reading:
        folder = root / "coco"
        images = next((f for f in (folder / part, folder / "images" / part) if f.is_dir()), folder / part)
        return read_coco(folder / "annotations" / f"person_keypoints_{part}.json", images, problems, source)

    return read


# Data sets with names of their own, each in a folder of the data root: name -> reader of (data root, problems).
NAMED: dict[str, Callable[[Path, Problems], Reading]] = {
    "lsp": _lsp,
    "lspet": _lspet,
    "mpii": _mpii(TRAIN_FILES, "mpii"),
    "mpii-val": _mpii(VALIDATION_FILES, "mpii-val"),
    "coco": _coco("train2017", "coco"),
    "coco-val": _coco("val2017", "coco-val"),
}


def read_datasets(
    entries: Sequence[str], data_root: Path | str, skeleton: Skeleton | None = None, problems: Problems | None = None
) -> list[Record]:
    """The people of several data sets, one after the other, with the joints of one skeleton.

    Args:
        entries: each a name of `NAMED`, or a COCO JSON, ``FILE.json`` or ``FILE.json@FOLDER`` with the folder of its pictures
            (`pictures.picture_folder` when not given); or a file of MPII's (`mpii.read_mpii`). Paths start in the data root
            or, if there is nothing, in the working folder. Names of records start with the entry and a slash.
        data_root: folder that holds one folder per named data set.
        skeleton: joints of the records; LSP's when not given.
        problems: where wrong entries are noted; not given, they are refused.

    Raises:
        PosecovError: an unknown data set, one that is not there, or one without people for this skeleton.
    """
    skeleton = load_skeleton("lsp14") if skeleton is None else skeleton
    mine = Problems() if problems is None else problems
    records: list[Record] = []
    for entry in entries:
        before = len(mine.lines)
        reading = _read(entry, Path(data_root), mine)
        people = onto_skeleton(reading, skeleton, mine)
        if problems is None:
            mine.settle()
        log.info("%s: %d people of %d pictures", entry, len(people), len({record.image for record in people}))
        if not people:
            first = f"; first problem: {mine.lines[before]}" if len(mine.lines) > before else ""
            has = {canonical_joint(joint) for joint in reading.joints}
            lacks = ", ".join([joint for joint in skeleton.keypoints if canonical_joint(joint) not in has][:5])
            lacks = f"; it does not know {lacks}" if lacks else ""
            raise PosecovError(f"data set {entry!r}: nobody in it has enough joints of skeleton {skeleton.name}{lacks}{first}")
        records += people
    return records


def _read(entry: str, root: Path, problems: Problems) -> Reading:
    if entry in NAMED:
        return NAMED[entry](root, problems)
    file, _, folder = entry.partition("@")
    if Path(file).suffix.lower() not in (".json", ".mat", ".h5", ".csv"):
        known = f"there are {', '.join(NAMED)}, or give a COCO JSON"
        raise PosecovError(f"data set {entry!r}: unknown; {known}{nearest(entry, NAMED)}")
    path = _place(file, root)
    images = _place(folder, root) if folder else picture_folder(path)
    if path.is_file() and not images.is_dir():
        raise PosecovError(f"data set {entry!r}: {images} is not a folder of pictures")
    if path.suffix.lower() != ".json" or _is_list(path):
        return read_mpii(path, problems, entry, images)
    return read_coco(path, images, problems, entry)


def _is_list(path: Path) -> bool:
    """Whether a JSON file starts as MPII's does, with a list."""
    try:
        with path.open("rb") as file:
            return file.read(200).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    except OSError:
        return False


def _place(name: str, root: Path) -> Path:
    """A path that starts in the data root or, if there is nothing, in the working folder."""
    path = root / name
    return path if path.exists() or not Path(name).exists() else Path(name)
