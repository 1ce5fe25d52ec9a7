"""The order x0, y0, x1, y1, ... and the indexing that rests on it."""

import numpy as np
import pytest

from posecov import coordinates
from posecov.geometry import Similarity


def test_points_and_vectors():
    points = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    np.testing.assert_array_equal(coordinates.flatten(points), [[1, 2, 3, 4, 5, 6]])
    np.testing.assert_array_equal(coordinates.unflatten(coordinates.flatten(points)), points)


def test_rows_of_joints():
    np.testing.assert_array_equal(coordinates.rows([2, 0]), [4, 5, 0, 1])
    assert coordinates.rows([]).shape == (0,)
    np.testing.assert_array_equal(coordinates.joint_mask_to_rows(np.array([[True, False]])), [[True, True, False, False]])


def test_masks_over_joints_of_any_shape_in_both_libraries():
    torch = pytest.importorskip("torch")
    for mask in (np.array([True, False, True]), np.array([[[True, False, False], [False, True, True]]])):
        expected = np.stack([mask, mask], axis=-1).reshape(*mask.shape[:-1], 6)
        np.testing.assert_array_equal(coordinates.joint_mask_to_rows(mask), expected)
        np.testing.assert_array_equal(coordinates.joint_mask_to_rows(torch.from_numpy(mask)).numpy(), expected)


def test_joint_blocks_for_any_number_of_leading_dimensions():
    matrix = np.random.default_rng(0).standard_normal((2, 5, 6, 6))
    for array in (matrix, matrix[0], matrix[0, 0]):
        blocks = coordinates.joint_blocks(array)
        assert blocks.shape == (*array.shape[:-2], 3, 2, 2)
        for joint in range(3):
            rows = slice(2 * joint, 2 * joint + 2)
            np.testing.assert_array_equal(blocks[..., joint, :, :], array[..., rows, rows])


def test_a_similarity_moves_points_covariances_and_roots_alike():
    rng = np.random.default_rng(1)
    similarity = Similarity(1.7 * np.array([[0.6, 0.8], [0.8, -0.6]]), np.array([3.0, -2.0]))
    whole = np.kron(np.eye(3), similarity.linear)
    factor = rng.standard_normal((6, 8))
    covariance = factor @ factor.T
    np.testing.assert_allclose(similarity.covariance(covariance), whole @ covariance @ whole.T, rtol=1e-12)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    moved = similarity.root(np.stack([root, 2 * root]))
    np.testing.assert_allclose(moved[0] @ moved[0], whole @ covariance @ whole.T, rtol=1e-9)
    np.testing.assert_allclose(moved[1], 2 * moved[0])
    samples = rng.standard_normal((4, 3, 2))
    np.testing.assert_allclose(similarity.points(samples)[2, 1], similarity.linear @ samples[2, 1] + [3, -2])
    there = coordinates.flatten(similarity.points(samples) - similarity.offset)
    np.testing.assert_allclose(there, coordinates.flatten(samples) @ whole.T)
