import math

import numpy as np
import pytest
import torch

from posecov import law
from posecov.learn.losses import mean_loss, procrustes_wasserstein, student_t_nll


def _spd(count, size, seed):
    root = torch.randn(count, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.mT + 0.3 * torch.eye(size, dtype=torch.float64)


def _root(matrix):
    return torch.from_numpy(law.symmetric_root(matrix.numpy()))


@pytest.fixture
def people():
    generator = torch.Generator().manual_seed(3)
    labelled = torch.rand(20, 4, generator=generator) > 0.3
    labelled[:, 0] = True
    residual = 3 * torch.randn(20, 8, dtype=torch.float64, generator=generator)
    return residual, _spd(20, 8, 4), labelled


@pytest.mark.parametrize("nu", [4.5, math.inf])
def test_nll_agrees_with_the_law_and_marginalises(people, nu):
    residual, scatter, labelled = people
    degrees = None if math.isinf(nu) else torch.tensor(nu)
    mine = student_t_nll(residual, scatter, labelled, degrees)
    missing = np.where(np.repeat(labelled.numpy(), 2, axis=1), residual.numpy(), np.nan)
    np.testing.assert_allclose(mine.numpy(), law.negative_log_likelihood(missing, scatter.numpy(), nu), rtol=1e-9)


def test_nll_ignores_what_stands_where_there_is_no_label(people):
    residual, scatter, labelled = people
    garbage = torch.where(labelled.repeat_interleave(2, 1), residual, torch.nan)
    torch.testing.assert_close(
        student_t_nll(garbage, scatter, labelled, torch.tensor(5.0)),
        student_t_nll(residual, scatter, labelled, torch.tensor(5.0)),
    )


def test_nll_gradient(people):
    residual, scatter, labelled = people
    scatter = scatter[:3].requires_grad_()

    def symmetric(s, nu):
        return student_t_nll(residual[:3], (s + s.mT) / 2, labelled[:3], nu)

    assert torch.autograd.gradcheck(symmetric, (scatter, torch.tensor(4.5, dtype=torch.float64, requires_grad=True)))


def test_bound_at_the_best_rotation_is_the_distance():
    predicted, target = _spd(30, 8, 1), _spd(30, 8, 2)
    everybody = torch.ones(30, 4, dtype=torch.bool)
    mine = procrustes_wasserstein(predicted, _root(target), everybody)
    zero = np.zeros((30, 8))
    exact = law.gaussian_wasserstein2(zero, predicted.numpy(), zero, target.numpy())
    np.testing.assert_allclose(mine.numpy(), exact, rtol=1e-8)
    bound = law.wasserstein2_factor_bound(law.symmetric_root(predicted.numpy()), law.symmetric_root(target.numpy()))
    assert (mine.numpy() <= bound + 1e-9).all()
    assert (mine.numpy() < 0.999 * bound).any()


def test_bound_of_marginals():
    predicted, target = _spd(5, 8, 1), _spd(5, 8, 2)
    labelled = torch.tensor([True, False, True, True]).expand(5, 4)
    rows = [0, 1, 4, 5, 6, 7]
    mine = procrustes_wasserstein(predicted, _root(target), labelled)
    zero = np.zeros((5, 6))
    exact = law.gaussian_wasserstein2(zero, predicted.numpy()[:, rows][:, :, rows], zero, target.numpy()[:, rows][:, :, rows])
    np.testing.assert_allclose(mine.numpy(), exact, rtol=1e-8)


def test_bound_has_the_gradient_of_the_distance():
    predicted, target = _spd(1, 6, 1), _spd(1, 6, 2)
    everybody, root = torch.ones(1, 3, dtype=torch.bool), _root(target)
    variable = predicted.clone().requires_grad_()
    procrustes_wasserstein(variable, root, everybody).sum().backward()
    direction = _spd(1, 6, 5)
    step = 1e-5
    ahead, behind = (procrustes_wasserstein(predicted + s * direction, root, everybody) for s in (step, -step))
    assert (variable.grad * direction).sum().item() == pytest.approx(((ahead - behind) / (2 * step)).item(), rel=1e-6)


def test_bound_is_zero_with_zero_gradient_at_the_pseudo_label():
    target = _spd(4, 6, 2)
    variable = target.clone().requires_grad_()
    value = procrustes_wasserstein(variable, _root(target), torch.ones(4, 3, dtype=torch.bool))
    value.sum().backward()
    assert value.abs().max() < 1e-9
    assert variable.grad.abs().max() < 1e-9


def test_bound_survives_repeated_and_vanishing_eigenvalues():
    eye = torch.eye(6, dtype=torch.float64)[None]
    variable = (2 * eye).requires_grad_()
    value = procrustes_wasserstein(
        variable, torch.diag(torch.tensor([1.0, 1, 1, 0, 0, 0]))[None], torch.ones(1, 3, dtype=torch.bool)
    )
    value.sum().backward()
    assert value.item() == pytest.approx(3 * (math.sqrt(2) - 1) ** 2 + 3 * 2)
    assert torch.isfinite(variable.grad).all()


def _mean_inputs():
    centres = (torch.arange(5) + 0.5) * 8 - 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    positions = torch.stack([x.reshape(-1), y.reshape(-1)], 1)
    logits = torch.randn(2, 3, 25, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    return positions, logits, (logits.exp() @ positions).flatten(1)


def test_mean_loss_marginalises_and_measures_pixels():
    positions, logits, mean = _mean_inputs()
    points = mean.unflatten(1, (3, 2)) + torch.tensor([3.0, 4.0])
    labelled = torch.tensor([[True, True, False], [True, False, True]])
    loss, error = mean_loss(logits, mean, positions, points, labelled, 1.0, 1.0)
    assert error.item() == pytest.approx(5.0, rel=1e-5)
    garbage = torch.where(labelled[..., None], points, torch.tensor(1e4))
    assert mean_loss(logits, mean, positions, garbage, labelled, 1.0, 1.0)[0].item() == pytest.approx(loss.item(), rel=1e-6)
    far = mean_loss(logits, mean, positions, points + torch.tensor([8.0, 0.0]), labelled, 1.0, 1.0)[0]
    assert far > loss


def test_mean_loss_is_lowest_at_the_label():
    positions, _, _ = _mean_inputs()
    points = torch.tensor([[[15.0, 20.0]]])
    squared = ((positions - points[0]) / 8).square().sum(-1)
    good = (-squared / 2).log_softmax(-1)[None, None]
    bad = torch.full((1, 1, 25), 1 / 25).log()
    labelled = torch.ones(1, 1, dtype=torch.bool)
    losses = [
        mean_loss(log, (log.exp() @ positions).flatten(1), positions, points, labelled, 1.0, 1.0)[0] for log in (good, bad)
    ]
    assert losses[0] < losses[1]
