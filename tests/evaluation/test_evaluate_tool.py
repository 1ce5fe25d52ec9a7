"""tools/evaluate.py from end to end: on made-up people, and on the real ones where they are."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_model

from posecov import evaluation, resources
from posecov.errors import PosecovError
from posecov.evaluation import oks
from posecov.geometry import box_around
from posecov.learn.datasets import Record
from posecov.skeleton import load_skeleton

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = resources.find("weights/posecov-lsp14-small.onnx")
REAL_DATA = os.environ.get("POSECOV_DATA", "")


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location("evaluate_tool", ROOT / "tools" / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "evaluate_tool", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["tools/evaluate.py", "--weights", "a b.onnx"])
    return module


def records(folder, count=5, seed=0):
    """People in noise, two of them in one picture, with labels missing."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        file = folder / f"{max(index, 1)}.png"
        cv2.imwrite(str(file), rng.integers(0, 255, (180, 140, 3), dtype=np.uint8))
        labelled = rng.random(14) > 0.3
        labelled[[8, 9, 13]] = True
        points = np.where(labelled[:, None], rng.uniform(20, 120, (14, 2)), np.nan)
        found.append(Record(f"made/{index}", file, points, labelled, np.zeros(14, dtype=bool), box_around(points[labelled])))
    return found


def test_figures_tables_and_report(tool, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    people = records(tmp_path)
    nobody = np.zeros(14, dtype=bool)
    empty = Record("made/empty", people[0].image, np.full((14, 2), np.nan), nobody, nobody, np.zeros(4))
    monkeypatch.setattr(tool, "read_lsp", lambda root, split, problems: [empty, *people])
    out = tmp_path / "out"
    options = tool.Options(WEIGHTS, tmp_path, json=out / "figures.json", report=out / "page", shown=2, draws=32, threads=1)
    tool.main(options)
    printed = capsys.readouterr()
    assert "| 5 people | model |" in printed.out
    assert str(out / "page" / "report.html") in printed.err
    figures = json.loads((out / "figures.json").read_text())
    assert figures["people"] == 5
    assert figures["labelled_joints"] == sum(int(record.labelled.sum()) for record in people)
    assert (figures["oks"] is None) == (not oks.available())
    # Everything that figures had before is still where it was.
    old = json.loads(resources.find("weights/figures/posecov-lsp14-small-evaluation.json").read_text())
    assert set(old) <= set(figures)
    assert set(old["laws"]["model"]) <= set(figures["laws"]["model"])
    page = (out / "page" / "report.html").read_text()
    assert "tools/evaluate.py --weights &#x27;a b.onnx&#x27;" in page
    assert len(list((out / "page" / "pictures").iterdir())) == 4


def test_without_pycocotools_one_line_says_so(tool, tmp_path, monkeypatch, caplog):
    people = records(tmp_path, 2)
    monkeypatch.setattr(tool, "read_lsp", lambda root, split, problems: people)
    monkeypatch.setattr(oks, "available", lambda: False)
    tool.main(tool.Options(WEIGHTS, tmp_path, json=tmp_path / "figures.json", draws=32, threads=1))
    assert [r.message for r in caplog.records if "pycocotools" in r.message] == [
        'OKS AP is left out: pycocotools is not installed; run pip install -e ".[evaluate]"'
    ]
    assert json.loads((tmp_path / "figures.json").read_text())["oks"] is None


@pytest.mark.parametrize(
    ("people", "changes", "message"),
    [
        ([], {}, "nobody in data set lsp"),
        (None, {"dataset": ("cocoa",)}, "data set 'cocoa': unknown.*coco"),
        (None, {"limit": 0}, "--limit 0"),
        (None, {"draws": 0}, "--draws 0"),
        (None, {"shown": -1}, "--shown -1"),
        (None, {"folds": 1}, "--folds 1"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(tool, tmp_path, monkeypatch, people, changes, message):
    monkeypatch.setattr(tool, "read_lsp", lambda root, split, problems: people)
    with pytest.raises(PosecovError, match=message) as caught:
        tool.main(tool.Options(WEIGHTS, tmp_path, **changes))
    assert "\n" not in str(caught.value)


def dots_file(folder, people):
    """COCO annotations of the tiny model's dots: its hands and head by other names, a nose that it does not know, no middle."""
    rng = np.random.default_rng(5)
    (folder / "photos").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, people + 1):
        points = tiny_model.POINTS + rng.uniform(-25, 25, (1, 2)) + rng.normal(0, 6, (3, 2))
        name = f"{number}.png"
        cv2.imwrite(str(folder / "photos" / name), tiny_model.picture(points, 320, 240))
        images.append({"id": number, "file_name": name, "width": 320, "height": 240})
        rows = np.concatenate([points, points[:1]]) + rng.normal(0, 1.5, (4, 2))
        if number % 4 == 0:  # A labeller who takes left for right.
            rows[[0, 1]] = rows[[1, 0]]
        keypoints = np.column_stack([rows, np.full(4, 2)])
        annotation = {"id": number, "image_id": number, "category_id": 1, "area": 900.0, "bbox": [60, 40, 180, 160]}
        annotations.append(annotation | {"keypoints": keypoints.ravel().tolist()})
    category = {"id": 1, "name": "person", "keypoints": ["Right Hand", "left_hand", "head", "nose"]}
    (folder / "dots.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))


def test_a_mixture_on_data_of_ones_own(tool, tmp_path, capsys):
    dots_file(tmp_path, 60)
    weights = tiny_model.write_model(tmp_path / "dots.onnx", tiny_model.EXCHANGING, weights=tiny_model.WEIGHTS)
    options = tool.Options(
        weights, tmp_path, ("dots.json@photos",), json=tmp_path / "out.json", draws=32, resamples=20, threads=1
    )
    tool.main(options)
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["people"] == 60
    assert figures["dataset"] == "dots.json@photos"
    assert list(figures["laws"]) == ["model", *evaluation.RIVALS, *evaluation.MIXTURE_RIVALS]
    assert figures["confusion"]["exchanges"]["hand"]["weight"] == pytest.approx(0.3)
    assert 0.1 < figures["confusion"]["exchanges"]["hand"]["likeliest"] < 0.4
    assert figures["joints"]["middle"]["labelled"] == 0
    assert figures["pck"]["unit"] == "box"
    assert list(figures["conditioning"]) == ["r_hand", "l_hand"]
    printed = capsys.readouterr().out
    assert "left out: middle." in printed
    assert "| head | " in printed
    assert "\n| middle" not in printed
    assert "\n| nose" not in printed
    if oks.available():
        assert figures["oks"] is None
        assert "no labelled joint" in figures["oks_missing"]


def test_a_bad_annotation_is_refused_or_skipped(tool, tmp_path):
    dots_file(tmp_path, 3)
    document = json.loads((tmp_path / "dots.json").read_text())
    document["annotations"][1]["bbox"] = [0, 0, 0, 5]
    (tmp_path / "dots.json").write_text(json.dumps(document))
    skeleton = tiny_model.DOTS
    with pytest.raises(PosecovError, match=r"annotation 2.*--skip-bad"):
        tool.read_people(tool.Options(WEIGHTS, tmp_path, ("dots.json@photos",)), skeleton)
    records = tool.read_people(tool.Options(WEIGHTS, tmp_path, ("dots.json@photos",), skip_bad=True), skeleton)
    assert [record.name for record in records] == ["dots.json@photos/1", "dots.json@photos/3"]
    np.testing.assert_array_equal([record.area for record in records], [900, 900])


def test_the_torso_goes_either_way(tool):
    skeleton = load_skeleton("lsp14")
    truth = np.random.default_rng(0).uniform(0, 100, (4, 14, 2))
    r_hip, l_hip, r_shoulder, l_shoulder = (skeleton.index(n) for n in ("r_hip", "l_hip", "r_shoulder", "l_shoulder"))
    truth[1, l_hip] = truth[2, r_shoulder] = truth[3, [l_hip, r_hip]] = np.nan
    found = tool.torso_lengths(skeleton, truth)
    expected = [np.linalg.norm(truth[n, a] - truth[n, b]) for n, a, b in [(0, r_shoulder, l_hip), (1, l_shoulder, r_hip)]]
    np.testing.assert_allclose(found[:2], expected)
    assert found[2] == pytest.approx(np.linalg.norm(truth[2, l_shoulder] - truth[2, r_hip]))
    assert np.isnan(found[3])


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="POSECOV_DATA is not set: the real COCO is not here")
def test_real_coco(tool, tmp_path, capsys):
    tool.main(
        tool.Options(
            WEIGHTS, Path(REAL_DATA), ("coco", "coco-val"), json=tmp_path / "out.json", draws=32, resamples=20, threads=1
        )
    )
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["people"] > 20
    assert figures["joints"]["neck"]["labelled"] == figures["joints"]["head_top"]["labelled"] == 0
    assert list(figures["laws"]) == ["model"]
    assert 0 < figures["pck"]["people"] < figures["people"]
    assert f"PCK is about the {figures['pck']['people']} people" in capsys.readouterr().out
    if oks.available():
        assert "annotated" in figures["oks"]["areas"]


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="POSECOV_DATA is not set: the real LSP is not here")
def test_real_people(tmp_path):
    command = [sys.executable, "tools/evaluate.py", "--weights", str(WEIGHTS), "--data-root", REAL_DATA, "--limit", "120"]
    command += ["--report", str(tmp_path / "page"), "--json", str(tmp_path / "figures.json"), "--shown", "1", "--threads", "1"]
    command += ["--resamples", "20", "--draws", "64"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["laws"]) == ["model", *evaluation.RIVALS, *evaluation.MIXTURE_RIVALS]
    assert 0.6 < figures["pck"]["mean"] < 0.95
    assert 0.6 < figures["pckh"]["0.5"]["mean"] < 0.95
    assert figures["laws"]["model"]["risk_coverage"]["left_at_80"] < 0.85
    assert (tmp_path / "page" / "report.html").stat().st_size > 100_000
