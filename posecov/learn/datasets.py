"""Annotation files to one record type. Points are 0-based pixels whatever the file says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecov.errors import PosecovError
from posecov.geometry import box_around

# LSPET pictures that show the same people as LSP training pictures: LSPET number -> LSP number (1-based).
LSPET_DUPLICATES = {385: 262, 178: 894}
LSP_TRAIN_IMAGES = 1000
# Below this a person gives neither a box nor a pose.
_MIN_LABELLED = 3


@dataclass(frozen=True)
class Record:
    """One labelled person.

    Attributes:
        name: unique within a training run, such as ``lsp/im0001``.
        image: path of the picture.
        keypoints: (J, 2) float64, 0-based pixels; rows without a label are NaN.
        labelled: (J,) bool.
        occluded: (J,) bool, as annotated; False where the data set does not say.
        box: (4,) float64 x, y, width, height: the extent of the labelled joints, enlarged (`geometry.box_around`).
    """

    name: str
    image: Path
    keypoints: np.ndarray
    labelled: np.ndarray
    occluded: np.ndarray
    box: np.ndarray


def read_lsp(root: Path | str, split: str) -> list[Record]:
    """Leeds Sports Pose (``joints.mat`` (3, 14, 2000): x, y, occluded; 1-based).

    Args:
        root: folder with ``joints.mat`` and ``images/im0001.jpg`` ...
        split: ``train`` (images 1..1000) or ``test`` (1001..2000).

    Raises:
        PosecovError: the folder or its annotation file is not what it should be.
    """
    root = Path(root)
    joints = _load_joints(root / "joints.mat", (3, 14, None))
    numbers = {"train": range(1, LSP_TRAIN_IMAGES + 1), "test": range(LSP_TRAIN_IMAGES + 1, joints.shape[2] + 1)}[split]
    if joints.shape[2] < numbers.stop - 1 or not len(numbers):
        raise PosecovError(f"{root / 'joints.mat'}: holds {joints.shape[2]} people, expected the 2000 of LSP")
    records = []
    for number in numbers:
        x, y, occluded = joints[:, :, number - 1]
        points = np.stack([x, y], axis=1) - 1.0
        labelled = np.isfinite(x) & np.isfinite(y)
        if labelled.sum() < _MIN_LABELLED:
            raise PosecovError(f"{root / 'joints.mat'}: image {number} has hardly a finite joint; is the file damaged?")
        image = root / "images" / f"im{number:04d}.jpg"
        records.append(_record(f"lsp/im{number:04d}", image, points, labelled, occluded == 1))
    return _checked(records, root)


def read_lspet(root: Path | str) -> list[Record]:
    """LSP Extended (``joints.mat`` (14, 3, 10000): x, y, labelled; 1-based; unlabelled joints lie at <= 0).

    The two pictures that duplicate LSP training pictures are left out: they would leak into a validation part.
    People with fewer than three labelled joints are left out too.

    Raises:
        PosecovError: the folder or its annotation file is not what it should be.
    """
    root = Path(root)
    joints = _load_joints(root / "joints.mat", (14, 3, None))
    records = []
    for number in range(1, joints.shape[2] + 1):
        if number in LSPET_DUPLICATES:
            continue
        x, y, flag = joints[:, :, number - 1].T
        labelled = (flag == 1) & np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
        if labelled.sum() < _MIN_LABELLED:
            continue
        points = np.stack([x, y], axis=1) - 1.0
        image = root / "images" / f"im{number:05d}.jpg"
        records.append(_record(f"lspet/im{number:05d}", image, points, labelled, np.zeros(14, dtype=bool)))
    return _checked(records, root)


# Data sets by the name a configuration uses: name -> reader of (root) for training.
READERS: dict[str, Callable[[Path], list[Record]]] = {
    "lsp": lambda root: read_lsp(root, "train"),
    "lspet": read_lspet,
}


def read_datasets(names: Sequence[str], data_root: Path | str) -> list[Record]:
    """The training records of several data sets, each in its own folder of ``data_root``.

    Raises:
        PosecovError: an unknown data set, or one that is not there.
    """
    records: list[Record] = []
    for name in names:
        if name not in READERS:
            raise PosecovError(f"data set {name!r}: unknown; there are {', '.join(READERS)}")
        records += READERS[name](Path(data_root) / name)
    return records


def split_validation(records: Sequence[Record], prefix: str, count: int, seed: int) -> tuple[list[Record], list[Record]]:
    """Carve ``count`` random people whose name starts with ``prefix`` out of the training records.

    Returns:
        Training part and validation part.
    """
    candidates = [i for i, record in enumerate(records) if record.name.startswith(prefix)]
    if count >= len(candidates):
        raise PosecovError(f"validation: {count} people of {prefix!r} asked for, there are {len(candidates)}")
    chosen = set(np.random.default_rng(seed).permutation(candidates)[:count].tolist())
    train = [record for i, record in enumerate(records) if i not in chosen]
    return train, [records[i] for i in sorted(chosen)]


def split_share(records: Sequence[Record], share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Random people for the mean, and the others for the covariance; both keep their order. A share of 1 gives all to both.

    Raises:
        PosecovError: nobody is left for one of them.
    """
    if share >= 1.0:
        return list(records), list(records)
    chosen = np.random.default_rng((seed, 1)).permutation(len(records)) < round(share * len(records))
    first = [record for record, mine in zip(records, chosen, strict=True) if mine]
    second = [record for record, mine in zip(records, chosen, strict=True) if not mine]
    if not first or not second:
        raise PosecovError(f"setting data.mean_share: {share} of {len(records)} people leaves nobody for one of the two parts")
    return first, second


def _record(name: str, image: Path, points: np.ndarray, labelled: np.ndarray, occluded: np.ndarray) -> Record:
    points = np.where(labelled[:, None], points, np.nan)
    return Record(name, image, points, labelled, occluded & labelled, box_around(points[labelled]))


def _load_joints(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    import scipy.io

    if not path.is_file():
        raise PosecovError(f"{path}: not found; the data root must hold joints.mat and images/")
    try:
        joints = scipy.io.loadmat(str(path), variable_names=["joints"])["joints"]
    except KeyError:
        raise PosecovError(f"{path}: holds no variable 'joints'; is it the data set's own file?") from None
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise PosecovError(f"{path}: not a readable MATLAB file ({str(error).splitlines()[0][:120]})") from None
    fits = joints.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, joints.shape, strict=True))
    if not fits or not np.issubdtype(joints.dtype, np.number):
        raise PosecovError(f"{path}: 'joints' has shape {joints.shape}, expected {shape} (None = any)")
    return joints.astype(np.float64)


def _checked(records: list[Record], root: Path) -> list[Record]:
    missing = [record.image for record in records if not record.image.is_file()]
    if missing:
        raise PosecovError(f"{missing[0]}: not found ({len(missing)} of {len(records)} pictures of {root} are missing)")
    return records
