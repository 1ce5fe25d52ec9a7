"""The univariate problem and its command, small."""

import dataclasses
import json

import numpy as np
import pytest

from posecov.learn.experiments import univariate
from posecov.learn.experiments.labels import neighbour_roots
from posecov.learn.experiments.univariate import METHODS, UnivariateConfig, compute, draw, recipe, run_with

TINY = UnivariateConfig(samples=60, epochs=2, batch=32, width=8, neighbours=10)


def test_samples_follow_the_law():
    for function, (_, f) in univariate.FUNCTIONS.items():
        x, y = draw(function, 20000, 0)
        white = (y - f(x)) / np.abs(x)
        np.testing.assert_allclose([white.mean(), white.std()], [0, 1], atol=0.03)


def test_neighbours_see_sigma():
    x, _ = draw("constant", 4000, 0)
    y = np.abs(x) * np.random.default_rng(0).standard_normal(x.shape)
    roots = neighbour_roots(x, y, 200)
    np.testing.assert_allclose(np.polyfit(np.abs(x[:, 0]), roots[:, 0, 0], 1), [1, 0], atol=0.05)


def test_every_method_has_the_same_epochs():
    for method in METHODS:
        assert sum(epochs for _, epochs in recipe(UnivariateConfig(), method).phases()) == UnivariateConfig().epochs


def test_a_cell_is_another_one_when_its_recipe_changes(tmp_path, monkeypatch):
    keys = []
    monkeypatch.setattr(univariate, "run_cell", lambda folder, key, compute: keys.append(json.dumps(key)) or compute())
    monkeypatch.setattr(univariate, "compute", lambda *arguments: pytest.skip("never"))
    for changed in (TINY, dataclasses.replace(TINY, epochs=3), dataclasses.replace(TINY, neighbours=9)):
        with pytest.raises(pytest.skip.Exception):
            run_with(tmp_path, changed, (0,))
    assert len(set(keys)) == 3


def test_errors_are_against_the_truth():
    result = compute(TINY, "growing", "NLL", (0, 1))
    grid = np.array(result["grid"])
    truth = np.abs(grid) * np.sin(2 * np.pi * grid)
    np.testing.assert_allclose(result["mean_error"], np.abs(result["mean"] - truth).mean(1), rtol=1e-4)
    np.testing.assert_allclose(result["sigma_error"], np.abs(result["sigma"] - np.abs(grid)).mean(1), rtol=1e-4)
    assert result["best_nll"] < np.min(result["nll"])


def test_the_command_goes_on_where_it_was(tmp_path, monkeypatch):
    table = run_with(tmp_path, TINY, (0, 1))
    assert table.count("| hybrid |") == 3
    for name in ("univariate.csv", "univariate.md", "univariate.png"):
        assert (tmp_path / name).stat().st_size > 100
    monkeypatch.setattr(univariate, "compute", lambda *arguments: pytest.fail("computed again"))
    assert run_with(tmp_path, TINY, (0, 1)) == table
