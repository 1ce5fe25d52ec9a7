"""The figure whose truth is known and the errors made on it."""

import dataclasses
import math

import numpy as np
import pytest

from posecov import coordinates
from posecov.tracking.synthetic import MOTIONS, Errors, correlation, figure, lasting_errors, make_film, skeleton

TIMES = np.arange(120) / 30


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_figure_has_its_height_and_bones_that_never_seem_longer_than_they_are(motion):
    joints = skeleton()
    points = figure(motion, TIMES, height=200.0)
    assert points.shape == (120, 14, 2)
    tall = np.ptp(points[..., 1], axis=1)
    assert tall.min() > 150
    assert tall.max() < 260  # An arm may reach above the head.
    for a, b, length in (
        ("r_hip", "r_knee", 50),
        ("l_knee", "l_ankle", 50),
        ("r_elbow", "r_wrist", 32),
        ("neck", "head_top", 36),
    ):
        seen = np.linalg.norm(points[:, joints.index(a)] - points[:, joints.index(b)], axis=-1)
        assert seen.max() <= length + 1e-9
        assert seen.max() > 0.8 * length
    half = figure(motion, TIMES, height=100.0, origin=(0.0, 0.0))
    np.testing.assert_allclose(figure(motion, TIMES, height=200.0, origin=(0.0, 0.0)), 2 * half, atol=1e-9)


def test_facing_the_camera_the_right_hand_is_on_the_left():
    joints = skeleton()
    points = figure("wave", TIMES)
    assert (points[:, joints.index("r_hip"), 0] < points[:, joints.index("l_hip"), 0]).all()
    assert points[:, joints.index("r_wrist"), 1].mean() < points[:, joints.index("l_wrist"), 1].mean()


def test_errors_have_their_covariance_and_last():
    rng = np.random.default_rng(0)
    times = np.arange(20000) / 30
    spread = np.array([[4.0, 3.0], [3.0, 9.0]])
    spread = np.kron(spread, np.eye(2))
    errors = lasting_errors(rng, np.broadcast_to(spread, (len(times), 4, 4)), times, 0.1)
    np.testing.assert_allclose(np.cov(errors.T), spread, atol=0.4)
    later = errors[3:].T @ errors[:-3] / len(errors)
    np.testing.assert_allclose(later, math.exp(-1) * spread, atol=0.4)


def test_correlations_are_stronger_along_limbs():
    joints = skeleton()
    matrix = correlation(joints)
    np.testing.assert_allclose(np.diagonal(matrix), 1)
    assert np.linalg.eigvalsh(matrix).min() > 0.02
    knee, ankle, wrist = (2 * joints.index(name) for name in ("r_knee", "r_ankle", "r_wrist"))
    assert matrix[knee, ankle] > matrix[knee, wrist] + 0.1
    assert matrix[knee, ankle + 1] == 0


def test_a_film_is_calibrated_where_nothing_is_gross():
    errors = Errors(outliers=0.0, swaps=0.0, exchanges=False, degrees_of_freedom=6.0, scale_lasting_s=0.05, lasting_s=0.02)
    film = make_film("turn", errors, seconds=40)
    residuals = coordinates.flatten(film.truth - np.stack([pose.keypoints for pose in film.poses]))
    roots = np.linalg.cholesky(np.stack([pose.covariance for pose in film.poses]).astype(float))
    whitened = np.linalg.solve(roots, residuals[..., None])[..., 0]
    assert np.square(whitened).mean() == pytest.approx(1, abs=0.1)
    assert np.mean([pose.mass(truth) <= 0.5 for pose, truth in zip(film.poses, film.truth, strict=True)]) == pytest.approx(
        0.5, abs=0.07
    )


def test_covered_joints_are_covered_for_15_frames_and_say_so():
    clean = Errors(outliers=0.0, swaps=0.0, exchanges=False)
    film = make_film("wave", clean, seconds=6)
    joints = skeleton()
    wrist = film.hidden[:, joints.index("r_wrist")]
    assert wrist.sum() % 15 == 0
    assert np.diff(np.flatnonzero(np.diff(wrist.astype(int)))).min() == 15
    sigma = np.stack([pose.sigma for pose in film.poses])
    assert sigma[film.hidden].min() > 3 * sigma[~film.hidden].max()
    assert not make_film("wave", clean, seconds=2, covered=False).hidden.any()


def test_the_same_seed_gives_the_same_film_and_swaps_are_swaps():
    often = dataclasses.replace(Errors(), swaps=0.5, outliers=0.0)
    films = [make_film("turn", often, seconds=1, covered=False, seed=4) for _ in range(2)]
    for one, other in zip(*(film.poses for film in films), strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
    points = np.stack([pose.keypoints for pose in films[0].poses])
    swapped = points[:, skeleton().flip_permutation]
    far = np.linalg.norm(points - films[0].truth, axis=-1) > 30
    back = np.linalg.norm(swapped - films[0].truth, axis=-1) < 30
    assert far.any()
    assert back[far].all()
