import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from posecov.errors import PosecovError
from posecov.learn import checkpoint
from posecov.learn.checkpoint import Average, load_checkpoint, optimizer_tensors, part, restore_optimizer, save_checkpoint


def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"model/w": torch.randn(3, 2), "model/n": torch.tensor(5), "other": torch.ones(1)}
    save_checkpoint(path, tensors, {"epoch": 3, "history": [{"loss": 0.5}]})
    read, facts = load_checkpoint(path)
    assert facts["epoch"] == 3
    assert facts["history"] == [{"loss": 0.5}]
    assert set(part("model", read)) == {"w", "n"}
    torch.testing.assert_close(read["model/w"], tensors["model/w"])


def test_a_crash_while_writing_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"w": torch.ones(1)}, {"epoch": 1})

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"w": torch.zeros(1)}, {"epoch": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)[1]["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PosecovError, match=r"a\.safetensors: .*No space left"):
        save_checkpoint(tmp_path / "a.safetensors", {"w": torch.ones(1)}, {})
    assert not list(tmp_path.iterdir())


def test_what_is_no_checkpoint_is_refused(tmp_path):
    missing, text, foreign, cut, newer = (tmp_path / name for name in ("missing", "text", "foreign", "cut", "newer"))
    text.write_text("hello")
    save_file({"w": torch.ones(1)}, foreign)
    save_checkpoint(cut, {"w": torch.ones(1000)}, {})
    cut.write_bytes(cut.read_bytes()[:-100])
    save_checkpoint(newer, {"w": torch.ones(1)}, {"format": checkpoint.FORMAT + 1})
    for path in (missing, text, foreign, cut, newer):
        with pytest.raises(PosecovError, match=path.name):
            load_checkpoint(path)


@pytest.mark.parametrize("where", ["tensors", "header"])
def test_damage_is_found_and_named(tmp_path, where):
    """One bit of a tensor; one digit of a fact in the header."""
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"w": torch.ones(1000), "h": torch.ones(3).half(), "b": torch.tensor(True)}, {"epoch": 111111111})
    assert load_checkpoint(path)[1]["epoch"] == 111111111
    content = bytearray(path.read_bytes())
    content[-3 if where == "tensors" else content.index(b"111111111") + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PosecovError, match=r"a\.safetensors: damaged"):
        load_checkpoint(path)


def test_older_checkpoints_without_a_checksum_are_read(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "old", metadata={"posecov": '{"format": 1, "epoch": 2}'})
    assert load_checkpoint(tmp_path / "old")[1]["epoch"] == 2


def test_optimizer_goes_on_where_it_was(tmp_path):
    def steps(count, restored=None):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4)) if restored is None else torch.nn.Parameter(restored[0].clone())
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        if restored is not None:
            restore_optimizer(optimizer, restored[1])
        for _ in range(count):
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
        return weight.detach(), optimizer_tensors(optimizer)

    whole, _ = steps(6)
    half = steps(3)
    save_checkpoint(tmp_path / "o", half[1], {})
    resumed, _ = steps(3, (half[0], load_checkpoint(tmp_path / "o")[0]))
    assert torch.equal(whole, resumed)


def test_average_follows():
    state = {"w": torch.zeros(1), "n": torch.tensor(0)}
    average = Average(state, 0.9)
    for step in range(200):
        average.update({"w": torch.ones(1), "n": torch.tensor(step)})
    assert average.state["w"].item() == pytest.approx(1.0, abs=1e-3)
    assert average.state["n"].item() == 199
    assert state["w"].item() == 0.0
