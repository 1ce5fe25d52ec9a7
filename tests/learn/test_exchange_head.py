import numpy as np
import torch
from test_covariance_head import JOINTS, ORDERS, _head, _seen

from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.learn.exchange_head import ExchangeHead, mirror_features, mirror_joints
from posecov.skeleton import load_skeleton


def test_partners_are_the_skeletons_flip_pairs():
    skeleton = load_skeleton("lsp14")
    partners = mirror_joints(coordinate_orders(exchanges_of(skeleton)))
    np.testing.assert_array_equal(partners, skeleton.flip_permutation)


def test_mirror_features_see_the_share_of_a_softmax_that_lies_at_the_mirror_joint():
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    positions = 8.0 * torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)

    def at(*places):
        found = torch.zeros(100)
        for (column, row), share in places:
            found[10 * row + column] = share
        return found

    # Joint 0 lies at (1, 1) but for a third at (8, 8), where joint 1 is; joint 2 has no partner.
    probabilities = torch.stack([at(((1, 1), 2 / 3), ((8, 8), 1 / 3)), at(((8, 8), 1.0)), at(((4, 4), 1.0))])[None]
    mean = (probabilities @ positions).flatten(1)
    mean[0, :2] = 8.0
    share, apart = mirror_features(probabilities, mean, positions, torch.tensor([1, 0, 2]))[0].unbind(-1)
    torch.testing.assert_close(share.exp(), torch.tensor([1 / 3, 0.0, 1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(apart, torch.tensor([99.0, 99.0, 1.0]).log())


def test_everybody_starts_at_the_same_weights_and_most_exchange_nothing():
    head = ExchangeHead(JOINTS, 8, np.concatenate([ORDERS, ORDERS[1:]]))
    weights = head(0.1 * torch.randn(5, 8), torch.randn(5, JOINTS, 2)).exp()
    torch.testing.assert_close(weights.sum(-1), torch.ones(5))
    torch.testing.assert_close(weights, torch.tensor([0.8, 0.1, 0.1]).expand(5, 3), atol=0.03, rtol=0)


def test_calibration_makes_weights_bolder_and_shifts_them():
    head = ExchangeHead(JOINTS, 8, ORDERS)
    whole, features = torch.randn(5, 8), torch.randn(5, JOINTS, 2)
    plain = head(whole, features)
    head.temperature.fill_(2.0)
    head.shift.fill_(-0.5)
    odds = plain[:, 1] - plain[:, 0]
    found = head(whole, features)
    torch.testing.assert_close(found[:, 1] - found[:, 0], 2 * odds - 0.5)


def test_weights_depend_on_the_person_and_learn():
    head, seen = _head(orders=ORDERS), _seen()
    torch.nn.init.normal_(head.exchange.logits.weight)
    weights = head(seen).log_weights
    assert weights.shape == (16, 2)
    assert weights.exp()[:, 1].std() > 0.01
    weights[:, 0].sum().backward()
    assert head.exchange.mix.weight.grad.abs().sum() > 0


def test_a_law_without_exchanges_has_one_weight():
    assert (_head()(_seen()).log_weights == 0).all()
