"""The report as files: for any skeleton, with what it needs inside, and the same figures on both pages."""

import json
import math
import re

import cv2
import numpy as np
import pytest

from posecov import evaluation, law
from posecov.errors import PosecovError
from posecov.evaluation import page, pictures
from posecov.evaluation.tables import Table
from posecov.geometry import box_around
from posecov.law import Law
from posecov.pose import Pose
from posecov.skeleton import Skeleton

SOURCE = {
    "model": "tiny",
    "weights": "tiny.onnx",
    "sha256": "ab" * 32,
    "dataset": "made <up>",
    "command": "python x --report y",
}
PLAIN = Skeleton("plain", ("nose", "tail"))
LIMBED = Skeleton("limbed", ("hip", "knee", "ankle"), limbs=(("hip", "knee"), ("knee", "ankle")), torso=("hip", "knee"))


def people_of(skeleton, count, dof=5.0, seed=0, missing=0.2):
    """A crowd whose law the model knows, and its poses."""
    rng = np.random.default_rng(seed)
    joints = len(skeleton)
    factor = rng.standard_normal((count, 2 * joints, 2 * joints)) + 2 * np.eye(2 * joints)
    scatter = factor @ np.swapaxes(factor, 1, 2)
    mean = rng.uniform(40, 120, (count, 2 * joints))
    truth = Law(mean, scatter, dof).sample(rng, 1)[0].reshape(count, joints, 2)
    labelled = rng.random((count, joints)) >= missing
    labelled[:, 0] = True
    truth = np.where(labelled[..., None], truth, np.nan)
    covariances = law.covariance_from_scatter(scatter, dof)
    boxes = np.stack([box_around(points[flags]) for points, flags in zip(truth, labelled, strict=True)])
    sizes = boxes[:, 2:].max(axis=1)
    poses = [Pose(m.reshape(-1, 2), c, skeleton, dof, box=b) for m, c, b in zip(mean, covariances, boxes, strict=True)]
    report = evaluation.evaluate(
        Law(mean, scatter, dof), truth, labelled, sizes, np.full(count, np.nan), skeleton, resamples=20, draws=64
    )
    return report, poses, truth, labelled, sizes


@pytest.mark.parametrize(("skeleton", "count", "dof"), [(LIMBED, 60, 5.0), (PLAIN, 3, math.inf), (PLAIN, 1, 5.0)])
def test_a_report_for_any_skeleton_and_few_people(tmp_path, skeleton, count, dof):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    report, poses, truth, labelled, sizes = people_of(skeleton, count, dof)
    files = [tmp_path / "a.png"] * count
    cv2.imwrite(str(files[0]), np.full((160, 170, 3), 90, dtype=np.uint8))
    names = [f"set/one {index}" for index in range(count)]
    galleries = pictures.galleries(names, files, poses, truth, labelled, sizes, 2)
    assert [len(gallery) for gallery in galleries] == [min(2, count)] * 2
    path = evaluation.write_report(tmp_path / "out" / "deep", report, SOURCE, *galleries)
    text, plain = path.read_text(), path.with_name("report.md").read_text()

    # Nothing is fetched: every picture is inside, and nothing else is asked for.
    assert "made &lt;up&gt;" in text
    assert set(re.findall(r'(?:src|href)="(#s\d+|data:image/(?:svg\+xml|jpeg);base64,)', text)) >= {"#s0"}
    assert not re.findall(r'(?:src|href)="(?!#s\d|data:image/(?:svg\+xml|jpeg);base64,)', text)
    assert "<script" not in text
    assert "url(" not in text

    # What Markdown points to is there, and its cells are those of the page.
    linked = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", plain)
    assert sum(name.endswith(".jpg") for name in linked) == 2 * min(2, count)
    assert ("plots/limbs.svg" in linked) == bool(skeleton.limbs)
    for name in linked:
        assert (path.parent / name).stat().st_size > 0
    cells = [line.strip("| ").split(" | ") for line in plain.splitlines() if line.startswith("| ")]
    for row in cells:
        for cell in row:
            assert not cell.strip("* ") or f">{cell.strip('*')}<" in text or f">{cell}<" in text
    assert ("No rivals" in text) == (count < 4 * 2 * len(skeleton))
    json.dumps(report, allow_nan=False)


def test_the_galleries_hold_the_largest_errors_and_sigmas(tmp_path):
    _, poses, truth, labelled, sizes = people_of(LIMBED, 30, seed=3)
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.zeros((160, 170, 3), dtype=np.uint8))
    names = [str(index) for index in range(30)]
    worst, uncertain = pictures.galleries(names, [file] * 30, poses, truth, labelled, sizes, 5)
    distance = np.linalg.norm(np.stack([pose.keypoints for pose in poses]) - truth, axis=-1)
    error = np.nanmean(distance, axis=1) / sizes
    sigma = np.mean([pose.sigma for pose in poses], axis=1) / sizes
    assert [shown.name for shown in worst] == [str(i) for i in np.argsort(-error)[:5]]
    assert [shown.name for shown in uncertain] == [str(i) for i in np.argsort(-sigma)[:5]]
    first = worst[0]
    assert first.error == pytest.approx(error.max())
    assert first.joint == LIMBED.keypoints[int(np.nanargmax(distance[int(first.name)]))]


def test_an_overlay_shows_the_person_and_the_labels():
    image = np.full((400, 600, 3), 60, dtype=np.uint8)
    points = np.array([[300.0, 200.0], [310.0, 230.0], [305.0, 260.0]])
    pose = Pose(points, 4 * np.eye(6), LIMBED, box=box_around(points))
    truth = points + [[12.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    drawn = pictures.overlay(image, pose, truth, np.array([True, True, False]))
    assert max(drawn.shape[:2]) <= pictures.LONGEST
    # Only the surroundings of the person are shown: its 72 pixels of height take at least half of the overlay's.
    assert drawn.shape[0] / 400 > 1.2
    magenta = (drawn[:, :, 0] > 150) & (drawn[:, :, 1] < 90) & (drawn[:, :, 2] > 150)
    assert magenta.sum() > 30
    hidden = pictures.overlay(image, pose, truth, np.zeros(3, dtype=bool))
    assert not ((hidden[:, :, 0] > 150) & (hidden[:, :, 1] < 90) & (hidden[:, :, 2] > 150)).any()
    # People partly or wholly outside of the picture still give one.
    far = Pose(points + 2000, 4 * np.eye(6), LIMBED)
    assert pictures.overlay(image, far, truth + 2000, np.ones(3, dtype=bool)).size


def test_tables_escape_and_stars_mark_what_is_outside_of_its_band():
    table = Table(["a<b", "c"], [["x & y", "1"], ["**all**", "**2**"]])
    assert "<th>a&lt;b</th>" in table.html()
    assert '<tr class="strong"><td>all</td><td>2</td></tr>' in table.html()
    assert table.markdown().splitlines() == ["| a<b | c |", "|---|---|", "| x & y | 1 |", "| **all** | **2** |"]
    report, *_ = people_of(LIMBED, 60, missing=0.0)
    row = evaluation.tables.calibration_table(report).rows[0]
    share = report["laws"]["model"]["coverage_of_joints"]["hip"]["50"]
    assert row[-4] == f"{100 * share:.0f}"
    report["joints"]["hip"]["coverage_band"]["50"] = [share + 0.01, 1.0]
    assert evaluation.tables.calibration_table(report).rows[0][-4] == f"{100 * share:.0f} *"


def test_without_matplotlib_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(PosecovError, match=r"matplotlib; run pip install -e \"\.\[evaluate\]\""):
        page.write_report(tmp_path / "out", {}, SOURCE)
    assert not (tmp_path / "out").exists()
