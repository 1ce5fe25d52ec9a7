"""Two processes train what one does; what fails in one of them ends all, with one line."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest
import torch
from forked import run_together

from posecov.errors import PosecovError
from posecov.learn import mean_training, processes, samples
from posecov.learn.checkpoint import load_checkpoint
from posecov.learn.mean_step import MeanStep
from posecov.learn.samples import Share
from posecov.learn.training import train


def _mean_only(config, out, **mean):
    # Thirty people, half of them without two joints; batches of 14, the last one of 2.
    data = dataclasses.replace(config.data, datasets=("lspet",), validation_from="lsp", repeat=(1,), limit=0)
    settings = dataclasses.replace(config.mean, epochs=1, batch=14, **mean)
    covariance = dataclasses.replace(config.covariance, phase1_epochs=0, phase2_epochs=0)
    return dataclasses.replace(config, data=data, mean=settings, covariance=covariance, out=str(out), workers=0)


@pytest.fixture
def few_labels(monkeypatch):
    """Two people of three have three joints: means over a process's or a part's joints are not those over the step's."""
    whole = samples.crop_record

    def some(image, record, *arguments):
        crop, points, labelled = whole(image, record, *arguments)
        labelled[: 11 if sum(record.name.encode()) % 3 else 0] = False
        return crop, points, labelled

    monkeypatch.setattr(samples, "crop_record", some)


def _losses(config):
    """Loss of every step; what is in the checkpoint at the end."""
    losses, take = [], MeanStep.__call__

    def noted(self, *arguments):
        result = take(self, *arguments)
        losses.append(result[0])
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeanStep, "__call__", noted)
        run = train(config)
    return losses, run.last


def _together(config, count=2):
    results = run_together(lambda rank: _losses(config), count)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [losses for losses, _ in results], results[0][1]


def _same_weights(one: Path, other: Path, tolerance: float) -> None:
    mine, theirs = (load_checkpoint(path)[0] for path in (one, other))
    assert set(mine) == set(theirs)
    for name, value in mine.items():
        # A constant on a logit map changes nothing: its gradient is noise, which Adam takes at full size.
        if name.endswith("mean_head.maps.bias"):
            continue
        if name.startswith(("model/", "average/")) and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, theirs[name], atol=tolerance, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


def test_two_processes_or_two_parts_learn_what_one_does_with_frozen_statistics(tiny, tmp_path, few_labels):
    losses, last = _losses(_mean_only(tiny, tmp_path / "one", frozen_statistics=True))
    (first, second), together = _together(_mean_only(tiny, tmp_path / "two", frozen_statistics=True))
    assert first == second
    assert len(losses) == 3
    assert first == pytest.approx(losses, rel=1e-5)
    _same_weights(together, last, 2e-4)
    parts, accumulated = _losses(_mean_only(tiny, tmp_path / "parts", frozen_statistics=True, accumulate=3))
    assert parts == pytest.approx(losses, rel=1e-5)
    _same_weights(accumulated, last, 2e-4)


def test_batchnorm_sees_parts_and_processes_alike(tiny, tmp_path):
    parts, last = _losses(_mean_only(tiny, tmp_path / "parts", accumulate=2))
    (first, _), together = _together(_mean_only(tiny, tmp_path / "two"))
    assert first == pytest.approx(parts, rel=1e-5)
    _same_weights(together, last, 2e-4)
    whole, _ = _losses(_mean_only(tiny, tmp_path / "whole"))
    # Statistics of whole batches are others: the comparison above can fail.
    assert whole != pytest.approx(parts, rel=1e-3)


def test_a_whole_run_of_two_processes(tiny, tmp_path):
    frozen = dataclasses.replace(tiny, mean=dataclasses.replace(tiny.mean, frozen_statistics=True, epochs=1))
    one = train(dataclasses.replace(frozen, out=str(tmp_path / "one")))
    two = run_together(lambda rank: train(dataclasses.replace(frozen, out=str(tmp_path / "two"))).history)
    assert two[1] == []
    for mine, theirs in zip(two[0], one.history, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        for key in ("validation_pck", "validation_error_px", "validation_nll"):
            assert mine.get(key, 0.0) == pytest.approx(theirs.get(key, 0.0), rel=1e-3)
    mine, theirs = (load_checkpoint(tmp_path / name / "features.safetensors")[0] for name in ("two", "one"))
    assert {name: value.shape for name, value in mine.items()} == {name: value.shape for name, value in theirs.items()}
    assert torch.equal(mine["group1/points"], theirs["group1/points"])
    torch.testing.assert_close(mine["group2/features.mean"], theirs["group2/features.mean"], atol=1e-2, rtol=0)


def test_two_processes_go_on_from_one_checkpoint(tiny, tmp_path, monkeypatch):
    config = _mean_only(tiny, tmp_path / "whole", frozen_statistics=True)
    _, whole = _together(config)
    config = dataclasses.replace(config, out=str(tmp_path / "stopped"), checkpoint_minutes=0.0)
    schedule, left = mean_training.warm_cosine, [2]

    def stop(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise PosecovError("stopped")
        return schedule(*arguments)

    monkeypatch.setattr(mean_training, "warm_cosine", stop)
    results = run_together(lambda rank: train(config))
    assert all(isinstance(result, PosecovError) for result in results)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "stopped" / "last.safetensors")[1]["step"] == 2
    (losses, _), resumed = _together(config)
    assert len(losses) == 1
    mine, theirs = load_checkpoint(resumed)[0], load_checkpoint(whole)[0]
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_an_error_in_one_process_is_said_once(tiny, tmp_path, monkeypatch):
    config = dataclasses.replace(_mean_only(tiny, tmp_path / "run"), checkpoint_minutes=0.0)
    read, left = samples.read_image, [9]

    def unreadable(path):
        left[0] -= 1
        if left[0] < 0 and os.environ["RANK"] == "1":
            raise PosecovError("im0001.jpg: not a picture")
        return read(path)

    monkeypatch.setattr(samples, "read_image", unreadable)
    first, second = run_together(lambda rank: train(config))
    assert str(second) == "im0001.jpg: not a picture"
    assert isinstance(first, processes.SaidError)
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1]["step"] == 1


def test_a_killed_process_ends_the_others(tiny, tmp_path, monkeypatch):
    config = dataclasses.replace(_mean_only(tiny, tmp_path / "run"), checkpoint_minutes=0.0)
    read, left = samples.read_image, [9]

    def die(path):
        left[0] -= 1
        if left[0] < 0 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path)

    monkeypatch.setattr(samples, "read_image", die)
    first, second = run_together(lambda rank: train(config))
    assert second is None
    assert isinstance(first, processes.LostError)
    assert "\n" not in str(first)
    assert "goes on from the last checkpoint" in str(first)
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1]["step"] == 1


def test_processes_with_other_settings_are_refused(tiny, tmp_path):
    def other(rank):
        return train(_mean_only(tiny, tmp_path / "run", lr=1e-3 * (1 + rank)))

    results = run_together(other)
    assert str(results[1]) == "settings: process 1 has others than process 0; give all machines the same"
    assert isinstance(results[0], PosecovError)


def test_too_many_parts_are_refused(tiny, tmp_path):
    first, second = run_together(lambda rank: train(_mean_only(tiny, tmp_path / "run", accumulate=4)))
    # Both see it by themselves; one that is much later hears that it has been said.
    assert {type(first), type(second)} <= {PosecovError, processes.SaidError}
    assert "fewer than two for each of 2 processes" in str(first) + str(second)


@pytest.mark.parametrize("people", [1, 2, 3, 7, 32])
def test_parts_do_not_depend_on_who_has_them(people):
    def parts(count, accumulate):
        found = []
        for rank in range(count):
            share = Share(rank, count, accumulate)
            mine = list(share.of(list(range(people))))
            assert len(mine) == sum(share.sizes(people))
            for size in share.sizes(people):
                found.append(mine[:size])
                mine = mine[size:]
        return found

    assert parts(4, 1) == parts(2, 2) == parts(1, 4)
    assert [i for part in parts(4, 1) for i in part] == list(range(people))


def test_a_process_without_people_takes_its_step():
    assert Share(1, 2).sizes(1) == [0]
    assert processes.split_sizes(7, 3) == [3, 2, 2]
