import math

import numpy as np
import pytest
import torch
from hypothesis import given
from loss_samples import FEW, SEEDS, covariances, masks, normal, numpy, spoil
from scipy import stats
from torch.autograd import gradcheck

from posecov import law
from posecov.learn.losses import beta_nll, faithful, kl, mse, nll, nll_diagonal, nll_precision, student_t_nll

N, D = 5, 4


@pytest.mark.parametrize("nu", [4.5, 200.0, math.inf])
def test_likelihoods_agree_with_the_law_where_labels_are_missing(nu):
    residual, scatter, rows = normal(20, 8, seed=3), covariances(20, 8, seed=4), masks(20, 8)
    missing = np.where(rows, residual, np.nan)
    expected = law.negative_log_likelihood(missing, numpy(scatter), nu)
    degrees = None if math.isinf(nu) else torch.tensor(nu)
    spoilt = spoil(residual, rows, 1), spoil(scatter, rows, 2), rows
    np.testing.assert_allclose(student_t_nll(*spoilt, degrees), expected, rtol=1e-10)
    if degrees is None:
        np.testing.assert_allclose(nll(*spoilt), expected, rtol=1e-10)


def test_likelihoods_agree_with_scipy():
    residual, scatter = normal(D), covariances(D)
    normal_law = stats.multivariate_normal(np.zeros(D), numpy(scatter))
    assert nll(residual, scatter).item() == pytest.approx(-normal_law.logpdf(residual))
    t_law = stats.multivariate_t(np.zeros(D), numpy(scatter), 3.7)
    assert student_t_nll(residual, scatter, None, torch.tensor(3.7)).item() == pytest.approx(-t_law.logpdf(residual), rel=1e-6)


def test_nll_agrees_with_torch_distributions_for_stacked_members():
    residual, covariance = normal(3, N, D), covariances(3, N, D)
    expected = -torch.distributions.MultivariateNormal(torch.zeros(D).double(), covariance).log_prob(residual)
    torch.testing.assert_close(nll(residual, covariance), expected)


def test_targets_shared_by_members_broadcast():
    residual, covariance, rows = normal(N, D), covariances(3, N, D), masks(N, D)
    one_by_one = torch.stack([nll(residual, each, rows) for each in covariance])
    torch.testing.assert_close(nll(residual, covariance, rows), one_by_one)
    torch.testing.assert_close(nll_precision(residual, covariance, rows)[1], nll_precision(residual, covariance[1], rows))
    torch.testing.assert_close(
        kl(residual, covariance, covariance[0], rows)[1], kl(residual, covariance[1], covariance[0], rows)
    )


def test_degrees_of_freedom_of_each_sample():
    residual, scatter, nu = normal(N, D), covariances(N, D), torch.linspace(2.5, 30, N)
    whole = student_t_nll(residual, scatter, None, nu)
    for i in range(N):
        torch.testing.assert_close(whole[i], student_t_nll(residual[i], scatter[i], None, nu[i]))


@FEW
@given(SEEDS)
def test_precision_form_is_the_nll_of_the_inverse_and_its_marginals(seed):
    residual, factor, rows = normal(6, D, seed=seed), normal(6, D, D + 2, seed=seed + 1), masks(6, D, seed=seed)
    covariance = torch.linalg.inv(factor @ factor.mT)
    torch.testing.assert_close(nll_precision(residual, factor), nll(residual, covariance))
    torch.testing.assert_close(nll_precision(spoil(residual, rows, 1), factor, rows), nll(residual, covariance, rows))


def test_precision_has_the_gradient_of_the_inverse_also_at_masked_rows():
    residual, rows = normal(6, D), masks(6, D)
    factor = normal(6, D, D, seed=1).requires_grad_()
    (mine,) = torch.autograd.grad(nll_precision(residual, factor, rows).sum(), factor)
    (other,) = torch.autograd.grad(nll(residual, torch.linalg.inv(factor @ factor.mT), rows).sum(), factor)
    torch.testing.assert_close(mine, other)


def test_diagonal_is_the_nll_of_a_diagonal_covariance():
    residual, variance, rows = normal(N, D), normal(N, D, seed=1).exp(), masks(N, D)
    expected = nll(residual, torch.diag_embed(variance), rows)
    torch.testing.assert_close(nll_diagonal(spoil(residual, rows, 1), spoil(variance, rows, 1), rows), expected)


def test_beta_nll_lies_between_likelihood_and_squared_error():
    residual = normal(N, D).requires_grad_()
    variance = normal(N, D, seed=1).exp().requires_grad_()
    torch.testing.assert_close(beta_nll(residual, variance, beta=0.0), nll_diagonal(residual, variance))
    (by_mean,) = torch.autograd.grad(beta_nll(residual, variance, beta=1.0).sum(), residual)
    torch.testing.assert_close(by_mean, residual.detach())
    grads = torch.autograd.grad(beta_nll(residual, variance).sum(), (residual, variance))
    plain = torch.autograd.grad(nll_diagonal(residual, variance).sum(), (residual, variance))
    for weighted, unweighted in zip(grads, plain, strict=True):
        torch.testing.assert_close(weighted, variance.detach().sqrt() * unweighted)


def test_faithful_moves_the_mean_as_squared_error_and_the_covariance_as_the_likelihood():
    residual, covariance, rows = normal(N, D).requires_grad_(), covariances(N, D).requires_grad_(), masks(N, D)
    by_mean, by_covariance = torch.autograd.grad(faithful(residual, covariance, rows).sum(), (residual, covariance))
    torch.testing.assert_close(by_mean, 2 * residual.detach() * rows)
    torch.testing.assert_close(by_covariance, torch.autograd.grad(nll(residual, covariance, rows).sum(), covariance)[0])
    torch.testing.assert_close(faithful(residual, covariance), residual.square().sum(-1) + nll(residual, covariance))


def test_kl_with_doubled_moments_is_that_of_the_distributions():
    """Doubling both moments undoes the calibration's half; of P only ln det is left too large, by D ln 2."""
    residual, covariance, pseudo = normal(N, D), covariances(N, D, seed=1), covariances(N, D, seed=2)
    mvn = torch.distributions.MultivariateNormal
    expected = torch.distributions.kl_divergence(mvn(residual, pseudo), mvn(torch.zeros(D).double(), covariance))
    mine = kl(math.sqrt(2) * residual, covariance, 2 * pseudo)
    torch.testing.assert_close(mine + 0.5 * D * math.log(2), expected)


def test_own_share_of_kl_leads_from_the_pseudo_label_to_the_likelihood():
    residual, covariance, pseudo = normal(N, D), covariances(N, D, seed=1), covariances(N, D, seed=2)
    constant = 0.5 * (D + pseudo.logdet() + D * math.log(2 * math.pi))
    torch.testing.assert_close(kl(residual, covariance, pseudo, own=1.0) + constant, nll(residual, covariance))
    mvn, zero = torch.distributions.MultivariateNormal, torch.zeros(D).double()
    alone = torch.distributions.kl_divergence(mvn(zero, pseudo), mvn(zero, covariance))
    torch.testing.assert_close(kl(residual, covariance, pseudo, own=0.0), alone)
    between = 0.15 * alone + 0.85 * (nll(residual, covariance) - constant)
    torch.testing.assert_close(kl(residual, covariance, pseudo, own=0.85), between)


def test_kl_masks_are_marginals_and_singular_pseudo_labels_drop_the_constant():
    residual, covariance, pseudo, rows = normal(N, D), covariances(N, D, seed=1), covariances(N, D, seed=2), masks(N, D)
    mine = kl(spoil(residual, rows, 1), spoil(covariance, rows, 2), spoil(pseudo, rows, 2), rows)
    for i in range(N):
        r = rows[i]
        torch.testing.assert_close(mine[i], kl(residual[i, r], covariance[i][r][:, r], pseudo[i][r][:, r]))
    constant = kl(residual, covariance, pseudo, pseudo_log_det=False) - kl(residual, covariance, pseudo)
    torch.testing.assert_close(constant, pseudo.logdet() / 2)
    singular = kl(residual, covariance, torch.zeros(D, D), pseudo_log_det=False)
    torch.testing.assert_close(
        singular, 0.5 * nll(residual, covariance) + 0.25 * covariance.logdet() - 0.5 * D - 0.25 * D * math.log(2 * math.pi)
    )


def _exact_moments(covariance):
    """2 D residuals whose outer products average to the covariance exactly, and whose mean is 0."""
    factor = math.sqrt(len(covariance)) * torch.linalg.cholesky(covariance).mT
    return torch.cat([factor, -factor])


def _slope(loss, covariance):
    covariance = covariance.clone().requires_grad_()
    return torch.autograd.grad(loss(covariance).mean(), covariance)[0].abs().max().item()


def test_optimum_of_the_calibrated_kl_is_the_pseudo_label():
    pseudo = covariances(D)
    residual = _exact_moments(pseudo)
    assert _slope(lambda s: kl(residual, s.expand(2 * D, D, D), pseudo), pseudo) < 1e-12
    assert _slope(lambda s: kl(residual, s.expand(2 * D, D, D), pseudo), 1.1 * pseudo) > 1e-3
    best = kl(residual, pseudo.expand(2 * D, D, D), pseudo).mean()
    assert kl(residual, (pseudo + 0.05 * covariances(D, seed=5)).expand(2 * D, D, D), pseudo).mean() > best


def test_lemma_1_noisy_labels_add_their_covariance():
    """Labels drawn from N(y, P) have the likelihood's optimum at Sigma_Y + P, and so has the KL without its calibration."""
    own, pseudo = covariances(D, seed=1), covariances(D, seed=2)
    noisy = (_exact_moments(own)[:, None] + _exact_moments(pseudo)).flatten(0, 1)
    assert _slope(lambda s: nll(noisy, s), own + pseudo) < 1e-12
    residual = math.sqrt(2) * _exact_moments(own)
    assert _slope(lambda s: kl(residual, s, 2 * pseudo), own + pseudo) < 1e-12
    assert _slope(lambda s: kl(residual, s, 2 * pseudo), own) > 1e-3


def test_gradients_are_right():
    rows = masks(2, D)
    residual, covariance = normal(2, D).requires_grad_(), covariances(2, D, seed=1).requires_grad_()
    variance, factor = normal(2, D, seed=2).exp().requires_grad_(), normal(2, D, D, seed=3).requires_grad_()
    nu, pseudo = torch.tensor(4.5, dtype=torch.float64, requires_grad=True), covariances(2, D, seed=4)
    for mask in (None, rows):
        assert gradcheck(lambda r, m=mask: mse(r, m), (residual,))
        assert gradcheck(lambda s, r, m=mask: nll(r, (s + s.mT) / 2, m), (covariance, residual))
        assert gradcheck(lambda r, f, m=mask: nll_precision(r, f, m), (residual, factor))
        assert gradcheck(lambda r, v, m=mask: nll_diagonal(r, v, m), (residual, variance))
        assert gradcheck(lambda s, m=mask: faithful(residual.detach(), (s + s.mT) / 2, m), (covariance,))
        assert gradcheck(lambda r, s, n, m=mask: student_t_nll(r, (s + s.mT) / 2, m, n), (residual, covariance, nu))
        assert gradcheck(lambda r, s, m=mask: kl(r, (s + s.mT) / 2, pseudo, m), (residual, covariance))


def test_numpys_law_is_the_same_where_training_flushes_denormals():
    degrees = np.concatenate([np.geomspace(2.1, 1e7, 200), np.linspace(300, 345, 91)])
    residuals, scatter = np.ones((len(degrees), 28)), np.eye(28)
    plain = law.negative_log_likelihood(residuals, scatter, degrees)
    torch.set_flush_denormal(True)
    try:
        flushed = law.negative_log_likelihood(residuals, scatter, degrees)
    finally:
        torch.set_flush_denormal(False)
    assert np.isfinite(flushed).all()
    np.testing.assert_allclose(flushed, plain, rtol=1e-9)
