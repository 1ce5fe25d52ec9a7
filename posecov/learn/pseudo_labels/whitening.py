"""Feature space in which Euclidean distance is Mahalanobis': whitened principal components."""

from typing import NamedTuple

import numpy as np

from posecov.errors import PosecovError

_ROWS = 65536
_LEAST_VARIANCE = 1e-9  # of a component, over that of the largest one
_LEAST_SPREAD = 1e-12  # standard deviation of a column over its largest entry: below, it is constant but for rounding


class Whitening(NamedTuple):
    """``(x - centre) @ matrix`` has unit covariance.

    Attributes:
        centre: (M,) float64.
        matrix: (M, m) float64.
    """

    centre: np.ndarray
    matrix: np.ndarray

    def apply(self, features: np.ndarray, name: str = "features") -> np.ndarray:
        """(N, m) whitened features (N, M), in the features' own floating type.

        Raises:
            PosecovError: features that are not numbers; other columns than those that were fitted.
        """
        check_finite(features, name)
        if features.shape[1] != len(self.centre):
            raise PosecovError(f"pseudo-labels: {name} have {features.shape[1]} columns, expected {len(self.centre)}")
        points = np.empty((len(features), self.matrix.shape[1]), dtype=np.result_type(features.dtype, np.float32))
        for start in range(0, len(features), _ROWS):
            points[start : start + _ROWS] = (features[start : start + _ROWS] - self.centre) @ self.matrix
        return points


def fit_whitening(features: np.ndarray, dimensions: int | None = None) -> Whitening:
    """The map to whitened principal components. Constant or identical columns do no harm.

    Args:
        features: (N, M), N at least 2. Read in parts, so that they may lie on disk.
        dimensions: components, those of the largest variance; None keeps every direction in which the features differ,
            whatever the columns' units: the plain Mahalanobis distance.

    Raises:
        PosecovError: a single row, values that are not numbers, or features that are the same for everybody.
    """
    check_finite(features, "features")
    count, size = features.shape
    if count < 2:
        raise PosecovError("pseudo-labels: features of a single sample; a sample's neighbours are other samples")
    centre = np.asarray(np.mean(features, axis=0, dtype=np.float64))
    moments, largest = np.zeros((size, size)), np.zeros(size)
    for start in range(0, count, _ROWS):
        centred = np.asarray(features[start : start + _ROWS], dtype=np.float64) - centre
        moments += centred.T @ centred
        largest = np.maximum(largest, np.abs(features[start : start + _ROWS]).max(axis=0))
    moments /= count - 1
    scale = np.ones(size)
    if dimensions is None:
        spread = np.sqrt(np.diag(moments))
        scale = np.where(spread > _LEAST_SPREAD * largest, 1 / np.where(spread > 0, spread, 1), 0)
    values, vectors = np.linalg.eigh(scale[:, None] * moments * scale)
    order = np.argsort(values)[::-1][:dimensions]
    order = order[values[order] > _LEAST_VARIANCE * max(values.max(), 1e-300)]
    if not len(order):
        raise PosecovError("pseudo-labels: the features are the same for everybody; there are no neighbours")
    return Whitening(centre, scale[:, None] * vectors[:, order] / np.sqrt(values[order]))


def whiten(features: np.ndarray, dimensions: int) -> np.ndarray:
    """Whitened principal components (N, min(dimensions, M)) of features (N, M); see `fit_whitening`."""
    features = np.asarray(features, dtype=np.float64)
    return fit_whitening(features, dimensions).apply(features)


def check_finite(values: np.ndarray, name: str, missing: bool = False) -> None:
    """Refuse a table with entries that are not numbers.

    Args:
        values: (N, M).
        name: of the argument, for the message.
        missing: whether NaN is allowed; infinity never is.

    Raises:
        PosecovError: names the argument and the first wrong row.
    """
    if values.ndim != 2:
        raise PosecovError(f"pseudo-labels: {name} has shape {values.shape}, expected one row per sample")
    for start in range(0, len(values), _ROWS):
        some = values[start : start + _ROWS]
        wrong = np.flatnonzero((np.isinf(some) if missing else ~np.isfinite(some)).any(axis=1))
        if len(wrong):
            what = "an infinite value" if np.isinf(some[wrong[0]]).any() else "NaN"
            raise PosecovError(f"pseudo-labels: {name}, row {start + wrong[0]}: {what}; remove or repair this row")
