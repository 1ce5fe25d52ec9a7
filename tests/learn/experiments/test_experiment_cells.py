"""Cells, tables and the command line around experiments."""

import json
import math
import sys

import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.learn.experiments import cells
from posecov.learn.experiments.cells import Options, markdown_table, read_cells, run_cell, run_command, spread, write_csv


def test_a_cell_is_computed_once_and_reads_as_it_was(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"values": np.array([1.5, math.nan]), "count": np.int64(3), "inf": math.inf}

    first = run_cell(tmp_path, {"loss": "nll", "seeds": (0, 1)}, compute)
    assert run_cell(tmp_path, {"loss": "nll", "seeds": (0, 1)}, compute) == first
    assert first == {"values": [1.5, None], "count": 3, "inf": None}
    assert len(calls) == 1
    run_cell(tmp_path, {"loss": "nll", "seeds": (0, 2)}, compute)
    assert len(calls) == 2
    assert [cell["key"]["seeds"] for cell in read_cells(tmp_path)] in ([[0, 1], [0, 2]], [[0, 2], [0, 1]])


def test_a_broken_cell_is_named(tmp_path):
    run_cell(tmp_path, {"loss": "nll"}, lambda: {"a": 1})
    next((tmp_path / "cells").glob("*.json")).write_text('{"key"')
    with pytest.raises(PosecovError, match="not a cell"):
        run_cell(tmp_path, {"loss": "nll"}, lambda: {"a": 1})


def test_an_interrupted_cell_leaves_nothing(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(tmp_path, {"loss": "nll"}, stop)
    assert not list((tmp_path / "cells").iterdir())


def test_spread_counts_what_is_not_finite():
    assert spread([1.0, 2.0, 3.0], 1) == "2.0 ± 1.0"
    assert spread([1.0, None, math.inf]) == "1.00 (2 not finite)"
    assert spread([None]) == "not finite"
    assert spread([1e7, 1e7]) == "1e+07 ± 0.00"


def test_tables(tmp_path):
    assert markdown_table([["a", "1"]], ["x", "y"]) == "| x | y |\n|---|---:|\n| a | 1 |\n"
    write_csv(tmp_path / "t.csv", [{"a": 1, "b": 0.123456789}, {"a": None, "c": "x"}])
    assert (tmp_path / "t.csv").read_text() == "a,b,c\n1,0.123457,\n,,x\n"


def test_quick_cells_lie_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Options().folder("locking").as_posix() == "runs/experiments/locking"
    assert Options(quick=True).folder("locking").as_posix() == "runs/experiments/locking-quick"
    with pytest.raises(PosecovError, match="--seeds"):
        Options(seeds=(1, 1)).folder("locking")


def test_trouble_is_one_line_and_exit_code_2(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["locking.py", "--out", str(tmp_path / "file" / "x")])
    assert run_command("locking", Options, lambda options: str(options.folder("locking"))) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "--out" in captured.err
    monkeypatch.setattr(sys, "argv", ["locking.py"])
    assert run_command("locking", Options, lambda options: "| table |\n") == 0
    assert capsys.readouterr().out == "| table |\n"


def test_cells_are_strict_json(tmp_path):
    run_cell(tmp_path, {"x": math.nan}, lambda: {"a": math.nan})
    text = next((tmp_path / "cells").glob("*.json")).read_text()
    assert json.loads(text, parse_constant=pytest.fail)["result"] == {"a": None}
    with pytest.raises(TypeError):
        cells.run_cell(tmp_path, {"y": 1}, lambda: {"a": object()})
