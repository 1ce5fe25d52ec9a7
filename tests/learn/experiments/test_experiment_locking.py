"""The bivariate problem: NLL and KL lock, the bound does not, and runs that diverge stand alone."""

import numpy as np
import pytest

from posecov.learn.experiments import locking
from posecov.learn.experiments.cells import Options
from posecov.learn.experiments.locking import LockingConfig, descend, describe, summary, true_covariance

SHORT = {"rates": (0.03,), "steps": 100, "seeds": (0, 1)}


@pytest.mark.parametrize("truth", locking.TRUTHS)
@pytest.mark.parametrize("loss", ["nll", "kl"])
def test_likelihoods_lock_and_the_bound_does_not(loss, truth):
    locked = LockingConfig(loss, truth, **SHORT)
    free = LockingConfig("wasserstein-bound", truth, **SHORT)
    bad, good = summary(locked, descend(locked)), summary(free, descend(free))
    assert np.max(bad["smallest_angle"]) < 5
    assert np.isinf(bad["arrival"]).all()
    assert np.min(bad["final"]["distance"]) > 5
    assert np.max(good["arrival"]) < 80
    assert np.max(good["final"]["wasserstein"]) < 0.1
    # Never nearer to the residual than the true axis is.
    assert np.min(good["smallest_angle"]) > (15 if truth == "tilted" else 70)


def test_the_bound_is_the_distance_from_an_isotropic_start():
    paths = [descend(LockingConfig(loss, **SHORT))["covariance"] for loss in ("wasserstein", "wasserstein-bound")]
    np.testing.assert_allclose(*paths, atol=1e-4)


def test_the_bound_moves_the_mean_as_squared_error_does_and_leaves_the_angle():
    bound = descend(LockingConfig("wasserstein-bound", **SHORT))
    squared = descend(LockingConfig("nll", warmup=SHORT["steps"], **SHORT))
    np.testing.assert_allclose(bound["mean"], squared["mean"], atol=1e-12)
    # With either truth, the main axis is the true one from the first step on, whatever the residual.
    for truth in locking.TRUTHS:
        found = descend(LockingConfig("wasserstein-bound", truth, **SHORT))
        error = describe(found["mean"], found["covariance"], truth)["axis_error"]
        np.testing.assert_allclose(error[..., 1:], 0, atol=0.1)


def test_angles_count_from_the_first_step_with_the_loss_itself():
    config = LockingConfig("nll", "orthogonal", warmup=30, rates=(0.03,), steps=60, seeds=(0,))
    found = descend(config)
    angles = describe(found["mean"], found["covariance"], "orthogonal")["residual_angle"][0, 0]
    want = np.nanmin(angles[found["step"] > 30])
    np.testing.assert_allclose(summary(config, found)["smallest_angle"], [[want]])
    assert want > 50 > angles[found["step"] == 30][0]


def test_a_warm_up_moves_the_mean_alone():
    found = descend(LockingConfig("nll", warmup=30, rates=(0.03,), steps=30, seeds=(0,)))
    np.testing.assert_array_equal(found["covariance"][0, 0, -1], np.eye(2))
    assert np.linalg.norm(found["mean"][0, 0, -1] + 3) < 2


def test_a_diverging_run_does_not_spoil_the_others():
    config = LockingConfig("nll", rates=(0.03, 1e200), steps=30, seeds=(0,))
    found = descend(config)
    assert found["nonfinite"].tolist() == [[False], [True]]
    alone = descend(LockingConfig("nll", rates=(0.03,), steps=30, seeds=(0,)))
    np.testing.assert_array_equal(found["mean"][0], alone["mean"][0])
    assert np.array(summary(config, found)["diverged"]).tolist() == [[False], [True]]


def test_description_of_a_prediction():
    truth = true_covariance("tilted")
    values, vectors = np.linalg.eigh(truth)
    np.testing.assert_allclose(np.sqrt(values), sorted(locking.SIGMAS))
    facts = describe(np.array(locking.START), 4 * truth, "tilted")
    np.testing.assert_allclose(facts["residual_angle"], 30)
    np.testing.assert_allclose(facts["axis_error"], 0, atol=1e-4)
    np.testing.assert_allclose(facts["elongation"], locking.SIGMAS[0] / locking.SIGMAS[1])
    # Commuting: the roots differ by one root of the truth.
    np.testing.assert_allclose(facts["wasserstein"], 72 + np.trace(truth))
    other = np.array([[1.0, 0.3], [0.3, 2.0]])
    root = (vectors * np.sqrt(values)) @ vectors.T
    bures = np.trace(other) + np.trace(truth) - 2 * np.sqrt(np.linalg.eigvalsh(root @ other @ root)).sum()
    np.testing.assert_allclose(describe(np.array(locking.TRUE_MEAN), other, "tilted")["wasserstein"], bures)


def test_the_command_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(
        locking, "cells", lambda options: [LockingConfig(m, t, **SHORT) for m in locking.METHODS for t in locking.TRUTHS]
    )
    table = locking.run(Options(out=str(tmp_path)))
    assert table.count("| sgd, ") == 8
    for name in ("locking.csv", "locking.md", "locking.png", "locking-orthogonal.png", "locking-curves.png"):
        assert (tmp_path / name).stat().st_size > 100
    monkeypatch.setattr(locking, "descend", lambda config: pytest.fail("computed again"))
    assert locking.run(Options(out=str(tmp_path))) == table
