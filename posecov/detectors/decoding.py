"""What detectors return, as boxes and scores of one class.

Each `Decode` takes a network's outputs without their batch axis, the input's (height, width), and the class, and gives corners
(N, 4) x1, y1, x2, y2 in input pixels and scores (N,). Scores of a class are what the network says about that class, also
where it says more about another one.
"""

from collections.abc import Callable, Sequence

import numpy as np

Decode = Callable[[Sequence[np.ndarray], tuple[int, int], int], tuple[np.ndarray, np.ndarray]]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
_LARGEST_LOG = 20.0  # Of a side in strides: what lies beyond is nonsense, and must not overflow.


def grid(cells: int, shape: tuple[int, int], anchors: int = 1) -> np.ndarray | None:
    """The places at which a network predicts boxes, (cells, 3): column, row and stride in input pixels.

    Args:
        cells: how many boxes it predicts.
        shape: (height, width) of its input.
        anchors: boxes at every place.

    Returns:
        None when no usual set of strides has so many.
    """
    for strides in _STRIDES:
        sizes = [(-(-shape[0] // stride), -(-shape[1] // stride)) for stride in strides]
        if anchors * sum(rows * columns for rows, columns in sizes) != cells:
            continue
        parts = []
        for stride, (rows, columns) in zip(strides, sizes, strict=True):
            y, x = np.mgrid[:rows, :columns].reshape(2, -1)
            parts += [np.stack([x, y, np.full_like(x, stride)], axis=1)] * anchors
        return np.concatenate(parts)
    return None


def from_centres(boxes: np.ndarray) -> np.ndarray:
    """Corners of boxes (N, 4) centre x, centre y, width, height."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def objectness_rows(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """(A, 5 + C): centre x, centre y, width, height, objectness, probabilities of classes."""
    rows = outputs[0]
    return from_centres(rows[:, :4]), rows[:, 4] * rows[:, 5 + index]


def raw_grid_rows(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """The same relative to the places of the grid: shifts in strides, logarithms of sides in strides."""
    rows, places = outputs[0], grid(len(outputs[0]), shape)
    if places is None:
        raise ValueError(f"no usual grid has {len(rows)} places")
    stride = places[:, 2:]
    centres = (rows[:, :2] + places[:, :2]) * stride
    sides = np.exp(np.minimum(rows[:, 2:4], _LARGEST_LOG)) * stride
    return from_centres(np.concatenate([centres, sides], axis=1)), rows[:, 4] * rows[:, 5 + index]


def class_columns(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """(4 + C, A): centre x, centre y, width, height, probabilities of classes, one column a box."""
    rows = outputs[0].T
    return from_centres(rows[:, :4]), rows[:, 4 + index]


def relative_rows(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4 + C): as `class_columns`, one row a box, boxes as shares of the input's sides."""
    rows = outputs[0]
    return from_centres(rows[:, :4]) * _sides(shape), rows[:, 4 + index]


def finished_rows(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 6): corners, score, class."""
    rows = outputs[0]
    kept = np.round(rows[:, 5]) == index
    return rows[kept, :4], rows[kept, 4]


def scored_corners(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 5) corners and score, and (N,) classes."""
    boxes, classes = outputs
    kept = classes == index
    return boxes[kept, :4], boxes[kept, 4]


def corners_classes_scores(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) corners, (N,) classes, (N,) scores."""
    boxes, classes, scores = outputs
    kept = classes == index
    return boxes[kept], scores[kept]


def softmax_queries(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """(Q, 4) centre x, centre y, width, height as shares of the input's sides, and (Q, C + 1) logits, the last of nothing."""
    boxes, logits = outputs
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return from_centres(boxes) * _sides(shape), powers[:, index] / powers.sum(axis=1)


def sigmoid_queries(outputs: Sequence[np.ndarray], shape: tuple[int, int], index: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with one logit a class, each for itself."""
    boxes, logits = outputs
    return from_centres(boxes) * _sides(shape), 1 / (1 + np.exp(-np.clip(logits[:, index], -60, 60)))


def _sides(shape: tuple[int, int]) -> np.ndarray:
    return np.array([shape[1], shape[0], shape[1], shape[0]], dtype=np.float64)
