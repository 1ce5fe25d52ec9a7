import pytest
import torch

from posecov.learn.mean_head import MeanHead


def _head(joints=3, basis=4, latent=5, window=0):
    torch.manual_seed(0)
    head = MeanHead(channels=6, joints=joints, basis=basis, latent=latent, input_size=48, stride=8, window=window).double()
    features, z = torch.randn(2, 6, 6, 6, dtype=torch.float64), torch.randn(2, latent, dtype=torch.float64)
    maps = head.maps(features).flatten(2)
    return head, maps[:, :joints] * 3, maps[:, joints:] * 3, z


def test_mean_is_the_expected_position():
    head = MeanHead(channels=1, joints=1, basis=1, latent=1, input_size=32, stride=8)
    logits = torch.full((1, 1, 16), -100.0)
    logits[0, 0, 6] = 0.0  # second row, third column: the cell's centre is (19.5, 11.5)
    output = head.from_maps(logits, torch.zeros(1, 1, 16), torch.zeros(1, 1))
    torch.testing.assert_close(output.mean, torch.tensor([[19.5, 11.5]]))


def test_a_window_leaves_out_the_smaller_of_two_hills():
    logits = torch.full((1, 1, 64), -100.0)
    logits[0, 0, 9], logits[0, 0, 10], logits[0, 0, 54] = 1.0, 1.0 - 1e-6, 0.9
    whole, local = (
        MeanHead(channels=1, joints=1, basis=1, latent=1, input_size=64, stride=8, window=window).from_maps(
            logits, torch.zeros(1, 1, 64), torch.zeros(1, 1)
        )
        for window in (0, 2)
    )
    # Row 1, columns 1 and 2; the other hill is at row 6, column 6.
    torch.testing.assert_close(local.mean, torch.tensor([[15.5, 11.5]]), atol=1e-4, rtol=0)
    assert (whole.mean > 20).all()
    torch.testing.assert_close(local.probabilities, whole.probabilities)
    torch.testing.assert_close(local.window.sum(-1), torch.ones(1, 1))


@pytest.mark.parametrize("window", [0, 1])
def test_jacobian_equals_autograd(window):
    head, unary, basis, z = _head(window=window)
    closed = head.jacobian(head.from_maps(unary, basis, z))
    for n in range(2):
        exact = torch.func.jacrev(lambda v, n=n: head.from_maps(unary[n : n + 1], basis[n : n + 1], v[None]).mean[0])(z[n])
        torch.testing.assert_close(closed[n], exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("window", [0, 1])
def test_hessians_equal_autograd(window):
    head, unary, basis, z = _head(window=window)
    closed = head.hessians(head.from_maps(unary, basis, z))
    for n in range(2):
        exact = torch.func.hessian(lambda v, n=n: head.from_maps(unary[n : n + 1], basis[n : n + 1], v[None]).mean[0])(z[n])
        torch.testing.assert_close(closed[n], exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("window", [0, 1])
def test_taylor_terms_are_products_of_the_derivatives(window):
    head, unary, basis, z = _head(window=window)
    output = head.from_maps(unary, basis, z)
    jacobian, hessians = head.jacobian(output), head.hessians(output)
    gradient, curvature = head.taylor_terms(output)
    torch.testing.assert_close(gradient, jacobian @ jacobian.mT)
    torch.testing.assert_close(curvature, torch.einsum("niab,njba->nij", hessians, hessians))


def test_the_latent_moves_the_mean():
    head, unary, basis, z = _head()
    first, second = head.from_maps(unary, basis, z).mean, head.from_maps(unary, basis, -z).mean
    assert (first - second).abs().max() > 0.1
