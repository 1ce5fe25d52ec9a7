"""Neighbour pseudo-labels for the experiments' tables; the recipe itself is `posecov.learn.pseudo_labels`."""

import numpy as np

from posecov.learn import pseudo_labels


def neighbour_roots(x: np.ndarray, y: np.ndarray, k: int, effective: float = 0.5) -> np.ndarray:
    """Symmetric roots (N, D, D) of the covariance of the targets of each row's k nearest others.

    Args:
        x: (N, m) inputs; the distance is Mahalanobis'.
        y: (N, D) targets.
        k: neighbours.
        effective: the temperature of the softmax makes the mean effective number of neighbours this fraction of k.
    """
    found = pseudo_labels.find_neighbours(pseudo_labels.whiten(x, x.shape[1]), k, effective)
    return pseudo_labels.roots(pseudo_labels.pseudo_covariances(y, found, True, 0.0))
