import dataclasses

import pytest
import torch
from test_mean_step import _batch, _step

from posecov.errors import PosecovError
from posecov.learn.checkpoint import flatten_state, load_checkpoint, part, save_checkpoint
from posecov.learn.model import PoseModel, load_mean
from posecov.learn.teacher import Teacher
from posecov.learn.training import train

CPU = torch.device("cpu")


def test_a_teacher_sees_what_its_network_sees_at_the_pupils_size(tiny, tiny_run):
    pupil = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, input_size=96))
    teacher = Teacher(tiny_run.last, pupil, 14, CPU)
    images = torch.randn(2, 3, 96, 96)
    model = PoseModel(pupil.model, 14, pretrained=False)
    load_mean(model, part("model", load_checkpoint(tiny_run.last)[0]))
    with torch.no_grad():
        torch.testing.assert_close(teacher(images), model.eval().mean(images).probabilities)
    assert not teacher(images).requires_grad


def test_a_step_whose_labels_count_for_nothing_learns_from_the_teacher_alone(tiny):
    taught = torch.rand(6, 14, 64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    batch = _batch()
    moved = dataclasses.replace(batch, points=batch.points + 5.0)

    def losses(share: float) -> list[float]:
        return [_step(teacher=lambda images: taught, teacher_share=share)(one, [6], "here")[0] for one in (batch, moved)]

    alone, same = losses(1.0)
    assert alone == pytest.approx(same)
    first, second = losses(0.5)
    assert first != pytest.approx(second)
    assert first == pytest.approx((alone + losses(0.0)[0]) / 2, rel=1e-5)
    step = _step(teacher=lambda images: taught, teacher_share=1.0, lr=1e-2)
    assert step(batch, [6], "here")[0] > min(step(batch, [6], "here")[0] for _ in range(8))


def test_a_run_with_a_teacher_says_so(tiny, tiny_run, tmp_path):
    mean = dataclasses.replace(tiny.mean, epochs=1, teacher=str(tiny_run.last))
    covariance = dataclasses.replace(tiny.covariance, phase1_epochs=0, phase2_epochs=0)
    run = train(dataclasses.replace(tiny, mean=mean, covariance=covariance))
    facts = load_checkpoint(run.last)[1]
    assert facts["finished"]
    assert facts["config"]["mean"]["teacher"] == str(tiny_run.last)


def test_what_cannot_teach_is_refused_in_one_line(tiny, tiny_run, tmp_path):
    with pytest.raises(PosecovError, match=r"none.safetensors: no such checkpoint"):
        Teacher(tmp_path / "none.safetensors", tiny, 14, CPU)
    with pytest.raises(PosecovError, match=r"cannot teach; its skeleton is lsp14, here coco17"):
        Teacher(tiny_run.last, dataclasses.replace(tiny, skeleton="coco17"), 17, CPU)
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, backbone="tf_efficientnet_lite0"))
    with pytest.raises(PosecovError, match=r"cannot teach; its backbone test_efficientnet scales pixels another way"):
        Teacher(tiny_run.last, other, 14, CPU)
    empty = tmp_path / "empty.safetensors"
    save_checkpoint(empty, flatten_state("model", {"x": torch.zeros(1)}), {"part": "mean"})
    with pytest.raises(PosecovError, match=r"cannot teach; it holds no mean"):
        Teacher(empty, tiny, 14, CPU)
