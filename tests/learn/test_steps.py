import math

import pytest
import torch
from torch import nn

from posecov.errors import PosecovError
from posecov.learn.steps import guarded_step


def _layer() -> tuple[nn.Linear, torch.optim.Optimizer]:
    layer = nn.Linear(2, 1)
    return layer, torch.optim.SGD(layer.parameters(), lr=0.1)


def test_a_step_moves_against_the_clipped_gradient():
    layer, optimizer = _layer()
    before = layer.weight.detach().clone()
    norm = guarded_step(layer(torch.tensor([3.0, 4.0])).sum(), layer.named_parameters(), optimizer, 1.0, "here")
    assert norm == pytest.approx(math.sqrt(26.0))
    expected = before - 0.1 * torch.tensor([[3.0, 4.0]]) / math.sqrt(26.0)
    torch.testing.assert_close(layer.weight.detach(), expected, atol=1e-5, rtol=1e-5)


def test_a_loss_that_is_not_finite_names_the_batch_and_changes_nothing():
    layer, optimizer = _layer()
    before = layer.weight.detach().clone()
    with pytest.raises(PosecovError, match=r"nll, epoch 2, step 7: the loss is nan"):
        guarded_step(layer.weight.sum() * math.nan, layer.named_parameters(), optimizer, 1.0, "nll, epoch 2, step 7")
    assert torch.equal(before, layer.weight)


def test_a_gradient_that_is_not_finite_names_the_parameter_and_changes_nothing():
    layer, optimizer = _layer()
    nn.init.zeros_(layer.bias)
    before = layer.weight.detach().clone()
    # The root of 0 is finite, its slope is not.
    loss = layer.weight.sum() + layer.bias.abs().sum().sqrt()
    with pytest.raises(PosecovError, match=r"epoch 1: the gradient of bias is not finite"):
        guarded_step(loss, layer.named_parameters(), optimizer, 1.0, "epoch 1")
    assert torch.equal(before, layer.weight)
    assert layer.weight.grad is None
