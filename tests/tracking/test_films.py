"""Films to measure filters by."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from films import make_film as write_film
from films import points_at
from small_people import walking_two
from tiny_model import write_model

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.law import joint_sigma
from posecov.tracking.comparison import compare, kalman, raw, smoother
from posecov.tracking.films import EVERY_S, HIDDEN_S, LIMBS, _hidden, _paint, autocorrelation, measure, whitened_errors
from posecov.tracking.motion import person_size
from posecov.tracking.synthetic import Errors, lasting_errors, make_film, skeleton

ROOT = Path(__file__).resolve().parent.parent.parent


def test_errors_correlate_for_as_long_as_they_last():
    rng, times = np.random.default_rng(0), np.arange(8000) / 20
    errors = lasting_errors(rng, np.broadcast_to(np.diag([4.0, 9.0]), (8000, 2, 2)), times, 0.2) / [2, 3]
    np.testing.assert_allclose(autocorrelation(errors, times, [0, 0.1, 0.2, 1.0]), np.exp([0, -0.5, -1, -5]), atol=0.06)


def test_a_figure_with_a_film_s_errors_has_the_laws_that_the_film_states():
    source = make_film("wave", Errors(degrees_of_freedom=8.0, swaps=0.0), seconds=2, covered=False, seed=5)
    made = make_film("walk", Errors(lasting_s=0.05), seconds=8, height=400, covered=False, like=source.poses, seed=1)
    for index, twin in ((0, 0), (59, 59), (60, 58), (118, 0)):
        pose, law = made.poses[index], source.poses[twin]
        scale = 400 / person_size(coordinates.flatten(law.keypoints.astype(np.float64)))
        sigmas = [np.sort(joint_sigma(one.components.scatter[0])) for one in (pose, law)]
        np.testing.assert_allclose(sigmas[0], sigmas[1] * scale, rtol=1e-4)
        np.testing.assert_allclose(pose.components.weights, law.components.weights)
        assert pose.degrees_of_freedom == 8.0
    truths = coordinates.flatten(made.truth)
    whitened = [
        np.linalg.solve(
            np.linalg.cholesky(pose.components.scatters[component] * 8 / 6), pose.components.means[component] - place
        )
        for pose, place in zip(made.poses, truths, strict=True)
        for component in [int(pose.components.responsibilities(place).argmax())]
    ]
    assert 0.8 < np.sqrt(np.square(whitened).mean()) < 1.2
    swapped = [pose.components.responsibilities(place).argmax() > 0 for pose, place in zip(made.poses, truths, strict=True)]
    assert 0 < np.mean(swapped) < 0.5
    with pytest.raises(PosecovError, match="lsp14"):
        make_film("walk", like=walking_two()[1])


def test_limbs_are_hidden_in_turn_and_painted_over():
    times = np.arange(200) / 50
    hidden = _hidden(list(times), skeleton())
    assert hidden.any(axis=1).mean() == pytest.approx(HIDDEN_S / EVERY_S, abs=0.02)
    assert not hidden[: round((EVERY_S - HIDDEN_S) * 50) - 1].any()
    seen = {tuple(sorted(skeleton().keypoints[j] for j in np.flatnonzero(row))) for row in hidden if row.any()}
    assert seen == {tuple(sorted(limb)) for limb in LIMBS}
    pose = make_film("wave", seconds=0.1, height=100).poses[0]
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    row = hidden[np.flatnonzero(hidden.any(axis=1))[0]]
    painted, (a, b) = _paint(image, pose, row), pose.keypoints[row]
    for point in (a, b, (a + b) / 2):
        x, y = np.round(point).astype(int)
        np.testing.assert_allclose(painted[y, x], image.mean(axis=(0, 1)), atol=1)
    assert 0.9 < (painted == image).all(axis=2).mean() < 1
    assert _paint(image, pose, np.zeros(14, dtype=bool)) is image


def test_a_film_is_estimated_once(tmp_path, monkeypatch):
    estimator = PoseEstimator(write_model(tmp_path / "tiny.onnx"), threads=1)
    film = write_film(tmp_path / "a.mp4", 50, empty=range(40, 50))
    found = measure(estimator, film, tmp_path / "cache")
    # The last of them are the model's guesses, until it is tested again.
    assert len(found.poses) == len(found.painted) == len(found.times_s) >= 40
    np.testing.assert_allclose(found.poses[20].keypoints[:3], points_at(20), atol=0.6)
    errors = whitened_errors(found, np.stack([pose.keypoints for pose in found.poses]).astype(np.float64))
    np.testing.assert_allclose(errors, 0, atol=1e-4)
    figures = compare([found.film()], {"raw": raw, "live": kalman(), "offline": smoother()})
    assert figures["offline"].error == pytest.approx(0, abs=1e-4)
    assert figures["live"].jitter < figures["raw"].jitter
    monkeypatch.setattr(PoseEstimator, "outputs", None)
    again = measure(estimator, film, tmp_path / "cache")
    np.testing.assert_array_equal([p.keypoints for p in again.painted], [p.keypoints for p in found.painted])


def test_a_film_with_nobody_is_said_to_be_so(tmp_path, estimator):
    with pytest.raises(PosecovError, match="30 frames"):
        measure(estimator, write_film(tmp_path / "a.mp4", 35, empty=range(35)), tmp_path)


def test_the_tool_says_in_one_line_that_a_film_is_missing(tmp_path):
    command = [sys.executable, "tools/smoothing.py", "--real", "none.mp4", "--cache", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "smoothing: none.mp4: no such file"
