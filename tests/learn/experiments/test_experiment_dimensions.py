"""The known law, distances to it, costs, gradients at repeated eigenvalues, and the command."""

import numpy as np
import pytest
import torch

from posecov.learn.benchmarks.measuring import peak_bytes
from posecov.learn.experiments import dimension_checks, dimension_costs, dimensions
from posecov.learn.experiments.dimension_checks import gradient_counts, trials
from posecov.learn.experiments.dimension_costs import exponent, step_cost
from posecov.learn.experiments.dimensions import METHODS, DimensionConfig, compare, make_problem, recipe, run_with


def test_samples_follow_the_law_that_is_said_to_be_theirs():
    train, test = make_problem(4, 6000, 0)
    assert len(test.x) == 1000
    white = np.linalg.solve(np.linalg.cholesky(train.covariance), (train.y - train.mean)[..., None])[..., 0]
    np.testing.assert_allclose(np.cov(white.T), np.eye(4), atol=0.06)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(train.y.std(axis=0), 1)
    # Uniform marginals of unit variance.
    np.testing.assert_allclose(np.abs(train.x).max(), np.sqrt(3), atol=0.01)
    np.testing.assert_allclose(np.sort(train.x[:, 0])[3000], 0, atol=0.1)


def test_distances_to_the_truth():
    _, truth = make_problem(4, 10, 0)
    size = truth.mean.shape[-1]
    mean = np.stack([truth.mean, truth.mean, truth.mean + 0.5])
    covariance = np.stack([truth.covariance, 4 * truth.covariance, truth.covariance])
    got = compare(mean, covariance, truth)
    traces = np.trace(truth.covariance, axis1=1, axis2=2).mean()
    inverse = np.linalg.inv(truth.covariance).sum(axis=(1, 2)).mean()
    np.testing.assert_allclose(got["kl"], [0, size / 2 * (1 / 4 - 1 + np.log(4)), 0.125 * inverse], atol=1e-9)
    np.testing.assert_allclose(got["wasserstein_covariance"], [0, traces, 0], atol=1e-6)
    np.testing.assert_allclose(got["wasserstein"], [0, traces, size / 4], atol=1e-6)
    np.testing.assert_allclose(got["mean_error"], [0, 0, 0.25])
    np.testing.assert_allclose(got["trace"], [1, 4, 1])
    covariance[1, 0] = -np.eye(size)
    broken = compare(mean, covariance, truth)
    assert np.isnan(broken["kl"]).tolist() == [False, True, False]


def test_every_method_has_the_same_epochs():
    for d in dimensions.EPOCHS:
        config = DimensionConfig.standard(d)
        for method in METHODS:
            assert sum(epochs for _, epochs in recipe(config, method).phases()) == config.epochs
        assert config.samples == 1000 * d
    for (kind, _, _), (config, regression) in trials(DimensionConfig.standard(8)).items():
        extra = config.epochs // 2 if kind == "wrong mean" else 0
        assert sum(epochs for _, epochs in regression.phases()) == config.epochs + extra


def test_exponents_are_fitted_above_the_fixed_costs():
    ds = (4, 8, 12, 16, 32)
    np.testing.assert_allclose(exponent(ds, [9.0, 9.0, *(2.0 * d**3.5 for d in ds[2:])]), 3.5)
    assert exponent(ds, [1.0, 1.0, 1.0, None, None]) is None


def test_memory_of_a_step_is_what_is_held_at_once():
    def call():
        first = torch.ones(2**20)
        second = first + 1
        del first
        return second + 1

    assert 8 <= peak_bytes(call) / 2**20 < 8.1
    cost = step_cost(4, "wasserstein-bound", "none", repeats=1)
    assert step_cost(4, "nll", "exact", repeats=1)["mb"] > 2 * cost["mb"] > 0


def test_only_autograd_fails_at_repeated_eigenvalues():
    naive = gradient_counts(4, "2-W by autograd", draws=10)
    assert naive["both isotropic"]["nonfinite"] == 10
    assert naive["generic"]["nonfinite"] == 0
    for name in ("wasserstein", "wasserstein-bound", "wasserstein-symmetric", "wasserstein-procrustes"):
        counts = gradient_counts(4, name, draws=10)
        assert all(counts[place]["nonfinite"] + counts[place]["exploding"] == 0 for place in dimension_checks.PLACES)


def test_the_naive_form_stops_where_it_is_too_dear(tmp_path, monkeypatch):
    monkeypatch.setattr(dimension_costs, "METHODS", {"naive": ("nll", "naive")})
    monkeypatch.setattr(dimension_costs, "step_cost", lambda d, loss, tic: {"ms": 1e3 * d, "mb": 1.0})
    found = dimension_costs.measure(tmp_path, (4, 12, 16, 20), lambda status: None)
    assert [found[d, "naive"]["ms"] for d in (4, 12, 16, 20)] == [4000.0, 12000.0, None, None]


def test_the_command_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(dimension_checks, "GRADIENTS", ("wasserstein-bound",))
    table = run_with(tmp_path, (4,), (0,), True)
    for name in ("dimensions.csv", "dimensions.md", "dimensions.png"):
        assert (tmp_path / name).stat().st_size > 100
    assert "| NLL:TIC, naive autograd |" in table
    monkeypatch.setattr(dimensions, "compute", lambda *arguments: pytest.fail("computed again"))
    monkeypatch.setattr(dimension_costs, "step_cost", lambda *arguments: pytest.fail("computed again"))
    assert run_with(tmp_path, (4,), (0,), True) == table
