"""Training of stacked regression networks: members, phases, the covariance's parts, the guard, bad input, metrics."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from posecov.errors import PosecovError
from posecov.learn import regression, regression_network
from posecov.learn.losses import LOSSES
from posecov.learn.regression import RegressionConfig, Regressor, evaluate, fit
from posecov.learn.taylor import exact_terms

SMALL = {"width": 8, "blocks": 1, "batch": 16, "epochs": 2, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 3))
    y = x[:, :2] + 0.5 * rng.standard_normal((50, 2))
    return x, y, np.broadcast_to(0.5 * np.eye(2), (50, 2, 2))


def patched(monkeypatch, name, change):
    """Pass a loss's values (M, B) and the prediction through ``change``."""
    loss = LOSSES[name]

    def function(prediction, target, degrees_of_freedom=None):
        return change(loss.function(prediction, target, degrees_of_freedom), prediction)

    losses = dict(LOSSES) | {name: loss._replace(function=function)}
    monkeypatch.setattr(regression, "LOSSES", losses)
    monkeypatch.setattr(regression_network, "LOSSES", losses)


@pytest.fixture
def doubles(monkeypatch):
    """Training in float64, whose rounding is too small for Adam.

    In float32 the gradient of an offset that BatchNorm takes away again, 0 but for rounding, is as large as Adam's epsilon and
    becomes whole steps. Running statistics lag behind those, so that Taylor terms, and what learns from them, differ by a
    few hundredths between a stack and its members, on one processor more than on another.
    """
    before, checked = torch.get_default_dtype(), regression._checked
    torch.set_default_dtype(torch.float64)

    def doubled(*arguments):
        return tuple(None if part is None else part.double() for part in checked(*arguments))

    monkeypatch.setattr(regression, "_checked", doubled)
    yield
    torch.set_default_dtype(before)


def assert_same(together, member, alone, x):
    """A member of a stack is the fit of its seed alone, x (N, m)."""
    x = torch.from_numpy(x).double()
    with torch.no_grad():
        whole = together.network.eval().outputs_at(x.expand(len(together.network.seeds), -1, -1))
        single = alone.network.eval().outputs_at(x[None])
    for stacked, own in zip(whole, single, strict=True):
        torch.testing.assert_close(stacked[member], own[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"clip": 0.5},
        {"shared": True},
        {"tic": "exact", "pretrain_loss": "wasserstein-bound", "pretrain_epochs": 1},
        {"warmup_mean_epochs": 1},
    ],
)
def test_a_member_of_a_stack_is_the_fit_of_its_seed(data, doubles, change):
    config = RegressionConfig(loss="nll", start=1.0, floor=0.3, **(SMALL | change))
    both, alone, fresh = fit(config, *data, (3, 4)), fit(config, *data, (4,)), Regressor(config, 3, 2, (3, 4))
    assert_same(both, 1, alone, data[0])
    assert (fresh.mean.output.weight - both.network.mean.output.weight).abs().amax(dim=(1, 2)).min() > 1e-2
    assert (both.network.mean.input.weight[0] - both.network.mean.input.weight[1]).abs().max() > 0.1
    np.testing.assert_allclose(both.history[-1]["loss"][1], alone.history[-1]["loss"][0], rtol=1e-5)


def test_members_with_samples_of_their_own(data, doubles):
    x, y, roots = data
    other = np.stack([x, -x]), np.stack([y, 2 * y]), np.stack([roots, roots])
    config = RegressionConfig(start=1.0, **SMALL)
    assert_same(fit(config, *other, (3, 4)), 1, fit(config, -x, 2 * y, roots, (4,)), -x)


def test_mean_and_covariance_network_start_apart(data):
    network = Regressor(RegressionConfig(loss="nll", **SMALL), 3, 2, (0, 1))
    starts = [n.input.weight[m] for n in (network.mean, network.head) for m in (0, 1)]
    assert min((a - b).abs().max() for i, a in enumerate(starts) for b in starts[:i]) > 0.1


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_member_that_is_not_finite_is_left_alone_and_counted(data, doubles, monkeypatch, where):
    def change(losses, prediction):
        first = losses[:1] * math.nan
        if where == "gradient":
            first = losses[:1] + (0.0 * prediction.mean[:1].sum(-1)).sqrt()  # finite, with the gradient 0 * infinity
        return torch.cat([first, losses[1:]])

    config = RegressionConfig(loss="nll", start=1.0, floor=0.3, on_nonfinite="count", **SMALL)
    untrained = Regressor(config, 3, 2, (3, 4))
    alone = fit(config, *data, (4,))
    patched(monkeypatch, "nll", change)
    fitted = fit(config, *data, (3, 4))
    assert fitted.nonfinite.tolist() == [8, 0]
    for trained, fresh in zip(fitted.network.parameters(), untrained.parameters(), strict=True):
        assert torch.equal(trained[0], fresh[0])
    assert_same(fitted, 1, alone, data[0])
    assert not fitted.largest_gradient[0]
    with pytest.raises(
        PosecovError,
        match=r"phase 1 \(nll\), epoch 1, batch 1, seed 3: " + ("no finite" if where == "loss" else "the gradient of mean"),
    ):
        fit(RegressionConfig(loss="nll", start=1.0, **SMALL), *data, (3, 4))


def test_a_covariance_without_cholesky_is_blamed_on_its_member(data, monkeypatch):
    whole = Regressor.prediction

    def prediction(self, *arguments):
        made = whole(self, *arguments)
        return made._replace(covariance=torch.cat([made.covariance[:1], -made.covariance[1:]]))

    monkeypatch.setattr(Regressor, "prediction", prediction)
    fitted = fit(RegressionConfig(loss="nll", on_nonfinite="count", start=1.0, **SMALL), *data, (3, 4))
    assert fitted.nonfinite.tolist() == [0, 8]
    with pytest.raises(PosecovError, match=r"seed 4: no finite loss \(covariance: not positive definite"):
        fit(RegressionConfig(loss="nll", start=1.0, **SMALL), *data, (3, 4))


@pytest.mark.parametrize("coefficients", ["square", "softplus"])
def test_covariance_is_the_factor_the_taylor_terms_and_the_floor(data, coefficients):
    config = RegressionConfig(loss="nll", tic="exact", coefficients=coefficients, floor=0.1, jitter=0.2, start=0.3, **SMALL)
    network = Regressor(config, 3, 2, (0, 1)).eval()
    x = torch.from_numpy(data[0]).float().expand(2, -1, -1)
    with torch.no_grad():
        raw, terms = network.head(x).double(), exact_terms(network.mean, x)
        c = raw[..., 4:]
        k = torch.nn.functional.softplus(c) if coefficients == "softplus" else c.square()
        a = raw[..., :4].unflatten(-1, (2, 2)) + 0.3 * torch.eye(2)
        want = a @ a.mT + k[..., :1, None] * terms.gradient + k[..., 1:, None] * terms.curvature + 0.1 * torch.eye(2)
        mean, outputs = network.outputs_at(x)
        got = network.prediction(mean, outputs, network.terms(x, None), "nll").covariance
        factor = network.prediction(mean, outputs, network.terms(x, None), "wasserstein-bound").factor
    torch.testing.assert_close(got, want.double(), atol=1e-6, rtol=1e-5)
    # The factor that the bound sees has the covariance's own variances.
    torch.testing.assert_close(
        factor.square().sum(-1), torch.diagonal(want - 0.1 * torch.eye(2), dim1=-2, dim2=-1), atol=1e-6, rtol=1e-5
    )
    predicted = regression.Fitted(network).predict(data[0])[1]
    np.testing.assert_allclose(predicted, want.numpy() + 0.2 * np.eye(2), atol=1e-5)


def test_taylor_terms_can_stay_out_of_the_bound(data):
    config = RegressionConfig(loss="wasserstein-bound", tic="exact", bound_terms="left out", **SMALL)
    network = Regressor(config, 3, 2, (0,))
    x = torch.from_numpy(data[0]).float()[None]
    mean, raw = network.outputs_at(x)
    assert network.prediction(mean, raw, network.terms(x, None), "wasserstein-bound").factor.shape[-1] == 2


def test_forms_of_the_covariance(data):
    network = Regressor(RegressionConfig(loss="nll-precision", floor=0.5, jitter=0.25, start=1.0, **SMALL), 3, 2, (0,)).eval()
    x = torch.from_numpy(data[0]).float()[None]
    with torch.no_grad():
        factor = network.prediction(*network.outputs_at(x), None, "nll-precision").factor
    covariance = regression.Fitted(network).predict(data[0])[1]
    want = np.linalg.inv((factor @ factor.mT).numpy()) + 0.25 * np.eye(2)
    np.testing.assert_allclose(covariance, want, rtol=1e-5)
    diagonal = fit(RegressionConfig(loss="beta-nll", **SMALL), *data).predict(data[0])[1]
    assert (diagonal[..., 0, 1] == 0).all()
    np.testing.assert_array_equal(fit(RegressionConfig(loss="mse", **SMALL), *data).predict(data[0])[1][0, 0], np.eye(2))
    student = RegressionConfig(loss="student-t", degrees_of_freedom=4.0, jitter=0.0, **SMALL)
    network = Regressor(student, 3, 2, (0,)).eval()
    with torch.no_grad():
        scatter = network.prediction(*network.outputs_at(x), None, "student-t").covariance
    np.testing.assert_allclose(regression.Fitted(network).predict(data[0])[1], 2 * scatter.numpy(), rtol=1e-6)


def test_a_wrong_mean_stays_wrong_by_just_that(data):
    settings = {"loss": "nll", "warmup_mean_epochs": 3, "start": 1.0, **SMALL}
    right = fit(RegressionConfig(freeze_mean=True, **settings), *data)
    wrong = fit(RegressionConfig(wrong_mean=2.0, **settings), *data)
    np.testing.assert_allclose(wrong.predict(data[0])[0], right.predict(data[0])[0] + 2.0, atol=1e-5)
    assert [row["phase"] for row in wrong.history] == ["mse"] * 3 + ["nll"] * 2
    free = fit(RegressionConfig(**settings), *data)
    assert np.abs(free.predict(data[0])[0] - right.predict(data[0])[0]).max() > 1e-3


@pytest.mark.parametrize("first", ["student-t", "kl", "wasserstein", "faithful", "mse"])
def test_any_loss_of_the_same_form_may_come_first(data, first):
    config = RegressionConfig(loss="nll", pretrain_loss=first, pretrain_epochs=1, start=1.0, **SMALL)
    fitted = fit(config, *data)
    assert [row["phase"] for row in fitted.history] == [first, "nll", "nll"]
    assert (np.linalg.eigvalsh(fitted.predict(data[0])[1]) > 0).all()


def test_finetuning_moves_less_than_the_phase_before_it(data):
    first = {"pretrain_loss": "wasserstein-bound", "pretrain_epochs": 2, "start": 1.0}

    def weights(**changes):
        fitted = fit(RegressionConfig(loss="nll", **(SMALL | first | changes)), *data)
        return torch.cat([p.detach().flatten() for p in fitted.network.parameters()])

    before = weights(epochs=0)
    assert (weights(finetuning=1e-6) - before).abs().max() < 1e-6
    assert (weights(finetuning=1.0) - before).abs().max() > 1e-3
    # Without a pretraining there is nothing to finetune.
    alone = {"pretrain_epochs": 0, "pretrain_loss": ""}
    assert torch.equal(weights(finetuning=1e-6, **alone), weights(**alone))


def test_a_single_sample_can_be_predicted(data):
    fitted = fit(RegressionConfig(loss="nll", tic="exact", start=1.0, **SMALL), *data)
    for one, all_ in zip(fitted.predict(data[0][:1]), fitted.predict(data[0]), strict=True):
        np.testing.assert_allclose(one[:, 0], all_[:, 0], atol=1e-5)


def test_a_gradient_is_clipped_for_each_member(data):
    config = RegressionConfig(loss="nll", start=1.0, **SMALL)
    network = Regressor(config, 3, 2, (3, 4))
    fitted = regression.Fitted(network, [], np.zeros(2, dtype=np.int64), np.zeros(2))
    steps = regression.StackedSteps(network, "nll", RegressionConfig(clip=1e-3), fitted)
    x, y = (torch.from_numpy(part[:16]).float().expand(2, -1, -1) for part in data[:2])
    steps.step(x * torch.tensor([1.0, 3.0]).view(2, 1, 1), y, None, "")
    norms = torch.stack([p.grad.flatten(1).norm(dim=1) for p in network.parameters()]).norm(dim=0)
    torch.testing.assert_close(norms, torch.full((2,), 1e-3))
    assert abs(fitted.largest_gradient[0] - fitted.largest_gradient[1]) > 0.01
    assert fitted.largest_gradient.min() > 0.01


def test_the_hybrid_learns_where_the_noise_is():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, size=(600, 1))
    sigma = np.where(x > 0, 1.0, 0.2)
    y = x + sigma * rng.standard_normal((600, 1))
    config = RegressionConfig(
        loss="nll", pretrain_loss="wasserstein-bound", pretrain_epochs=10, epochs=10, width=16, blocks=1, batch=64,
        learning_rate=1e-2, schedule="cosine", warmup_steps=5, clip=1.0,
    )  # fmt: skip
    fitted = fit(config, x, y, sigma[:, :, None], (0, 1))
    assert [(row["phase"], row["epoch"]) for row in fitted.history] == [
        (loss, epoch + 1) for loss in ("wasserstein-bound", "nll") for epoch in range(10)
    ]
    mean, covariance = fitted.predict(np.array([[-0.6], [0.6]]))
    np.testing.assert_allclose(np.sqrt(covariance[:, :, 0, 0]), [[0.2, 1.0]] * 2, rtol=0.25)
    np.testing.assert_allclose(mean[:, :, 0], [[-0.6, 0.6]] * 2, atol=0.25)


def test_metrics_against_their_definitions():
    rng = np.random.default_rng(2)
    mean, y = rng.standard_normal((2, 5, 3)), rng.standard_normal((5, 3))
    factor = rng.standard_normal((2, 5, 3, 4))
    covariance = factor @ np.swapaxes(factor, -1, -2)
    got = evaluate(mean, covariance, y)
    for m in range(2):
        nll = [-stats.multivariate_normal(mean[m, n], covariance[m, n]).logpdf(y[n]) for n in range(5)]
        left = []
        for n in range(5):
            for i in range(3):
                others = [j for j in range(3) if j != i]
                s, r = covariance[m, n], y[n] - mean[m, n]
                left.append(abs(r[i] - s[i, others] @ np.linalg.solve(s[np.ix_(others, others)], r[others])))
        np.testing.assert_allclose(got["nll"][m], np.mean(nll))
        np.testing.assert_allclose(got["tac"][m], np.mean(left))
        np.testing.assert_allclose(got["mse"][m], np.square(y - mean[m]).mean())
    covariance[1, 3] = np.nan
    broken = evaluate(mean, covariance, y)
    assert np.isnan(broken["nll"][1])
    assert broken["nll"][0] == got["nll"][0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch": 1}, "batch"),
        ({"loss": "nil"}, "loss: 'nil'"),
        ({"loss": "nll-precision", "tic": "exact"}, "tic"),
        ({"tic": "exact", "shared": True}, "tic"),
        ({"pretrain_loss": "beta-nll", "pretrain_epochs": 1}, "pretrain_loss"),
        ({"pretrain_epochs": 1}, "pretrain_epochs"),
        ({"wrong_mean": 1.0}, "warmup_mean_epochs"),
        ({"freeze_mean": True, "warmup_mean_epochs": 1, "shared": True}, "shared"),
        ({"freeze_mean": True, "warmup_mean_epochs": 1, "loss": "mse"}, "freeze_mean"),
        ({"pretrain_epochs": -1}, "pretrain_epochs: -1 is negative"),
        ({"finetuning": 0.0}, "finetuning"),
        ({"width": 0}, "width: 0"),
        ({"loss": "student-t", "degrees_of_freedom": 2.0}, "degrees_of_freedom"),
        ({"epochs": 0}, "epochs"),
        ({"loss": "kl"}, "roots"),
    ],
)
def test_settings_that_do_not_work_are_named(data, change, named):
    with pytest.raises(PosecovError, match=named) as error:
        fit(RegressionConfig(**({"loss": "nll"} | SMALL | change)), *data[:2])
    assert "\n" not in str(error.value)


def test_data_that_does_not_work_is_named(data):
    x, y, roots = data
    config = RegressionConfig(loss="wasserstein-bound", **SMALL)
    bad = y.copy()
    bad[7, 1] = np.inf
    with pytest.raises(PosecovError, match="y: row 7"):
        fit(config, x, bad, roots)
    with pytest.raises(PosecovError, match="x: 1 samples"):
        fit(config, x[:1], y[:1], roots[:1])
    with pytest.raises(PosecovError, match="roots"):
        fit(config, x, y, roots[:, :1])
    with pytest.raises(PosecovError, match="x and y"):
        fit(config, x, y[:-1], roots)
    with pytest.raises(PosecovError, match=r"predict: x has the shape \(5, 2\)"):
        fit(config, x, y, roots).predict(np.zeros((5, 2)))
    # 17 samples in batches of 16 leave one over, which BatchNorm cannot use.
    assert np.isfinite(fit(config, x[:17], y[:17], roots[:17]).predict(x)[0]).all()
