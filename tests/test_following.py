"""How joints move with one, against the conditional law."""

import numpy as np
from test_law import random_scatter

from posecov import law
from posecov.following import correlations, gains


def test_joints_move_as_their_conditional_means():
    scatter = random_scatter(np.random.default_rng(0), 8)
    step = np.array([2.0, -3.0])
    moved, narrowed, _ = law.condition(np.zeros(8), scatter, np.inf, [2, 3], step)
    found = gains(scatter, 1) @ step
    np.testing.assert_allclose(found[[0, 2, 3]].reshape(-1), moved, rtol=1e-10)
    np.testing.assert_allclose(found[1], step, rtol=1e-10)
    # The share of a joint's variance that is gone once the other is known.
    left = np.diagonal(narrowed).reshape(3, 2).sum(axis=1) / np.diagonal(scatter).reshape(4, 2).sum(axis=1)[[0, 2, 3]]
    strength = correlations(scatter, 1)
    np.testing.assert_allclose(strength[[0, 2, 3]] ** 2, 1 - left, rtol=1e-10)
    assert strength[1] == 1


def test_correlations_do_not_depend_on_directions():
    rng = np.random.default_rng(1)
    scatter = random_scatter(rng, 6)
    turns = np.zeros((6, 6))
    for joint in range(3):
        turns[2 * joint : 2 * joint + 2, 2 * joint : 2 * joint + 2] = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    np.testing.assert_allclose(correlations(turns @ scatter @ turns.T, 0), correlations(scatter, 0), rtol=1e-10)
    # One coordinate against one: the root of half of r^2, the other half of the variance being free.
    plain = np.eye(4)
    plain[0, 2] = plain[2, 0] = -0.8
    np.testing.assert_allclose(correlations(plain, 0), [1, np.sqrt(0.32)])
    plain[2:] = plain[:, 2:] = 0
    assert correlations(plain, 0)[1] == 0
