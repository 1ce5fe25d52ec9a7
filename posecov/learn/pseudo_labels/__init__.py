"""Covariance pseudo-labels from neighbours in feature space (ToSS, arXiv 2502.10587, algorithm 1).

What the paper leaves open, decided here: features are whitened by PCA to few dimensions (in many dimensions the weights
collapse onto one neighbour); a person is not its own neighbour; the temperature of the softmax is set from the data, so that
a chosen share of the k neighbours counts; people without some labels take part with those they have; each pseudo-covariance
is shrunk towards its diagonal, so that it has full rank. The paper's plain recipe is there too (`paper_recipe`).
"""

from posecov.learn.pseudo_labels.covariance import pseudo_covariances, roots
from posecov.learn.pseudo_labels.engine import (
    Recipe,
    Streamed,
    paper_recipe,
    pseudo_label_roots,
    recipe_of,
    stream_pseudo_labels,
)
from posecov.learn.pseudo_labels.neighbours import Neighbours, find_neighbours, shuffled
from posecov.learn.pseudo_labels.whitening import Whitening, fit_whitening, whiten

__all__ = [
    "Neighbours", "Recipe", "Streamed", "Whitening", "find_neighbours", "fit_whitening", "paper_recipe", "pseudo_covariances",
    "pseudo_label_roots", "recipe_of", "roots", "shuffled", "stream_pseudo_labels", "whiten",
]  # fmt: skip
