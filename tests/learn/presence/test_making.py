import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from conv_model import METADATA, SIZE, write_conv_model
from onnx import numpy_helper
from stick_figures import picture, pose

from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.learn.datasets import read_datasets, split_validation
from posecov.learn.presence import making
from posecov.learn.presence.judge import Settings
from posecov.learn.presence.making import Job, add_presence
from posecov.model import PoseModel

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Its poses have no extent, but are so uncertain that boxes around them are as large as the boxes that were cropped."""
    path = write_conv_model(tmp_path_factory.mktemp("making") / "net.onnx")
    network = onnx.load(str(path))
    scatter = next(tensor for tensor in network.graph.initializer if tensor.name == "scatter_1")
    deviation = SIZE / METADATA.padding / 1.1 / 2
    scatter.CopyFrom(numpy_helper.from_array((deviation**2 / 1.5 * np.eye(28)[None]).astype(np.float32), "scatter_1"))
    onnx.save(network, str(path))
    return path


@pytest.fixture(autouse=True, scope="module")
def _people_fill_their_scenes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "FACTOR", 1.2)
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(3)
    for number in range(4):
        small = rng.integers(20, 90, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="module")
def job(data_root, scenes):
    training, held = split_validation(read_datasets(["lsp", "lspet"], data_root), "lsp/", 20, 0)
    # Drawings repeat, so that pictures of held people are others' too; here that does not matter.
    everybody = [(record.image, record.box[None], np.zeros((0, 4))) for record in training[:3]]
    return Job(training[:200], held, sorted(scenes.iterdir()), 20, 10, 60, everybody, 4, Settings(epochs=20))


@pytest.fixture(scope="module")
def made(model, job, tmp_path_factory):
    content, figures = add_presence(model, job)
    path = tmp_path_factory.mktemp("made") / "net.onnx"
    path.write_bytes(content)
    return path, figures


def test_it_tells_figures_from_empty_scenes_and_leaves_the_rest(made, model, scenes):
    path = made[0]
    estimator, before = PoseEstimator(path, threads=1), PoseEstimator(model, threads=1)
    points = pose(np.random.default_rng(77))
    box = np.array([[*points.min(axis=0) - 18, *np.ptp(points, axis=0) + 36]])
    there = estimator.outputs(picture(points), box)
    empty = np.full((240, 160, 3), 40, np.uint8)
    assert there["presence"][0] > estimator.outputs(empty, box)["presence"][0] + 0.2
    assert estimator.presence(empty, box).shape == (1,)
    assert before.presence(empty, box) is None
    for name, expected in before.outputs(picture(points), box).items():
        np.testing.assert_array_equal(there[name], expected)


def test_figures_are_of_both_judges_on_the_same_candidates(made):
    figures = made[1]
    assert figures["pictures"]["with_a_person"] <= 20
    assert figures["pictures"]["without"] <= 20
    assert set(figures["area_under_roc"]) == set(figures["log_loss_of_the_best"]) == {"presence", "consistency", "together"}
    counted = sum(row["pictures"] for row in figures["reliability"]["presence"])
    assert counted == sum(figures["pictures"].values())


def test_the_same_seed_makes_the_same_file(made, model, job):
    assert add_presence(model, job)[0] == made[0].read_bytes()


def test_a_model_that_has_a_judge_gets_a_new_one(made, job, model):
    assert add_presence(made[0], job)[0] == made[0].read_bytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": ()}, "0 people to learn from"),
        ({"held": ()}, "0 held-out people"),
        ({"scenes": ()}, "0 pictures without people"),
    ],
)
def test_too_little_to_learn_from(model, job, change, said):
    from dataclasses import replace

    with pytest.raises(PosecovError, match=said):
        add_presence(model, replace(job, **change))


def test_the_tool_writes_model_and_figures(model, data_root, scenes, tmp_path, capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("presence_tool", ROOT / "tools" / "presence.py")
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "presence_tool", tool)
    spec.loader.exec_module(tool)
    out, figures = tmp_path / "new" / "net.onnx", tmp_path / "figures.json"
    sizes = {"held": 20, "every": 1, "found": 6, "empty": 6, "boxed": 12}
    tool.main(tool.Options(model, out, str(data_root), ("lsp",), scenes, json=figures, **sizes))
    assert "area_under_roc" in capsys.readouterr().out
    assert PoseModel(out, threads=1).tells_presence
    assert json.loads(figures.read_text())["model"] == "net"


def test_weights_of_word_and_steadiness_are_found_again():
    """From pictures with a likely and an unlikely place each, right as often as known weights say."""
    rng = np.random.default_rng(4)
    known, held, evidence = np.array([0.4, 0.6, 5.0]), [], []
    for _ in range(4000):
        rows = np.stack([[1, rng.normal(0, 2), rng.normal(0, 0.3)], [1, -9, -0.5]])
        right = np.array([rng.random() < 1 / (1 + np.exp(-rows[0] @ known)), False])
        held.append(making.Candidates(0, True, np.zeros((2, 1)), np.zeros(2), np.ones(2), right))
        evidence.append(rows)
    found = making.fit_together(evidence, held, np.ones(4000))
    np.testing.assert_allclose(found, known, atol=0.3)
    halved = making.fit_together(evidence[:2000], held[:2000], np.ones(2000))
    unseen = making.fit_together(evidence, held, np.repeat([1.0, 0.0], 2000))
    np.testing.assert_allclose(unseen, halved, atol=0.02)


def test_the_tool_learns_from_all_that_it_is_given(model, data_root, tmp_path, monkeypatch):
    """Without --scenes: COCO's pictures without people, and what lies beside people in the others."""
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "lsp").symlink_to(data_root / "lsp")
    people = [{"image_id": 2, "bbox": [1, 2, 30, 40], "iscrowd": 0}, {"image_id": 2, "bbox": [50, 2, 9, 9], "iscrowd": 1}]
    content = {"images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)], "annotations": people}
    (tmp_path / "coco" / "annotations" / "person_keypoints_train2017.json").write_text(json.dumps(content))
    jobs = []
    monkeypatch.setattr(making, "add_presence", lambda path, job, look: jobs.append(job) or (b"", {}))
    spec = importlib.util.spec_from_file_location("presence_tool", ROOT / "tools" / "presence.py")
    tool = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "presence_tool", tool)
    spec.loader.exec_module(tool)
    counts = {"found": 6, "empty": 7, "boxed": 8, "beside": 9}
    tool.main(tool.Options(model, tmp_path / "net.onnx", str(tmp_path), ("lsp",), held=20, every=2, seed=3, **counts))
    (job,) = jobs
    assert {name: getattr(job, name) for name in counts} == counts
    assert (job.seed, len(job.held), [path.name for path in job.scenes]) == (3, 10, ["1.jpg"])
    ((path, boxes, crowds),) = job.complete
    assert (path.name, boxes.tolist(), crowds.tolist()) == ("2.jpg", [[1, 2, 30, 40]], [[50, 2, 9, 9]])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.onnx"], "nothing.onnx: no such file"),
        (["MODEL", "--found", "0"], "--found 0: must be at least 1"),
        (["MODEL", "--data-root", "nowhere"], "nowhere"),
        (["MODEL", "--scenes", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(arguments, said, model, data_root, tmp_path):
    arguments = [str(model) if value == "MODEL" else value for value in arguments]
    rest = [] if "--data-root" in arguments else ["--data-root", data_root]
    command = [sys.executable, ROOT / "tools" / "presence.py", *arguments, "--out", tmp_path / "out.onnx", *rest]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.onnx").exists()
