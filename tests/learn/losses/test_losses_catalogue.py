"""Every loss by its name: masks, members, bad input."""

import pytest
import torch
from loss_samples import covariances, masks, normal, roots, spoil

from posecov.errors import PosecovError
from posecov.learn.losses import (
    LOSSES,
    LossError,
    Prediction,
    Target,
    beta_nll,
    faithful,
    kl,
    loss_named,
    mse,
    nll,
    nll_diagonal,
    nll_precision,
    student_t_nll,
    wasserstein,
)

M, N, D = 2, 6, 4
NU = torch.tensor(5.0)
MIXTURE = "student-t-mixture"  # test_losses_mixture.py has its tests: a coordinate's label moves with its partner's
NAMES = [name for name in LOSSES if name != MIXTURE]
READS_FACTOR = ("nll-precision", "wasserstein-bound")
READS_COVARIANCE = [name for name in NAMES if name != "mse" and name not in READS_FACTOR]


def _prediction(dtype=torch.float64):
    factor = normal(M, N, D, D, seed=1) + 2 * torch.eye(D, dtype=torch.float64)
    return Prediction(normal(M, N, D).to(dtype), (factor @ factor.mT).to(dtype), factor.to(dtype))


def _target(rows=None):
    return Target(normal(N, D, seed=5), rows, roots(N, D, seed=6))


def test_names():
    expected = """mse nll nll-precision nll-diagonal beta-nll faithful student-t kl wasserstein-bound wasserstein-symmetric
    wasserstein-procrustes wasserstein"""
    assert set(LOSSES) == {*expected.split(), MIXTURE}
    with pytest.raises(PosecovError, match=r"no loss 'w2'; there are mse, nll, .*wasserstein"):
        loss_named("w2")


@pytest.mark.parametrize("name", NAMES)
def test_one_number_per_sample_whatever_stands_where_there_is_no_label(name):
    rows = masks(N, D)
    rows[2] = False
    prediction, target = _prediction(), _target(rows)
    leaves = [tensor.requires_grad_() for tensor in prediction[:3]]
    plain = LOSSES[name].function(prediction, target, NU)
    assert plain.shape == (M, N)
    assert plain.dtype == torch.float64
    assert (plain[:, 2] == 0).all()
    # A precision of NaN has no marginal: its factor must be finite.
    spoilt_factor = prediction.factor if name == "nll-precision" else torch.where(rows[..., None], prediction.factor, torch.nan)
    spoilt = Prediction(spoil(prediction.mean, rows, 1), spoil(prediction.covariance, rows, 2), spoilt_factor)
    masked = Target(spoil(target.values, rows, 1), rows, torch.where(rows[..., None], target.root, torch.nan))
    value = LOSSES[name].function(spoilt, masked, NU)
    torch.testing.assert_close(value, plain, rtol=0, atol=0)
    value.sum().backward()
    mean, covariance, factor = (torch.zeros_like(x) if x.grad is None else x.grad for x in leaves)
    assert torch.isfinite(mean).all()
    assert torch.isfinite(covariance).all()
    assert torch.isfinite(factor).all()
    assert (mean[:, ~rows] == 0).all()
    assert (covariance[:, ~(rows.unsqueeze(-1) & rows.unsqueeze(-2))] == 0).all()
    assert (factor[:, 2] == 0).all()
    if name != "nll-precision":
        assert (factor[:, ~rows] == 0).all()
    assert (mean != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_loss_needs_is_what_it_says(name):
    loss, prediction = LOSSES[name], _prediction()
    kept = prediction._replace(covariance=None) if name in READS_FACTOR else prediction._replace(factor=None)
    if loss.form == "none":
        kept = Prediction(prediction.mean)
    loss.function(kept, _target() if loss.pseudo else _target()._replace(root=None), NU)
    if loss.pseudo:
        with pytest.raises(PosecovError, match=r"target\.root: missing"):
            loss.function(prediction, _target()._replace(root=None), NU)
    if loss.form != "none":
        with pytest.raises(PosecovError, match=r"prediction\.(covariance|factor): missing"):
            loss.function(Prediction(prediction.mean), _target(), NU)


def test_entries_are_the_functions():
    prediction, target = _prediction(), _target(masks(N, D))
    residual, rows = target.values - prediction.mean, target.rows

    def value(name):
        return LOSSES[name].function(prediction, target, NU)

    variance = prediction.covariance.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(value("mse"), mse(residual, rows))
    torch.testing.assert_close(value("nll"), nll(residual, prediction.covariance, rows))
    torch.testing.assert_close(value("nll-precision"), nll_precision(residual, prediction.factor, rows))
    torch.testing.assert_close(value("nll-diagonal"), nll_diagonal(residual, variance, rows))
    torch.testing.assert_close(value("beta-nll"), beta_nll(residual, variance, rows))
    torch.testing.assert_close(value("faithful"), faithful(residual, prediction.covariance, rows))
    torch.testing.assert_close(value("student-t"), student_t_nll(residual, prediction.covariance, rows, NU))
    pseudo = target.root @ target.root
    torch.testing.assert_close(value("kl"), kl(residual, prediction.covariance, pseudo, rows, pseudo_log_det=False))
    exact = mse(residual, rows) + wasserstein(prediction.covariance, target.root, rows)
    torch.testing.assert_close(value("wasserstein"), exact)
    torch.testing.assert_close(value("wasserstein-procrustes"), exact)
    assert (value("wasserstein-symmetric") >= exact - 1e-9).all()
    assert (value("wasserstein-bound") >= exact - 1e-9).all()
    with pytest.raises(PosecovError, match="degrees_of_freedom: missing"):
        LOSSES["student-t"].function(prediction, target)


@pytest.mark.parametrize("name", NAMES)
def test_float32_predictions_and_a_single_sample(name):
    prediction = _prediction(torch.float32)
    whole = LOSSES[name].function(prediction, _target(), NU)
    one = LOSSES[name].function(Prediction(*(x[1, 3] for x in prediction[:3])), Target(*_at(_target(), 3)), NU)
    assert one.shape == ()
    torch.testing.assert_close(one, whole[1, 3])


def _at(target, i):
    return target.values[i], None, target.root[i]


@pytest.mark.parametrize("name", NAMES)
def test_a_label_that_is_nan_or_infinite_is_an_error_with_its_sample(name):
    for bad in (torch.nan, torch.inf):
        target = _target()
        target.values[3, 1] = bad
        with pytest.raises(LossError, match=r"^residual: not finite .* sample \(0, 3\); .*rows$") as caught:
            LOSSES[name].function(_prediction(), target, NU)
        assert caught.value.index == (0, 3)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mse"])
def test_a_prediction_that_is_nan_or_infinite_is_an_error_with_its_sample(name):
    for bad in (torch.nan, torch.inf, -torch.inf):
        prediction = _prediction()
        prediction.covariance[1, 4, 2, 2] = prediction.factor[1, 4, 2, 2] = bad
        with pytest.raises(LossError, match=r"^(covariance|scatter|factor|variance): not finite .* sample \(1, 4\)"):
            LOSSES[name].function(prediction, _target(), NU)


@pytest.mark.parametrize("name", [name for name in NAMES if LOSSES[name].pseudo])
def test_a_pseudo_label_that_is_nan_is_an_error(name):
    target = _target()
    target.root[5, 0, 1] = torch.nan
    with pytest.raises(LossError, match=r"^(root|pseudo): not finite .* sample 5"):
        LOSSES[name].function(_prediction(), target, NU)


@pytest.mark.parametrize("name", [*READS_COVARIANCE, "nll-precision"])
def test_an_indefinite_matrix_is_an_error_with_its_sample(name):
    prediction = _prediction()
    prediction.covariance[1, 4] = torch.diag(torch.tensor([1.0, -0.1, 1.0, 1.0]))
    prediction.factor[1, 4, 2] = 0.0
    with pytest.raises(LossError, match=r"^(covariance|scatter|factor|variance): not positive.* sample \(1, 4\); add a floor"):
        LOSSES[name].function(prediction, _target(), NU)


def test_singular_pseudo_label_and_bad_degrees_of_freedom():
    residual, covariance = normal(N, D), covariances(N, D)
    pseudo = covariances(N, D, seed=2)
    for seed in range(8):
        # Half of these survive a Cholesky factorisation, with a last pivot that is rounding.
        factor = normal(D, D - 1, seed=seed)
        pseudo[3] = factor @ factor.mT
        with pytest.raises(LossError, match=r"^pseudo: not positive definite at sample 3"):
            kl(residual, covariance, pseudo)
    for nu in (0.0, -3.0, torch.inf, torch.nan):
        with pytest.raises(LossError, match=r"^degrees_of_freedom: must be positive and finite"):
            student_t_nll(residual, covariance, None, torch.tensor(nu))


def test_an_overflow_is_an_error():
    with pytest.raises(LossError, match="the loss is not finite, though its arguments are, at sample 0"):
        mse(torch.full((1, 2), 1e200, dtype=torch.float64))
