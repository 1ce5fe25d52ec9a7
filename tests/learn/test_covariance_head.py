import numpy as np
import pytest
import torch

from posecov.learn.calibration import shrink
from posecov.learn.covariance_head import FORMS, CovarianceHead, JointFeatures
from posecov.learn.covariance_training import term_shares

JOINTS, LATENT, CHANNELS = 4, 5, 6
SIZE = 2 * JOINTS


def _seen(count=16, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return scale * torch.randn(*shape, generator=generator)

    jacobian, hessians = normal(count, SIZE, LATENT), normal(count, SIZE, LATENT**2)
    return JointFeatures(
        normal(count, JOINTS, CHANNELS + 7),
        normal(count, LATENT),
        jacobian @ jacobian.mT,
        hessians @ hessians.mT,
        normal(count, SIZE),
        normal(count, JOINTS, 2),
    )


def _constant():
    root = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return root @ root.T + torch.eye(SIZE)


# Joints 0 and 1 are mirror joints.
ORDERS = np.array([[0, 1, 2, 3, 4, 5, 6, 7], [2, 3, 0, 1, 4, 5, 6, 7]])


def _head(share=0.1, rank=2, form="correlation", orders=None):
    torch.manual_seed(0)
    head = CovarianceHead(CHANNELS, JOINTS, LATENT, hidden=8, rank=rank, form=form, orders=orders)
    head.start_from(_seen(), _constant(), 5.0, (share, share))
    return head


def test_starts_at_the_constant_law():
    head = _head(share=0.0, rank=0)
    for layer in (head.ellipse, head.taylor):
        torch.nn.init.zeros_(layer.weight)
    scatter = head(_seen()).scatter.detach()
    floor = scatter.diagonal(dim1=1, dim2=2).mean() * 2e-3
    torch.testing.assert_close(scatter, _constant().expand_as(scatter), rtol=1e-3, atol=float(floor))
    assert head.degrees_of_freedom().item() == pytest.approx(5.0)


def test_taylor_terms_start_with_their_share():
    head, seen = _head(share=0.1), _seen(400)
    shares = term_shares(head(seen))
    assert 0.05 < shares["k1_share"] < 0.2
    assert 0.05 < shares["k2_share"] < 0.2
    without = _head(share=0.0)(seen)
    assert not without.k1.any()
    assert not without.k2.any()


def test_scatter_is_the_sum_of_its_terms():
    head, seen = _head(), _seen()
    predicted = head(seen)
    terms = predicted.k1[:, None, None] * seen.gradient + predicted.k2[:, None, None] * seen.curvature + predicted.k3
    torch.testing.assert_close(predicted.scatter, terms)


@pytest.mark.parametrize("form", ["factor", "precision"])
def test_free_forms_start_at_the_constant_law_too(form):
    head = _head(share=0.0, form=form)
    torch.nn.init.zeros_(head.entries.weight)
    scatter = head(_seen()).scatter.detach()
    tolerance = scatter.diagonal(dim1=1, dim2=2).mean() * 5e-3
    torch.testing.assert_close(scatter, _constant().expand_as(scatter), rtol=1e-2, atol=float(tolerance))


def test_the_free_factor_starts_at_the_symmetric_root():
    head = _head(share=0.0, form="factor")
    torch.testing.assert_close(head.start_factor, head.start_factor.T)
    torch.testing.assert_close(head.start_factor @ head.start_factor, _constant(), rtol=1e-4, atol=1e-4)


def test_diagonal_form_has_no_correlation():
    scatter = _head(share=0.0, form="diagonal")(_seen()).scatter.detach()
    assert torch.equal(scatter, torch.diag_embed(scatter.diagonal(dim1=1, dim2=2)))
    assert scatter.diagonal(dim1=1, dim2=2).std(0).min() > 0


def test_precision_form_is_the_inverse_of_its_factor():
    head = _head(share=0.0, form="precision")
    predicted = head(_seen())
    product = predicted.k3 @ predicted.factor @ predicted.factor.mT
    torch.testing.assert_close(product, torch.eye(SIZE).expand_as(product), rtol=0, atol=0.05)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_positive_definite_in_float32_for_any_weights_and_input(seed, scale, form):
    head = _head(form=form)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(10.0 ** (seed % 4 - 1) * torch.randn(parameter.shape, generator=generator))
    scatter = head(_seen(8, scale, seed)).scatter
    assert torch.isfinite(scatter).all()
    sigma = scatter.diagonal(dim1=1, dim2=2).sqrt()
    assert ((scatter - scatter.mT).abs() / sigma[:, :, None] / sigma[:, None, :]).max() < 1e-5
    factor, info = torch.linalg.cholesky_ex(scatter)
    assert not info.any()
    assert torch.isfinite(factor).all()


def test_calibration_scales_the_joints_and_keeps_correlations():
    head, seen = _head(), _seen()
    before = head(seen).scatter
    head.calibration.copy_(torch.tensor([2.0, 1.0, 0.5, 1.0]))
    after = head(seen).scatter
    ratio = (after.diagonal(dim1=1, dim2=2) / before.diagonal(dim1=1, dim2=2)).sqrt()
    torch.testing.assert_close(ratio, torch.tensor([2.0, 2, 1, 1, 0.5, 0.5, 1, 1]).expand_as(ratio))

    def correlation(matrix):
        sigma = matrix.diagonal(dim1=1, dim2=2).sqrt()
        return matrix / sigma[:, :, None] / sigma[:, None, :]

    torch.testing.assert_close(correlation(after), correlation(before))


def test_shrinkage_is_that_of_calibration():
    head, seen = _head(), _seen()
    before = head(seen).scatter.detach().numpy()
    head.shrinkage.fill_(0.25)
    torch.testing.assert_close(
        head(seen).scatter.detach().numpy(), shrink(before, 0.25).astype("float32"), rtol=1e-5, atol=1e-5
    )
