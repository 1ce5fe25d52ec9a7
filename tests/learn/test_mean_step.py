"""Steps in less than float32."""

import dataclasses

import pytest
import torch

from posecov.errors import PosecovError
from posecov.learn import mean_step
from posecov.learn.checkpoint import load_checkpoint
from posecov.learn.config import MeanConfig
from posecov.learn.mean_step import MeanStep
from posecov.learn.mean_training import mean_optimizer
from posecov.learn.model import ModelConfig, PoseModel
from posecov.learn.samples import Batch
from posecov.learn.steps import apply_gradient
from posecov.learn.training import train

NETWORK = ModelConfig(
    backbone="test_efficientnet", pretrained=False, input_size=64, frozen_stages=-1, channels=16, latent=6, basis=4, hidden=16,
    rank=2,
)  # fmt: skip


def _batch(people: int = 6) -> Batch:
    make = torch.Generator().manual_seed(1)
    crops = torch.randint(0, 256, (people, 64, 64, 3), generator=make, dtype=torch.uint8)
    points, labelled = 64 * torch.rand(people, 14, 2, generator=make), torch.ones(people, 14, dtype=torch.bool)
    return Batch(
        crops, points, labelled, torch.zeros(people, 2, 2), torch.zeros(people, dtype=torch.bool), torch.arange(people)
    )


def _step(teacher=None, **settings) -> MeanStep:
    torch.manual_seed(0)
    model, settings = PoseModel(NETWORK, 14, pretrained=False), MeanConfig(**settings)
    pixel = ((127.0,) * 3, (128.0,) * 3)
    step = MeanStep(model, mean_optimizer(model, settings), settings, pixel, torch.device("cpu"), teacher)
    step.begin()
    return step


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 2e-2), ("float16", 4e-3)])
def test_only_what_lies_below_the_heads_is_less_precise(precision, tolerance):
    step, seen = _step(precision=precision), {}
    step.model.lateral[0].register_forward_hook(lambda module, inputs, output: seen.update(below=output.dtype))
    step.model.mean_head.register_forward_hook(
        lambda module, inputs, output: seen.update(inputs={i.dtype for i in inputs}, outputs={o.dtype for o in output})
    )
    loss, error, _ = step(_batch(), [6], "here")
    assert seen == {"below": getattr(torch, precision), "inputs": {torch.float32}, "outputs": {torch.float32}}
    exact, exact_error, _ = _step()(_batch(), [6], "here")
    assert loss == pytest.approx(exact, rel=tolerance)
    assert error == pytest.approx(exact_error, rel=tolerance)
    assert loss != exact
    assert {parameter.dtype for parameter in step.model.parameters()} == {torch.float32}


def test_a_scaled_loss_gives_the_gradient_of_the_loss():
    """Weights move as they do without the scale."""
    steps = {precision: _step(precision=precision, clip=1e9) for precision in ("float16", "float32")}
    for step in steps.values():
        # Adam's first step only tells the sign of a gradient: look at the gradient itself, which stays after the step.
        moved = False
        while not moved:
            _, _, moved = step(_batch(), [6], "here")
    half, full = (dict(steps[precision].model.named_parameters()) for precision in ("float16", "float32"))
    name = "mean_head.steering"
    assert (half[name].grad - full[name].grad).norm() < 0.05 * full[name].grad.norm()


def test_a_gradient_beyond_half_precision_leaves_the_step_out_and_lowers_the_scale():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer, scaler = torch.optim.SGD([weight], lr=0.1), torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(factor):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        return apply_gradient([("w", weight)], optimizer, float("inf"), "epoch 1", scaler)

    assert step(1e38) == float("inf")
    assert torch.equal(weight, torch.ones(2))
    assert scaler.get_scale() == 2.0
    assert step(3.0) == pytest.approx(3.0 * 2**0.5)
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.7))
    step(2e38)
    assert scaler.get_scale() == 1.0
    with pytest.raises(PosecovError, match="epoch 1: the gradient of w is not finite"):
        step(float("inf"))


def test_a_step_left_out_moves_neither_weights_nor_their_average(tiny, monkeypatch):
    """The average does not take a step that the weights did not."""
    monkeypatch.setattr(mean_step, "apply_gradient", lambda *arguments: float("inf"))
    mean = dataclasses.replace(tiny.mean, epochs=1)
    covariance = dataclasses.replace(tiny.covariance, phase1_epochs=0, phase2_epochs=0)
    tensors, facts = load_checkpoint(train(dataclasses.replace(tiny, mean=mean, covariance=covariance)).last)
    assert facts["average_steps"] == 0
    torch.manual_seed(tiny.seed)
    assert torch.equal(tensors["average/mean_head.steering"], tensors["model/mean_head.steering"])


def test_half_precision_resumes_bit_for_bit(tiny, tmp_path, monkeypatch):
    mean = dataclasses.replace(tiny.mean, epochs=2, precision="float16")
    covariance = dataclasses.replace(tiny.covariance, phase1_epochs=0, phase2_epochs=0)
    config = dataclasses.replace(tiny, mean=mean, covariance=covariance, checkpoint_minutes=0.0, workers=0)
    # A scale that one has to come down from, step by step.
    make = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: make(device, init_scale=2.0**20, enabled=enabled))
    whole = load_checkpoint(train(dataclasses.replace(config, out=str(tmp_path / "whole"))).last)
    assert 0 < whole[1]["average_steps"] < 6
    loss, left = mean_step.mean_loss, [3]

    def stop(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise PosecovError("stopped")
        return loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(mean_step, "mean_loss", stop)
        with pytest.raises(PosecovError, match="stopped"):
            train(config)
    resumed = load_checkpoint(train(config).last)
    assert resumed[1]["scaler"] == whole[1]["scaler"]
    assert resumed[1]["average_steps"] == whole[1]["average_steps"]
    assert all(torch.equal(resumed[0][name], value) for name, value in whole[0].items())
