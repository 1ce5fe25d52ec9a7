"""The UCI experiment: the fixed recipe, the protocol and the report, on drawn tables."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from posecov.errors import PosecovError
from posecov.learn.experiments import uci, uci_recipe, uci_report
from posecov.learn.experiments.uci_reach import fit_reach
from posecov.learn.experiments.uci_recipe import RecipeConfig, fit_means, fit_recipe, fresh_residuals, smoothed_likelihood
from posecov.learn.experiments.uci_tables import Table, split_table
from posecov.learn.regression import RegressionConfig, evaluate

MEAN = RegressionConfig(loss="mse", epochs=20, batch=64, learning_rate=3e-3, schedule="cosine", width=16, blocks=1)
RECIPE = RecipeConfig(mean=MEAN, folds=2, phase1_epochs=25, phase2_epochs=25, learning_rate=5e-3)


def draw(rows: int, seeds=(0, 1)) -> tuple[np.ndarray, np.ndarray]:
    """x (M, N, 1), y (M, N, 2): correlated noise whose size doubles where x > 0."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, size=(len(seeds), rows, 1))
    noise = rng.standard_normal((len(seeds), rows, 2)) @ np.array([[0.3, 0.2], [0.0, 0.1]])
    return x, np.concatenate([x, -x], axis=-1) + noise * np.where(x > 0, 2.0, 1.0)


@pytest.fixture(scope="module")
def fitted():
    x, y = draw(600)
    return fit_recipe(RECIPE, x, y, (0, 1))


def test_the_recipe_finds_size_and_correlation_of_the_noise_on_new_rows(fitted):
    x, y = draw(2000)
    mean, covariance = fitted.predict(x[:, 600:])
    truth = np.array([[0.3, 0.2], [0.0, 0.1]])
    truth = truth.T @ truth
    calm = x[0, 600:, 0] < -0.2
    wild = x[0, 600:, 0] > 0.2
    for member in range(2):
        calm, wild = x[member, 600:, 0] < -0.2, x[member, 600:, 0] > 0.2
        ratio = np.trace(covariance[member, wild].mean(0)) / np.trace(covariance[member, calm].mean(0))
        assert 2.5 < ratio < 6.0
        found = covariance[member, calm].mean(0)
        assert found[0, 1] / math.sqrt(found[0, 0] * found[1, 1]) == pytest.approx(
            truth[0, 1] / math.sqrt(truth[0, 0] * truth[1, 1]), abs=0.2
        )
    nll = evaluate(mean, covariance, y[:, 600:])["nll"]
    moment = np.swapaxes(y[:, 600:] - mean, 1, 2) @ (y[:, 600:] - mean) / 1400
    assert (nll < evaluate(mean, np.broadcast_to(moment[:, None], covariance.shape), y[:, 600:])["nll"] - 0.1).all()


def test_the_covariance_starts_at_that_of_the_fresh_residuals():
    x, y = draw(200)
    config = dataclasses.replace(RECIPE, phase1_epochs=0, phase2_epochs=0, ridge=0.0, floor=0.0)
    fresh = fit_means(config, x, y, (0, 1)).fresh
    covariance = fit_recipe(config, x, y, (0, 1)).predict(x)[1]
    moments = np.swapaxes(fresh, 1, 2) @ fresh / 200
    np.testing.assert_allclose(covariance.mean(axis=1), moments, rtol=0.25, atol=0.02)


def test_fresh_residuals_come_from_means_that_have_not_seen_the_row():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 64, 3)), rng.normal(size=(1, 64, 2))
    config = dataclasses.replace(RECIPE, folds=4, mean=dataclasses.replace(MEAN, epochs=150, width=48, batch=16))
    fresh = fresh_residuals(config, x, y, (0,))[1]
    seen = fit_means(config, x, y, (0,)).whole.predict(x)[0] - y
    # Pure noise: what is learned by heart is small on seen rows, and larger than the noise itself on fresh ones.
    assert np.square(seen).mean() < 0.6 * np.square(y).mean()
    assert np.square(fresh).mean() > np.square(y).mean()


def test_the_mean_is_the_average_of_all_means_of_a_member():
    x, y = draw(40)
    means = fit_means(RECIPE, x, y, (0, 1))
    whole, parts = means.whole.predict(x)[0], means.parts.predict(np.repeat(x, RECIPE.folds, axis=0))[0]
    second = parts[RECIPE.folds :]
    average = np.concatenate([whole[1:], second]).mean(axis=0)
    np.testing.assert_allclose(means.predict(x)[1], means.centre[1] + (average - means.centre[1]) @ means.drawn[1])


def test_predictions_that_do_not_carry_to_new_rows_are_drawn_back_along_their_axis():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    signal, noise, heart = rng.normal(size=(1, 4000, 3)), rng.normal(size=(1, 4000, 3)), rng.normal(size=(1, 4000, 3))
    # An exact relation; a prediction twice as large as it should be; one that has nothing to do with the target.
    said = np.stack([signal[..., 0], 2 * signal[..., 1], heart[..., 2]], axis=-1)
    truth = signal + noise * [0.0, 0.5, 3.0]
    drawn = uci_recipe.drawn_back(truth @ axes, (truth - said) @ axes)
    np.testing.assert_allclose(drawn[0], axes.T @ np.diag([1.0, 0.5, 0.0]) @ axes, atol=0.06)


def test_folds_need_rows():
    x, y = draw(6)
    with pytest.raises(PosecovError, match="folds: 4 of 6 rows"):
        fresh_residuals(dataclasses.replace(RECIPE, folds=4), x, y, (0, 1))


def test_the_smoothed_likelihood_lies_between_the_nll_and_the_likelihood_of_the_pseudo_label():
    generator = torch.Generator().manual_seed(0)
    residual = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    factor, root = (torch.randn(5, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    covariance = factor @ factor.mT + 0.1 * torch.eye(3)
    law = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance)
    nll = -law.log_prob(residual) - 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(smoothed_likelihood(residual, covariance, root, 1.0), nll)
    expected = 0.5 * (torch.logdet(covariance) + torch.linalg.solve(covariance, root @ root.mT).diagonal(dim1=1, dim2=2).sum(1))
    torch.testing.assert_close(smoothed_likelihood(residual, covariance, root, 0.0), expected)
    torch.testing.assert_close(smoothed_likelihood(residual, covariance, root, 0.25), 0.25 * nll + 0.75 * expected)


@pytest.mark.parametrize(("rows", "steps", "expected"), [(1040, 24, 130), (36733, 24, 511), (100, 24, 100), (8000, 24, 334)])
def test_batches_of_an_epoch_are_equally_large(rows, steps, expected):
    batch = uci.batch_size(rows, steps)
    assert batch == expected
    assert rows % batch == 0 or rows % batch > batch / 2


def test_wide_inputs_keep_what_the_inputs_say():
    rng = np.random.default_rng(0)
    split = split_table(Table("toy", rng.normal(size=(200, 8))), 0, 0.2)
    stacked = uci.Split(*(part[None] for part in (split.x, split.y, split.held_out_x, split.held_out_y)))
    wide = uci.widened(stacked, (0,))
    assert wide.x.shape == (1, 160, 100)
    # One map for both parts: what undoes it on the training rows undoes it on the held-out rows.
    back = np.linalg.lstsq(wide.x[0], split.x, rcond=None)[0]
    assert np.square(wide.held_out_x[0] @ back - split.held_out_x).mean() < 0.01


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "uci" / "concrete"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(60, 2))
    values = hidden @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(60, 5))
    (folder / "Concrete_Data.csv").write_text("a,b,c,d,e\n" + "\n".join(",".join(f"{v:.6f}" for v in row) for row in values))
    return folder.parent.parent


@pytest.fixture(scope="module")
def config() -> uci.UciConfig:
    short = dataclasses.replace(RecipeConfig(), folds=2, phase1_epochs=1, phase2_epochs=1)
    return uci.UciConfig(rows=50, epochs=2, recipe=short, width=6)


@pytest.fixture(scope="module")
def finished(root, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    text = uci.run_with(
        folder, root, config, ["concrete"], (*uci.METHODS, uci.RECIPE), (0, 1), (0, 1, 2), ["concrete"], (0, 1, 2, 3)
    )
    return folder, text


def test_every_method_is_judged(finished):
    folder, text = finished
    assert (folder / "uci.png").stat().st_size > 10_000
    rows = (folder / "uci.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * (len(uci.METHODS) + 1) + 2 * 4 + 3 + 2 * 2 * len(uci.VARIANTS)
    assert "trial by trial" in text
    for method in (*uci.METHODS, uci.RECIPE):
        assert f"| {method} | " in text
    assert "8.96" in text  # the papers' 2-W bound on this table
    assert "Evaluation jitter**: 0.001" in text
    assert "hybrid, random neighbours" in text
    assert "concrete, 100 inputs" in text


def test_finished_cells_are_not_computed_again(finished, root, config, monkeypatch):
    folder, text = finished

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(uci, "compute_cell", never)
    monkeypatch.setattr(uci, "compute_ablation", never)
    again = uci.run_with(
        folder, root, config, ["concrete"], (*uci.METHODS, uci.RECIPE), (0, 1), (0, 1, 2), ["concrete"], (0, 1, 2, 3)
    )
    assert again == text
    with pytest.raises(AssertionError, match="computed again"):
        uci.run_with(folder, root, dataclasses.replace(config, jitter=0.1), ["concrete"], ["mse"], (0, 1), (), [])


def test_rows_of_both_protocols(root, config):
    table = uci.read_table(root, "concrete")
    held, whole = uci.trials(config, table, uci.HELD_OUT, (0, 1)), uci.trials(config, table, uci.WHOLE, (0,))
    assert (held.x.shape[:2], held.held_out_x.shape[:2]) == ((2, 40), (2, 10))
    assert (whole.x.shape[:2], whole.held_out_x.shape[:2]) == ((1, 60), (1, 0))
    seen = uci.compute_cell(config, table, uci.WHOLE, "mse", (0, 1))
    np.testing.assert_array_equal(seen["mse"], seen["train_mse"])
    judged = uci.compute_cell(config, table, uci.HELD_OUT, "mse", (0, 1))
    assert (judged["mse"] != judged["train_mse"]).all()


def test_trials_that_were_computed_apart_are_one():
    first, second = cell("hybrid", [1.0, 2.0], protocol="whole table"), cell("hybrid", [3.0, 4.0], protocol="whole table")
    (one,) = uci_report.merged([first, second])
    assert (one["nll"], one["seconds"], one["rows"], len(one["effective"])) == ([1.0, 2.0, 3.0, 4.0], 2.0, 9, 4)


def cell(method: str, nll: list[float | None], table: str = "concrete", protocol: str = "held out", mse: float = 0.7) -> dict:
    figures = {"nll": nll, "mse": [mse] * len(nll), "tac": nll}
    figures |= {f"train_{name}": values for name, values in figures.items()}
    facts = {"seeds": [0, 1], "rows": 9, "batch": 9, "seconds": 1.0, "nonfinite": [0, 0], "effective": [5.0, 5.0]}
    return {"table": table, "method": method, "protocol": protocol, **facts, **figures}


def test_a_win_is_a_lower_mean_and_a_rival_that_fails_is_beaten():
    tables = {"concrete": Table("concrete", np.zeros((3, 9))), "energy": Table("energy", np.zeros((3, 10)))}
    results = [
        cell("hybrid", [1.0, 3.0]), cell("faithful", [2.0, 2.5]), cell("nll-tic", [None, 0.0]),
        cell("hybrid", [1.0, 1.0], "energy"), cell("faithful", [0.0, 0.0], "energy"), cell("nll-tic", [2.0, 2.0], "energy"),
    ]  # fmt: skip
    text = uci_report._wins(tables, results)
    assert "| faithful | 2 | 1 of 2 | 0 of 2 |" in text
    assert "| nll-tic | 2 | 2 of 2 | 1 of 2 |" in text
    assert "both Faithful and NLL:TIC on 1 of 2" in text


def test_methods_are_compared_on_the_trials_that_both_have():
    tables = {"concrete": Table("concrete", np.zeros((3, 9)))}
    more = {"seeds": [5, 1, 0, 6], "nonfinite": [0] * 4, "effective": [5.0] * 4}
    hybrid = {**cell("hybrid", [9.0, 1.0, 3.0, 2.0]), **more}
    results = [hybrid, cell("faithful", [4.0, 2.0]), cell("nll-tic", [2.0, 0.5])]  # of seeds 0 and 1
    assert "| faithful | 2 | 1 of 1 | 1 of 1 |" in uci_report._wins(tables, results)
    assert "| concrete | -1.00 ± 0.00 | -1.00 | 2 of 2 | +0.75 ± 0.25 | +0.75 | 0 of 2 |" in uci_report._margins(
        tables, results
    )
    assert "| hybrid | 2.00 ± 1.41 |" in uci_report._all_losses(tables, results, "nll", 2)


def test_far_from_all_rows_the_covariance_widens():
    x, y = draw(200)
    config = dataclasses.replace(RECIPE, phase1_epochs=0, phase2_epochs=0)
    wide, plain = (fit_recipe(dataclasses.replace(config, widening=w), x, y, (0, 1)) for w in (0.1, 0.0))
    near, far = x[:, :50], np.full((2, 1, 1), 30.0)
    added = wide.predict(far)[1] - plain.predict(far)[1]
    for member in range(2):
        moments = wide.frame[member] @ wide.frame[member]
        excess = wide.reach[member].excess(far[member])
        assert excess > 1000.0
        np.testing.assert_allclose(added[member, 0], 0.1 * excess * moments, rtol=1e-9)
    unchanged = (wide.predict(near)[1] == plain.predict(near)[1]).all(axis=(2, 3))
    assert unchanged.mean() > 0.9


def test_rows_that_all_have_doubles_still_have_a_reach():
    reach = fit_reach(np.repeat(np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 5.0]]), 10, axis=0))
    assert (reach.excess(np.array([[0.0, 1.0], [1.0, 0.0]])) == 0).all()
    assert np.isfinite(reach.excess(np.array([[0.5, 0.5]]))).all()


@pytest.mark.parametrize(
    ("nll", "mse", "verdict"), [(8.96, 0.74, "| yes | yes |"), (8.97, 0.74, "| no |"), (8.0, 0.75, "| no |")]
)
def test_the_papers_figures_are_reached_or_not(nll, mse, verdict):
    tables = {"concrete": Table("concrete", np.zeros((3, 9)))}
    text = uci_report._against_paper(tables, [cell("hybrid", [nll, nll], protocol="whole table", mse=mse)])
    assert verdict in text


def test_unknown_losses_and_missing_data_are_named(root, config, tmp_path, monkeypatch):
    with pytest.raises(PosecovError, match="'nlll' is none of"):
        uci.run_with(tmp_path, root, config, ["concrete"], ["nlll"], (0,), (), [])
    monkeypatch.delenv("POSECOV_DATA", raising=False)
    with pytest.raises(PosecovError, match="give --data-root"):
        uci.run(uci.UciOptions(out=str(tmp_path)))


def test_a_covariance_that_turns_out_not_finite_stops_with_its_batch(monkeypatch):
    x, y = draw(40)
    monkeypatch.setattr(uci_recipe, "wasserstein_bound", lambda factor, root: factor.sum((-1, -2)) * math.nan)
    with pytest.raises(PosecovError, match="phase 1, epoch 1, batch 1"):
        fit_recipe(dataclasses.replace(RECIPE, mean=dataclasses.replace(MEAN, epochs=1)), x, y, (0, 1))
