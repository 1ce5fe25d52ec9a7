"""Leeds Sports Pose and LSP Extended."""

from pathlib import Path

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.datasets.matlab_files import load_variable
from posecov.learn.datasets.problems import Problems
from posecov.learn.datasets.record import MIN_LABELLED, Record, make_record

# LSPET pictures that show the same people as LSP training pictures: LSPET number -> LSP number (1-based).
LSPET_DUPLICATES = {385: 262, 178: 894}
LSP_TRAIN_IMAGES = 1000


def read_lsp(root: Path | str, split: str, problems: Problems | None = None) -> list[Record]:
    """Leeds Sports Pose (``joints.mat`` (3, 14, 2000): x, y, occluded; 1-based).

    Args:
        root: folder with ``joints.mat`` and ``images/im0001.jpg`` ...
        split: ``train`` (images 1..1000) or ``test`` (1001..2000).
        problems: where missing pictures are noted; not given, they are refused.

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
        if labelled.sum() < MIN_LABELLED:
            raise PosecovError(f"{root / 'joints.mat'}: image {number} has hardly a finite joint; is the file damaged?")
        image = root / "images" / f"im{number:04d}.jpg"
        records.append(make_record(f"lsp/im{number:04d}", image, points, labelled, occluded == 1))
    return _there(records, root, problems)


def read_lspet(root: Path | str, problems: Problems | None = None) -> list[Record]:
    """LSP Extended (``joints.mat`` (14, 3, 10000): x, y, labelled; 1-based; unlabelled joints lie at <= 0).

    The two pictures that duplicate LSP training pictures are left out: they would leak into a validation part.
    People with fewer than three labelled joints are left out too.

    Args:
        root: folder with ``joints.mat`` and ``images/im00001.jpg`` ...
        problems: where missing pictures are noted; not given, they are refused.

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
        if labelled.sum() < MIN_LABELLED:
            continue
        points = np.stack([x, y], axis=1) - 1.0
        image = root / "images" / f"im{number:05d}.jpg"
        records.append(make_record(f"lspet/im{number:05d}", image, points, labelled, np.zeros(14, dtype=bool)))
    return _there(records, root, problems)


def _load_joints(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    if not path.is_file():
        raise PosecovError(f"{path}: not found; the data root must hold joints.mat and images/")
    joints = load_variable(path, "joints")
    if joints is None:
        raise PosecovError(f"{path}: holds no variable 'joints'; is it the data set's own file?")
    fits = joints.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, joints.shape, strict=True))
    if not fits or joints.dtype.kind not in "iuf":
        raise PosecovError(f"{path}: 'joints' has shape {joints.shape}, expected {shape} (None = any)")
    return joints.astype(np.float64)


def _there(records: list[Record], root: Path, problems: Problems | None) -> list[Record]:
    mine = Problems() if problems is None else problems
    there = []
    for record in records:
        if record.image.is_file():
            there.append(record)
        else:
            mine.add(str(root / "joints.mat"), f"picture {record.image} is missing")
    if problems is None:
        mine.settle()
    return there
