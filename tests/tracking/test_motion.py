"""The linear Gaussian model of motion and errors."""

import math

import numpy as np
import pytest
from scipy.integrate import quad_vec
from scipy.linalg import expm
from small_people import LEGS, TWO, covariance

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.skeleton import load_skeleton
from posecov.tracking.motion import MotionModel, error_root, limb_depths, person_size


@pytest.mark.parametrize("fading_s", [0.05, 0.5, 6.9, 7.1, 1e4, math.inf])
def test_transition_and_noise_are_those_of_the_differential_equation(fading_s):
    model = MotionModel(acceleration=2.0, persistence_s=0.2, fading_s=fading_s, shared=0.0, error_time_s=0.3)
    drift = np.array([[0.0, 1.0], [0.0, -1 / fading_s]])
    dt, size = 0.07, 10.0
    np.testing.assert_allclose(model.transition(dt)[:2, :2], expm(drift * dt), rtol=1e-9)
    pushed = np.array([0.0, 1.0])
    integral = quad_vec(lambda s: np.outer(expm(drift * s) @ pushed, expm(drift * s) @ pushed), 0, dt, epsabs=1e-14)[0]
    noise = model.noise(dt, size, np.array([0])).reshape(3, 2, 3, 2)
    np.testing.assert_allclose(noise[:2, 0, :2, 0], 2 * (2.0 * size) ** 2 * 0.2 * integral, rtol=1e-6)
    assert (noise[:2, 0, :, 1] == 0).all()


def test_two_steps_are_one():
    model, depths = MotionModel(), np.array([0, 1, 2])
    eye = np.eye(6)
    first, second = (np.kron(model.transition(dt), eye) for dt in (0.02, 0.05))
    np.testing.assert_allclose(second @ first, np.kron(model.transition(0.07), eye), rtol=1e-12, atol=1e-15)
    both = second @ model.noise(0.02, 90.0, depths) @ second.T + model.noise(0.05, 90.0, depths)
    np.testing.assert_allclose(both, model.noise(0.07, 90.0, depths), rtol=1e-8, atol=1e-12)


def test_whitened_errors_keep_unit_variance_and_a_time_of_0_forgets_them():
    model = MotionModel(error_time_s=0.1)
    phi = model.transition(0.05)[2, 2]
    assert phi == pytest.approx(math.exp(-0.5))
    assert model.noise(0.05, 90.0, np.array([0]))[-1, -1] == pytest.approx(1 - phi**2)
    assert MotionModel(error_time_s=0.0).transition(0.05)[2, 2] == 0


def test_joints_share_motion_and_move_more_further_out():
    model = MotionModel(shared=0.25, outwards=2.0)
    noise = model.noise(0.03, 90.0, limb_depths(LEGS)).reshape(3, 5, 2, 3, 5, 2)[1, :, 0, 1, :, 0]
    assert limb_depths(LEGS).tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_allclose(noise[0, 1:] / noise[0, 0], 0.25)
    np.testing.assert_allclose(np.diagonal(noise) / noise[0, 0], [1, 1, 1, 0.25 + 0.75 * 4, 0.25 + 0.75 * 4])


def test_depths_of_the_shipped_skeletons():
    names = load_skeleton("lsp14").keypoints
    depths = dict(zip(names, limb_depths(load_skeleton("lsp14")), strict=True))
    assert {name for name, depth in depths.items() if depth == 2} == {"r_ankle", "l_ankle", "r_wrist", "l_wrist"}
    assert {name for name, depth in depths.items() if depth == 1} == {"r_knee", "l_knee", "r_elbow", "l_elbow"}
    assert limb_depths(TWO).tolist() == [0, 0]
    assert limb_depths(load_skeleton("coco17")).max() == 2


def test_the_root_follows_exchanges_and_turns_and_leaves_sure_joints_alone_where_one_becomes_unsure():
    rng = np.random.default_rng(1)
    matrix = covariance(rng, 6)
    root = error_root(matrix)
    np.testing.assert_allclose(root @ root.T, matrix, rtol=1e-10, atol=1e-10)
    order = coordinates.rows([2, 0, 1])
    np.testing.assert_allclose(error_root(matrix[np.ix_(order, order)]), root[np.ix_(order, order)], atol=1e-10)
    turn = np.kron(np.eye(3), [[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(error_root(turn @ matrix @ turn.T), turn @ root @ turn.T, atol=1e-10)
    np.testing.assert_allclose(error_root(1e-4 * matrix), 1e-2 * root, atol=1e-10)  # Far below a pixel too.
    wider = np.diag([1.0, 1, 10, 10, 1, 1])
    np.testing.assert_allclose(error_root(wider @ matrix @ wider), wider @ root, atol=1e-9)


def test_a_known_joint_has_no_error():
    matrix = np.diag([4.0, 4.0, 0.0, 0.0])
    np.testing.assert_allclose(error_root(matrix), np.diag([2.0, 2.0, 0.0, 0.0]))


def test_a_size_is_the_longer_side_and_never_0():
    assert person_size(np.array([0.0, 0.0, 3.0, 40.0])) == 40
    assert person_size(np.zeros(4)) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"acceleration": 0.0}, "acceleration .* positive"),
        ({"shared": 1.0}, r"shared .* \[0, 1\)"),
        ({"error_time_s": -0.1}, "error_time_s .* not negative"),
        ({"fading_s": math.nan}, "fading_s .* positive"),
        ({"tails": 2.0}, "tails .* more than 2"),
    ],
)
def test_wrong_sizes_are_refused(wrong, said):
    with pytest.raises(PosecovError, match=said):
        MotionModel(**wrong)
