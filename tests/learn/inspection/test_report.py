import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from posecov.errors import PosecovError
from posecov.learn.inspection.report import inspect, summary

ROOT = Path(__file__).resolve().parents[3]


def test_sheets_statistics_and_findings(tiny, tmp_path):
    report = inspect(tiny, tmp_path / "out", people=6)
    lsp, lspet = report["datasets"]["lsp"], report["datasets"]["lspet"]
    assert (lsp["people"], lspet["people"]) == (1000, 30)
    assert lsp["occluded"]["r_ankle"] == 1.0
    assert lspet["labelled"]["l_hip"] == 0.5
    assert lspet["complete"] == 0.5
    assert lsp["box"]["least"] <= lsp["box"]["median"] <= lsp["box"]["most"]
    # Drawings on an even ground are too flat to be compared.
    assert report["duplicates"] == []
    assert json.loads((tmp_path / "out" / "inspection.json").read_text()) == report
    sheet = cv2.imread(str(tmp_path / "out" / "samples.png"))
    # Two rows of three people, each before and twice after.
    assert sheet.shape[1] > sheet.shape[0] > 400
    assert len({tuple(colour) for colour in sheet.reshape(-1, 3)[::7].tolist()}) > 100
    assert "suspicious labels: 0 of 1030 people" in summary(report)
    three = [{"person": f"lsp/im{i}", "kind": "long limb", "what": "its shin"} for i in range(3)]
    text = summary(report | {"suspects": three, "suspects_by_kind": {"long limb": 3}}, lines=2)
    assert "suspicious labels: 3 of 1030 people" in text
    assert "    lsp/im1: its shin\n    and 1 more" in text
    with pytest.raises(PosecovError, match="people 0"):
        inspect(tiny, tmp_path / "out", people=0)


def test_the_command(data_root, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {{root: {data_root}, datasets: [lspet], repeat: [1], validation_from: lspet}}\n")
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    command = [sys.executable, str(ROOT / "tools" / "inspect_data.py"), str(recipe), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--no-duplicates"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "lspet" in done.stdout
    assert (tmp_path / "out" / "samples.png").is_file()
    failed = subprocess.run([*command, "--datasets", "lps"], capture_output=True, text=True, env=environment, check=False)
    assert failed.returncode == 2
    assert failed.stderr.startswith("inspect_data: data set 'lps': unknown")
    assert failed.stderr.count("\n") == 1
