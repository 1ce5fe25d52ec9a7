import numpy as np
import pytest
import torch

from posecov import law
from posecov.geometry import Similarity
from posecov.learn.covariance_head import joint_features
from posecov.learn.features import follow
from posecov.learn.mean_head import MeanHead


def _covariance(size):
    root = np.random.default_rng(0).normal(size=(size, size))
    return root @ root.T + np.eye(size)


def test_root_follows_the_augmentation():
    covariance = _covariance(6)
    permutation = np.array([1, 0, 2])
    angle, scale = 0.7, 1.8
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for mirrored in (False, True):
        linear = scale * turn @ (np.diag([-1.0, 1.0]) if mirrored else np.eye(2))
        expected = Similarity(linear, np.zeros(2)).covariance(covariance)
        if mirrored:
            rows = np.array([2, 3, 0, 1, 4, 5])
            expected = expected[rows][:, rows]
        root = follow(
            torch.from_numpy(law.symmetric_root(covariance))[None],
            torch.from_numpy(linear)[None],
            torch.tensor([mirrored]),
            torch.from_numpy(permutation),
        )[0].numpy()
        np.testing.assert_allclose(root, root.T, atol=1e-10)
        np.testing.assert_allclose(root @ root, expected, rtol=1e-8)


def test_no_gradient_reaches_the_mean():
    torch.manual_seed(0)
    head = MeanHead(channels=4, joints=2, basis=2, latent=3, input_size=32, stride=8)
    features, latent = torch.randn(2, 4, 4, 4, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    seen = joint_features(features, latent, head(features, latent), head)
    assert not any(tensor.requires_grad for tensor in seen)


def test_features_are_pooled_under_the_softmax_and_carry_the_taylor_terms():
    torch.manual_seed(0)
    head = MeanHead(channels=4, joints=2, basis=2, latent=3, input_size=32, stride=8)
    features, latent = torch.randn(1, 4, 4, 4), torch.randn(1, 3)
    output = head(features, latent)
    seen = joint_features(features, latent, output, head)
    pooled = sum(output.probabilities[0, 1, p] * features[0].flatten(1)[:, p] for p in range(16))
    torch.testing.assert_close(seen.joints[0, 1, :4], pooled)
    jacobian, hessians = head.jacobian(output)[0], head.hessians(output)[0]
    torch.testing.assert_close(seen.gradient[0], jacobian @ jacobian.T)
    trace = torch.stack([torch.stack([(a @ b).trace() for b in hessians]) for a in hessians])
    torch.testing.assert_close(seen.curvature[0], trace, rtol=1e-4, atol=1e-4 * trace.abs().max().item())


def test_statistics_of_the_softmax_by_hand():
    head = MeanHead(channels=1, joints=1, basis=1, latent=1, input_size=32, stride=8)
    logits = torch.full((1, 1, 16), -60.0)
    logits[0, 0, [5, 6]] = 0.0  # two neighbours in one row: half a cell to either side
    output = head.from_maps(logits, torch.zeros(1, 1, 16), torch.zeros(1, 1))
    xx, yy, xy, entropy, peak, x, y = (
        joint_features(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1), output, head).joints[0, 0, 1:].tolist()
    )
    assert xx == pytest.approx(np.log(0.25 + 0.05), abs=1e-4)
    assert yy == pytest.approx(np.log(0.05), abs=1e-4)
    assert xy == pytest.approx(0.0, abs=1e-5)
    assert entropy == pytest.approx(np.log(2), abs=1e-4)
    assert peak == pytest.approx(np.log(0.5), abs=1e-4)
    assert (x, y) == pytest.approx(((15.5 - 15.5) / 13.75, (11.5 - 15.5) / 13.75), abs=1e-4)
