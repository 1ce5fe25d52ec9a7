"""The figures that smoothing is asked to reach, on short films, and the tool that prints them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posecov.tracking.comparison import Run, compare, kalman, one_euro, raw, smoother, tune_one_euro
from posecov.tracking.motion import MotionModel
from posecov.tracking.synthetic import Errors, make_film

ROOT = Path(__file__).resolve().parents[2]


def test_figures_of_the_truth_and_of_the_estimator():
    film = make_film("wave", Errors(outliers=0.0, swaps=0.0), seconds=4)

    def perfect(given):
        return Run(
            [
                pose.condition(dict(zip(pose.names, truth, strict=True)))
                for pose, truth in zip(given.poses, given.truth, strict=True)
            ]
        )

    found = compare([film], {"perfect": perfect, "raw": raw})
    assert found["perfect"].error == pytest.approx(0, abs=1e-4)
    assert found["perfect"].lag_frames == pytest.approx(0, abs=1e-3)
    assert np.isnan(found["perfect"].coverage)
    distance = np.linalg.norm(np.stack([pose.keypoints for pose in film.poses]) - film.truth, axis=-1)
    assert found["raw"].error == pytest.approx(distance[~film.hidden].mean(), rel=1e-5)
    assert found["raw"].hidden_error == pytest.approx(distance[film.hidden].mean(), rel=1e-5)


MODEL = MotionModel(acceleration=1.0, error_time_s=0.1)  # Of the figure and its errors; films are livelier.


@pytest.mark.parametrize("motion", ["walk", "turn"])
def test_smoothing_is_calm_in_time_and_honest(motion):
    films = [make_film(motion, seconds=5, seed=seed) for seed in (3, 4)]
    found = compare(films, {"raw": raw, "one-euro": one_euro(), "live": kalman(MODEL), "offline": smoother(MODEL)})
    assert found["live"].jitter < 0.4 * found["raw"].jitter
    assert found["live"].lag_frames - found["raw"].lag_frames < 1
    assert found["live"].hidden_error < 0.7 * found["one-euro"].hidden_error
    assert found["live"].nis_in_band > 0.85
    assert found["live"].coverage == pytest.approx(0.95, abs=0.04)
    assert found["offline"].error < found["live"].error < found["one-euro"].error
    assert found["offline"].hidden_error < found["live"].hidden_error


def test_tuning_the_baseline_makes_it_better():
    film = make_film("walk", seconds=3)
    found = compare([film], {"tuned": one_euro(*tune_one_euro([film])), "default": one_euro()})
    assert found["tuned"].error < found["default"].error


def test_the_tool_prints_a_table_of_every_motion(tmp_path):
    out = tmp_path / "smoothing.json"
    command = [sys.executable, "tools/smoothing.py", "--seconds", "2", "--films", "1", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(out.read_text())) == {"walk", "wave", "turn"}
    assert done.stdout.count("| Kalman, live |") == 3
    wrong = subprocess.run(
        [*command, "--believed-error-time=-1"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
