"""A training whose machine fails under it ends with one line and a whole checkpoint, and goes on bit for bit."""

import dataclasses
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import get_worker_info

from posecov.errors import PosecovError
from posecov.learn import mean_training, samples, training
from posecov.learn.checkpoint import load_checkpoint
from posecov.learn.training import train
from posecov.learn.trouble import explained


@pytest.fixture
def stepwise(tiny):
    """A checkpoint after every step, one process that reads, no covariance."""
    covariance = dataclasses.replace(tiny.covariance, phase1_epochs=0, phase2_epochs=0)
    mean = dataclasses.replace(tiny.mean, epochs=1)
    return dataclasses.replace(tiny, checkpoint_minutes=0.0, workers=1, mean=mean, covariance=covariance)


def _in_readers(monkeypatch, happens, after):
    """Let something happen in a process that reads pictures, at its picture of this number."""
    sample, left = samples.CropDataset.sample, [after]

    def patched(self, epoch, index):
        left[0] -= 1
        if left[0] < 0 and get_worker_info() is not None:
            happens()
        return sample(self, epoch, index)

    monkeypatch.setattr(samples.CropDataset, "sample", patched)


def _last(config):
    return load_checkpoint(Path(config.out) / "last.safetensors")


def test_a_killed_reader_is_one_line_and_the_run_goes_on(stepwise, monkeypatch):
    # Two batches are read ahead while the first one is learned from.
    _in_readers(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL), after=55)
    with pytest.raises(
        PosecovError,
        match=r"^a process that reads pictures (is killed by signal: Killed|exited unexpectedly|does not answer); ",
    ):
        train(stepwise)
    monkeypatch.undo()
    facts = _last(stepwise)[1]
    assert facts["part"] == "mean"
    assert not facts["finished"]
    resumed = load_checkpoint(train(stepwise).last)[0]
    whole = load_checkpoint(train(dataclasses.replace(stepwise, out=stepwise.out + "-whole", workers=0)).last)[0]
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_reader_that_is_gone_before_torch_knows_is_one_line(stepwise, monkeypatch, error):
    """Met when a batch is taken out of the shared memory of a process that was killed a moment ago."""

    def cut_off(*arguments):
        raise error

    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data", cut_off)
    with pytest.raises(PosecovError, match=r"^a process that reads pictures does not answer; "):
        train(stepwise)


def test_no_shared_memory_is_one_line_and_no_hang(stepwise, monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(PosecovError, match=r"no shared memory .*\(No space left on device \(28\)\); enlarge /dev/shm"):
        train(stepwise)


def test_pictures_that_vanish_are_named(stepwise, data_root, tmp_path, monkeypatch):
    root = tmp_path / "data"
    shutil.copytree(data_root, root, copy_function=os.link)
    config = dataclasses.replace(stepwise, data=dataclasses.replace(stepwise.data, root=str(root)), workers=0)
    save, left = mean_training.save_checkpoint, [1]

    def vanish(*arguments):
        save(*arguments)
        left[0] -= 1
        if left[0] == 0:
            (root / "lsp").rename(tmp_path / "gone")
            (root / "lspet" / "images").rename(tmp_path / "gone-too")

    monkeypatch.setattr(mean_training, "save_checkpoint", vanish)
    with pytest.raises(PosecovError, match=r"im\d+\.jpg: no such file$"):
        train(config)
    assert _last(config)[1]["step"] == 1
    with pytest.raises(PosecovError, match=r"joints\.mat: not found"):
        train(config)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), r"out of memory \(MemoryError\); lower mean\.batch"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), r"out of memory \(CUDA out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), "out of memory"),
        (OSError(12, "Cannot allocate memory"), "out of memory"),
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that\nmore"),
            "signal: Bus error;",
        ),
        (RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly"), "pictures exited unexpectedly;"),
        (RuntimeError("received 0 items of ancdata"), "pictures does not answer;"),
    ],
)
def test_what_fails_in_the_machine_is_one_line(error, says):
    with pytest.raises(PosecovError, match=says) as told, explained():
        raise error
    assert "\n" not in str(told.value)


def test_readers_that_are_told_to_end_stop_the_run():
    """As torchrun and schedulers do, who tell every process."""
    with pytest.raises(KeyboardInterrupt), explained():
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Terminated. ")


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(5, "Input/output error")])
def test_what_is_a_fault_of_the_program_stays_what_it_is(error):
    with pytest.raises(type(error)) as raised, explained():
        raise error
    assert raised.value is error


def test_what_fails_after_a_resume_is_not_blamed_on_the_checkpoint(stepwise, monkeypatch):
    def stop(*arguments):
        raise PosecovError("stopped")

    config = dataclasses.replace(stepwise, workers=0)
    monkeypatch.setattr(mean_training, "validate_mean", stop)
    with pytest.raises(PosecovError, match="stopped"):
        train(config)

    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(mean_training, "validate_mean", fail)
    with pytest.raises(PosecovError, match=r"^out of memory"):
        train(config)


def test_a_checkpoint_that_does_not_fit_is_still_named(stepwise, monkeypatch):
    config = dataclasses.replace(stepwise, workers=0)
    run = train(config)
    tensors, facts = load_checkpoint(run.last)
    del tensors[next(name for name in tensors if name.startswith("model/"))]
    training.save_checkpoint(run.last, tensors, facts | {"finished": False})
    with pytest.raises(PosecovError, match=r"last\.safetensors: not a checkpoint of this recipe"):
        train(config)
