import math

import numpy as np
import pytest
import torch
from hypothesis import given
from loss_samples import FEW, SEEDS, covariances, masks, normal, numpy, roots, spoil, symmetrised
from torch.autograd import gradcheck, gradgradcheck

from posecov import law
from posecov.learn.losses import (
    LossError,
    symmetric_root,
    wasserstein,
    wasserstein_bound,
    wasserstein_procrustes,
    wasserstein_symmetric,
)
from posecov.learn.losses.naive import wasserstein_autograd

D = 4
EXACT = [wasserstein, wasserstein_procrustes]
OF_COVARIANCE = [*EXACT, wasserstein_symmetric]


def _exact(first, second):
    zero = np.zeros(first.shape[:-1])
    return law.gaussian_wasserstein2(zero, numpy(first), zero, numpy(second))


@pytest.mark.parametrize("loss", [*EXACT, wasserstein_autograd])
def test_exact_forms_agree_with_the_law(loss):
    predicted, target = covariances(3, 10, D, seed=1), covariances(3, 10, D, seed=2)
    np.testing.assert_allclose(loss(predicted, symmetric_root(target)), _exact(predicted, target), rtol=1e-9)
    np.testing.assert_allclose(loss(predicted, torch.linalg.cholesky(target)), _exact(predicted, target), rtol=1e-9)


@FEW
@given(SEEDS)
def test_bounds_are_never_below_the_distance(seed):
    factor, root = normal(10, D, D + 2, seed=seed), roots(10, D, seed=seed + 1)
    predicted = factor @ factor.mT
    exact = wasserstein(predicted, root)
    symmetric = wasserstein_symmetric(predicted, root)
    torch.testing.assert_close(wasserstein_procrustes(predicted, root), exact)
    assert (exact >= 0).all()
    assert (symmetric >= exact - 1e-9).all()
    assert (wasserstein_bound(factor, root) >= exact - 1e-9).all()
    # Theorem 1's bound is the factor bound of symmetric roots.
    torch.testing.assert_close(wasserstein_bound(symmetric_root(predicted), root), symmetric)
    assert (symmetric > exact * (1 + 1e-4)).any()


@FEW
@given(SEEDS)
def test_bounds_are_equal_for_commuting_covariances(seed):
    turn = torch.linalg.qr(normal(6, D, D, seed=seed))[0]
    first, second = ((turn * normal(6, 1, D, seed=seed + i).exp()) @ turn.mT for i in (1, 2))
    exact = wasserstein(first @ first, second)
    torch.testing.assert_close(wasserstein_symmetric(first @ first, second), exact)
    torch.testing.assert_close(wasserstein_bound(first, second), exact)


@FEW
@given(SEEDS)
def test_masks_are_marginals(seed):
    predicted, root, rows = covariances(6, D, seed=seed), roots(6, D, seed=seed + 1), masks(6, D, seed=seed)
    spoilt = spoil(predicted, rows, 2)
    for loss in OF_COVARIANCE:
        mine = loss(spoilt, torch.where(rows[..., None], root, torch.nan), rows)
        for i, r in enumerate(rows):
            marginal = symmetric_root((root[i] @ root[i])[r][:, r])
            torch.testing.assert_close(mine[i], loss(predicted[i][r][:, r], marginal))
    factor = normal(6, D, D + 1, seed=seed)
    mine = wasserstein_bound(torch.where(rows[..., None], factor, torch.nan), root, rows)
    for i, r in enumerate(rows):
        torch.testing.assert_close(mine[i], wasserstein_bound(factor[i][r], root[i][r]))
    assert (mine >= wasserstein(factor @ factor.mT, root, rows) - 1e-9).all()


def test_extra_columns_of_a_factor_meet_zeros_in_the_target():
    factor, root = normal(5, D, D + 3), roots(5, D)
    padded = torch.cat([root, torch.zeros(5, D, 3)], dim=-1)
    torch.testing.assert_close(wasserstein_bound(factor, root), (factor - padded).square().sum((1, 2)))
    narrow = torch.cat([factor[..., :2], torch.zeros(5, D, 2)], dim=-1)
    torch.testing.assert_close(wasserstein_bound(factor[..., :2], root), (narrow - root).square().sum((1, 2)))


def test_pseudo_labels_shared_by_members_broadcast():
    predicted, root, rows = covariances(3, 5, D), roots(5, D, seed=1), masks(5, D)
    for loss in OF_COVARIANCE:
        torch.testing.assert_close(loss(predicted, root, rows)[1], loss(predicted[1], root, rows))
        torch.testing.assert_close(loss(predicted[0, 0], root), loss(predicted[0, :1].expand(5, D, D), root))


def _starts():
    """Ordinary matrices, and those with repeated eigenvalues."""
    eye = torch.eye(D, dtype=torch.float64)
    turn = torch.linalg.qr(normal(D, D))[0]
    pairs = (turn * torch.tensor([1.0, 1.0, 3.0, 3.0])) @ turn.mT
    return torch.stack([covariances(D), 2.5 * eye, pairs, 0.01 * eye])


@pytest.mark.parametrize("loss", OF_COVARIANCE)
def test_gradients_are_right_also_at_repeated_eigenvalues(loss):
    for targets in (_starts(), roots(4, D, seed=1), torch.eye(D, dtype=torch.float64).expand(4, D, D)):
        for mask in (None, masks(4, D)):
            variable = _starts().requires_grad_()
            assert gradcheck(
                lambda s, r=targets, m=mask: symmetrised(loss)(s, r, m), (variable,), eps=1e-6, rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("loss", [wasserstein, wasserstein_symmetric])
def test_second_derivatives_are_right_also_at_repeated_eigenvalues(loss):
    variable = _starts()[:3].requires_grad_()
    for target in (roots(3, D, seed=1), torch.eye(D, dtype=torch.float64).expand(3, D, D)):
        assert gradgradcheck(lambda s, r=target: loss(s, r), (variable,), eps=1e-6, atol=1e-5)


def test_gradient_of_the_root_and_third_derivatives():
    variable = covariances(2, 3).requires_grad_()
    assert gradcheck(symmetric_root, (variable,))
    once = lambda s: torch.autograd.grad(symmetric_root(s)[..., 0, 1].sum(), s, create_graph=True)[0]  # noqa: E731
    assert gradgradcheck(once, (variable,))


@pytest.mark.parametrize("size", [1e-16, 1.0, 1e10])
def test_the_root_of_a_small_matrix_is_small(size):
    matrix = covariances(3, D)
    torch.testing.assert_close(symmetric_root(size * matrix), size**0.5 * symmetric_root(matrix), rtol=1e-9, atol=0)


def test_directions_that_a_singular_matrix_lacks_have_no_gradient():
    turn = torch.linalg.qr(normal(D, D))[0]
    roots_ = torch.tensor([0.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    matrix = ((turn * roots_.square()) @ turn.mT).requires_grad_()
    weight = normal(D, D, seed=1)
    (symmetric_root(matrix) * (weight + weight.mT) / 2).sum().backward()
    sums = roots_[:, None] + roots_
    expected = turn.mT @ (weight + weight.mT) @ turn / 2 / torch.where(sums > 0, sums, torch.inf)
    torch.testing.assert_close(matrix.grad, turn @ expected @ turn.mT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", OF_COVARIANCE)
@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
def test_what_counts_as_indefinite_goes_by_the_size_of_the_matrix(loss, size):
    singular = torch.diag(torch.tensor([1.0, 1.0, 1.0, -1e-9], dtype=torch.float64))
    assert torch.isfinite(loss(size * singular, torch.eye(D)))
    with pytest.raises(LossError, match="covariance: not positive"):
        loss(size * torch.diag(torch.tensor([1.0, 1.0, 1.0, -0.01], dtype=torch.float64)), torch.eye(D))


def test_both_exact_forms_have_the_gradient_of_the_transport_map():
    predicted, root = covariances(5, D, seed=1).requires_grad_(), roots(5, D, seed=2)
    first, second = (torch.autograd.grad(loss(predicted, root).sum(), predicted)[0] for loss in EXACT)
    torch.testing.assert_close(first, second)
    # I - T, where T S T = S~ and T is symmetric.
    transport = torch.eye(D) - first
    torch.testing.assert_close(transport @ predicted @ transport, root @ root)


def test_autograd_of_the_eigendecomposition_fails_where_ours_does_not():
    eye = torch.eye(D, dtype=torch.float64).expand(1, D, D)
    for loss, fine in ((wasserstein_autograd, False), (wasserstein, True), (wasserstein_procrustes, True)):
        variable = (2 * eye).requires_grad_()
        loss(variable, eye).sum().backward()
        assert bool(torch.isfinite(variable.grad).all()) == fine


@pytest.mark.parametrize("loss", OF_COVARIANCE)
def test_zero_with_zero_gradient_at_the_pseudo_label(loss):
    target = covariances(4, 6, seed=2)
    variable = target.clone().requires_grad_()
    value = loss(variable, symmetric_root(target))
    value.sum().backward()
    assert value.abs().max() < 1e-9
    assert variable.grad.abs().max() < 1e-9


@pytest.mark.parametrize("loss", OF_COVARIANCE)
def test_singular_pseudo_labels_and_predictions(loss):
    root = torch.diag(torch.tensor([1.0, 1, 1, 0, 0, 0]))
    variable = (2 * torch.eye(6)).requires_grad_()
    value = loss(variable, root)
    value.backward()
    assert value.item() == pytest.approx(3 * (math.sqrt(2) - 1) ** 2 + 3 * 2)
    assert torch.isfinite(variable.grad).all()
    for factor in (normal(8, 6, 2), normal(8, 6, 2).float()):
        variable = (factor @ factor.mT).requires_grad_()
        value = loss(variable, root)
        value.sum().backward()
        assert torch.isfinite(variable.grad).all()
        if loss in EXACT:
            rtol = 1e-3 if factor.dtype == torch.float32 else 1e-6
            np.testing.assert_allclose(value.detach(), _exact(variable, (root @ root).expand(8, 6, 6)), rtol=rtol)


@pytest.mark.parametrize("loss", OF_COVARIANCE)
def test_pseudo_label_has_no_gradient(loss):
    root = roots(2, D).requires_grad_()
    variable = covariances(2, D, seed=1).requires_grad_()
    loss(variable, root).sum().backward()
    wasserstein_bound(variable, root).sum().backward()
    assert root.grad is None
