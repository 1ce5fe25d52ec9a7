"""How far new inputs lie from those that were trained on: a network says nothing about that, its covariance should."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from posecov.learn.pseudo_labels.whitening import Whitening, fit_whitening

_NEAREST = 5  # the distance of an input is that to its so many-th nearest row
_USUAL = 0.95  # of the rows trained on are not farther from their own


@dataclass(frozen=True)
class Reach:
    """One member's rows.

    Attributes:
        whitening: of the inputs.
        tree: of the whitened rows.
        usual: the distance that most rows do not exceed.
    """

    whitening: Whitening
    tree: cKDTree
    usual: float

    def excess(self, x: np.ndarray) -> np.ndarray:
        """(N,) squared distance of inputs (N, m) to their fifth nearest row, in squares of the usual one, less 1; at least 0.

        A row trained on is its own nearest row, so that nearly all of those are at 0.
        """
        distance = self.tree.query(self.whitening.apply(x), self.nearest)[0].reshape(len(x), -1)[:, -1]
        return np.maximum(np.square(distance / self.usual) - 1.0, 0.0)

    @property
    def nearest(self) -> int:
        """Which of the nearest rows counts: the fifth, or the last of a table that is smaller."""
        return min(_NEAREST, self.tree.n - 1)


def fit_reach(x: np.ndarray) -> Reach:
    """From inputs (N, m), N at least 2."""
    whitening = fit_whitening(x)
    tree = cKDTree(whitening.apply(x))
    own = tree.query(tree.data, min(_NEAREST, tree.n - 1) + 1)[0][:, -1]
    # Rows that all have doubles: any distance at all is unusual.
    return Reach(whitening, tree, max(float(np.quantile(own, _USUAL)), 1e-12))
