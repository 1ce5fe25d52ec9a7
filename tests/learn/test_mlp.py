import pytest
import torch
from torch import nn

from posecov.errors import PosecovError
from posecov.learn.mlp import ResidualMLP, StackedBatchNorm


def test_a_member_is_the_network_of_its_own_seed():
    stack = ResidualMLP(3, 4, 2, 7, blocks=2, seeds=(5, 6, 9))
    alone = ResidualMLP(1, 4, 2, 7, blocks=2, seeds=(9,))
    for name, parameter in stack.named_parameters():
        assert torch.equal(parameter[2:], dict(alone.named_parameters())[name])
    assert not torch.equal(stack.input.weight[0], stack.input.weight[1])


def test_members_train_as_they_would_alone():
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    stack = ResidualMLP(2, 4, 3, 5, blocks=2, seeds=(1, 2)).double()
    stack(x).square().sum().backward()
    for member in range(2):
        alone = ResidualMLP(1, 4, 3, 5, blocks=2, seeds=(member + 1,)).double()
        alone(x[member : member + 1]).square().sum().backward()
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(stack.get_parameter(name).grad[member : member + 1], parameter.grad)
        for name, statistic in alone.named_buffers():
            torch.testing.assert_close(stack.get_buffer(name)[member : member + 1], statistic)


def _reference(network: ResidualMLP) -> list[nn.Module]:
    """The same weights in torch's own layers: input, (first, second, norm) of every block, output."""

    def linear(layer):
        _, inputs, outputs = layer.weight.shape
        copy = nn.Linear(inputs, outputs)
        copy.weight.data, copy.bias.data = layer.weight.data[0].T.clone(), layer.bias.data[0, 0].clone()
        return copy

    blocks = [(linear(block.first), linear(block.second), nn.BatchNorm1d(network.width)) for block in network.blocks]
    return [linear(network.input), *(layer for block in blocks for layer in block), linear(network.output)]


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_papers_network(training):
    network = ResidualMLP(1, 3, 2, 6, blocks=2).train(training)
    first, *middle, last = reference = _reference(network)
    for layer in reference:
        layer.train(training)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        h = first(x)
        for one, two, norm in zip(*[iter(middle)] * 3, strict=True):
            h = h + torch.nn.functional.elu(norm(two(torch.nn.functional.elu(one(h)))))
        torch.testing.assert_close(network(x[None])[0], last(h))


def test_default_weights_are_those_of_torch():
    layer = ResidualMLP(1, 100, 1, 400, blocks=1).input
    assert layer.weight.abs().max() <= 0.1
    assert layer.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)


def test_evaluation_uses_running_statistics():
    norm = StackedBatchNorm(2, 3)
    x = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    for _ in range(200):
        norm(x)
    norm.eval()
    expected = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    torch.testing.assert_close(norm(x), expected, rtol=1e-3, atol=1e-3)
    scale, shift = norm.affine()
    torch.testing.assert_close(norm(x), x * scale[:, None] + shift[:, None])


def test_rows_without_members_are_shown_to_all():
    network = ResidualMLP(2, 3, 2, 4, blocks=1).eval()
    x = torch.randn(5, 3)
    torch.testing.assert_close(network(x), network(torch.stack([x, x])))


def test_bad_sizes_are_said():
    with pytest.raises(PosecovError, match="batch of one"):
        ResidualMLP(2, 3, 2, 4)(torch.zeros(2, 1, 3))
    with pytest.raises(PosecovError, match="positive"):
        ResidualMLP(1, 3, 0, 4)
    with pytest.raises(PosecovError, match="2 members need as many seeds, got 1"):
        ResidualMLP(2, 3, 1, 4, seeds=(0,))
