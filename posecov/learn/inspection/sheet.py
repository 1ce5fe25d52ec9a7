"""Contact sheets: what the network sees, with the labels on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from posecov.drawing import INK, LEFT, RIGHT, side_of
from posecov.learn.augment import AugmentConfig
from posecov.learn.datasets import Record
from posecov.learn.inspection.suspects import Suspect
from posecov.learn.samples import CropDataset
from posecov.skeleton import Skeleton

_CELL, _CAPTION, _GAP, _HEADER = 208, 20, 6, 40
_PAPER, _TEXT, _ALARM = (250, 250, 250), (40, 40, 40), (60, 60, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class View:
    """How crops are made: a run's settings.

    Attributes:
        skeleton: of the records.
        size: side of the crop in pixels.
        padding: see `geometry.crop_map`.
        augment: how much training crops differ.
        seed: of the augmentation.
    """

    skeleton: Skeleton
    size: int
    padding: float
    augment: AugmentConfig
    seed: int


def samples_sheet(records: Sequence[Record], view: View, after: int = 2, across: int = 3) -> np.ndarray:
    """Each person before augmentation and ``after`` times after it, ``across`` people a row. (H, W, 3) uint8 BGR."""
    plain = CropDataset(records, view.skeleton, view.size, view.padding)
    changed = [
        CropDataset(records, view.skeleton, view.size, view.padding, view.augment, view.seed, epoch) for epoch in range(after)
    ]
    groups = []
    for index, record in enumerate(records):
        cells = [_cell(plain, index, view.skeleton, [record.name])]
        for dataset in changed:
            words = "augmented, mirrored" if bool(dataset[index].mirrored) else "augmented"
            cells.append(_cell(dataset, index, view.skeleton, [words]))
        groups.append(np.hstack(cells))
    return _sheet(groups, across, "labels before and after augmentation")


def suspects_sheet(records: Sequence[Record], suspects: Sequence[Suspect], view: View, across: int = 6) -> np.ndarray:
    """People with suspicious labels, the joints in question ringed. (H, W, 3) uint8 BGR."""
    plain = CropDataset(records, view.skeleton, view.size, view.padding)
    cells = []
    for suspect in suspects:
        name = records[suspect.index].name
        cells.append(_cell(plain, suspect.index, view.skeleton, [name, *_wrapped(suspect.what, 3)], suspect.joints))
    return _sheet(cells, across, "suspicious labels, joints in question ringed")


def _cell(
    dataset: CropDataset, index: int, skeleton: Skeleton, captions: Sequence[str], ringed: Sequence[int] = ()
) -> np.ndarray:
    """A crop with its limbs and joints, and lines of text under it."""
    sample = dataset[index]
    scale = _CELL / dataset.size
    image = cv2.resize(sample.crops.numpy(), (_CELL, _CELL), interpolation=cv2.INTER_CUBIC)
    points, labelled = (sample.points.numpy() + 0.5) * scale - 0.5, sample.labelled.numpy()
    places = [tuple(round(float(v) * 16) for v in point) for point in points]
    for width, inked in ((4, True), (2, False)):
        for a, b in skeleton.limb_indices:
            if labelled[a] and labelled[b]:
                colour = INK if inked else side_of(skeleton, [skeleton.keypoints[a], skeleton.keypoints[b]])
                cv2.line(image, places[a], places[b], colour, width, cv2.LINE_AA, 4)
    for joint in np.flatnonzero(labelled).tolist():
        cv2.circle(image, places[joint], 16 * 4, INK, -1, cv2.LINE_AA, 4)
        cv2.circle(image, places[joint], 16 * 3, side_of(skeleton, [skeleton.keypoints[joint]]), -1, cv2.LINE_AA, 4)
    for joint in ringed:
        cv2.circle(image, places[joint], 16 * 9, _ALARM, 2, cv2.LINE_AA, 4)
    cell = np.full((_CELL + _CAPTION * len(captions) + _GAP, _CELL + _GAP, 3), _PAPER, np.uint8)
    cell[:_CELL, :_CELL] = image
    for line, text in enumerate(captions):
        _write(cell, _fitting(text), (2, _CELL + _CAPTION * (line + 1) - 5))
    return cell


def _sheet(cells: Sequence[np.ndarray], across: int, title: str) -> np.ndarray:
    height, width = cells[0].shape[:2]
    columns = min(across, len(cells))
    rows = -(-len(cells) // columns)
    margin = 2 * _GAP
    sheet = np.full((_HEADER + rows * height + margin, columns * width + 2 * margin, 3), _PAPER, np.uint8)
    for number, cell in enumerate(cells):
        top, left = _HEADER + number // columns * height, margin + number % columns * width
        sheet[top : top + height, left : left + width] = cell
    x = margin
    for text, colour in ((title, None), ("the person's right", RIGHT), ("left", LEFT)):
        if colour is not None:
            cv2.circle(sheet, (x + 6, 19), 6, colour, -1, cv2.LINE_AA)
            x += 18
        _write(sheet, text, (x, 24), 0.5)
        x += cv2.getTextSize(text, _FONT, 0.5, 1)[0][0] + 18
    return sheet


def _write(canvas: np.ndarray, text: str, place: tuple[int, int], size: float = 0.42) -> None:
    # OpenCV's letters are ASCII.
    cv2.putText(canvas, text.encode("ascii", "replace").decode(), place, _FONT, size, _TEXT, 1, cv2.LINE_AA)


def _fitting(text: str) -> str:
    """The end of a text that fits under a cell: of a name the end tells most."""
    while len(text) > 4 and cv2.getTextSize(text, _FONT, 0.42, 1)[0][0] > _CELL - 4:
        text = "..." + text.removeprefix("...")[1:]
    return text


def _wrapped(text: str, lines: int) -> list[str]:
    """A text in so many lines, the last ones empty or cut."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if cv2.getTextSize(longer, _FONT, 0.42, 1)[0][0] <= _CELL - 4:
            rows[-1] = longer
        else:
            rows.append(word)
    return (rows + [""] * lines)[:lines]
