import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from posecov.errors import PosecovError
from posecov.images import read_image
from posecov.learn.datasets import Problems, read_datasets, read_lsp, read_lspet, split_validation
from posecov.learn.datasets.record import make_record

REAL_DATA = os.environ.get("POSECOV_DATA", "")


def test_lsp_is_zero_based_and_split(data_root):
    train, test = read_lsp(data_root / "lsp", "train"), read_lsp(data_root / "lsp", "test")
    assert (len(train), len(test)) == (1000, 1000)
    assert (train[0].name, test[0].name) == ("lsp/im0001", "lsp/im1001")
    mat = scipy.io.loadmat(data_root / "lsp" / "joints.mat")["joints"]
    np.testing.assert_allclose(test[4].keypoints, mat[:2, :, 1004].T - 1)
    # The drawn dot lies where the label says: the picture and the annotation share one frame.
    x, y = np.round(train[3].keypoints[13]).astype(int)
    assert read_image(train[3].image)[y, x].max() > 150
    assert train[0].occluded.tolist() == [True] + [False] * 13


def test_lspet_leaves_unlabelled_joints_out(data_root):
    records = read_lspet(data_root / "lspet")
    assert records[0].labelled.sum() == 12
    assert np.isnan(records[0].keypoints[3:5]).all()
    assert records[1].labelled.all()
    low = np.nanmin(records[0].keypoints, axis=0)
    assert (records[0].box[:2] < low).all()
    assert records[0].box[2:].max() == pytest.approx(1.2 * np.nanmax(np.ptp(records[0].keypoints[records[0].labelled], axis=0)))


def test_duplicates_are_dropped(tmp_path, data_root):
    (tmp_path / "images").mkdir()
    joints = np.full((14, 3, 400), 5.0) + np.arange(14)[:, None, None]
    joints[:, 2] = 1
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    for number in range(1, 401):
        (tmp_path / "images" / f"im{number:05d}.jpg").hardlink_to(data_root / "drawing0.jpg")
    names = {record.name for record in read_lspet(tmp_path)}
    assert len(names) == 398
    assert not names & {"lspet/im00178", "lspet/im00385"}


def test_people_with_hardly_a_label_are_left_out(tmp_path, data_root):
    (tmp_path / "images").mkdir()
    joints = np.ones((14, 3, 2)) * 9
    joints[:, 2] = 1
    joints[2:, :2, 0] = -1
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    for number in (1, 2):
        (tmp_path / "images" / f"im{number:05d}.jpg").hardlink_to(data_root / "drawing0.jpg")
    assert [record.name for record in read_lspet(tmp_path)] == ["lspet/im00002"]


def test_validation_is_disjoint_and_repeatable(data_root):
    records = read_datasets(["lsp", "lspet"], data_root)
    train, validation = split_validation(records, "lsp/", 60, seed=3)
    assert len(train) == len(records) - 60
    assert {r.name for r in validation}.isdisjoint(r.name for r in train)
    assert all(r.name.startswith("lsp/") for r in validation)
    assert [r.name for r in split_validation(records, "lsp/", 60, seed=3)[1]] == [r.name for r in validation]
    assert [r.name for r in split_validation(records, "lsp/", 60, seed=4)[1]] != [r.name for r in validation]


def _broken(path: Path, kind: str) -> None:
    (path / "images").mkdir(parents=True)
    if kind == "text":
        (path / "joints.mat").write_text("no MATLAB here")
    elif kind == "variable":
        scipy.io.savemat(path / "joints.mat", {"other": np.zeros(3)})
    elif kind == "shape":
        scipy.io.savemat(path / "joints.mat", {"joints": np.zeros((3, 16, 2000))})
    elif kind == "truncated":
        scipy.io.savemat(path / "joints.mat", {"joints": np.random.default_rng(0).random((3, 14, 2000))}, do_compression=True)
        content = (path / "joints.mat").read_bytes()
        (path / "joints.mat").write_bytes(content[: len(content) // 2])
    elif kind == "images":
        scipy.io.savemat(path / "joints.mat", {"joints": np.random.default_rng(0).random((3, 14, 2000)) * 100})


@pytest.mark.parametrize("kind", ["nothing", "text", "variable", "shape", "truncated", "images"])
def test_broken_data_is_one_line_naming_the_file(tmp_path, kind):
    _broken(tmp_path / "lsp", kind)
    with pytest.raises(PosecovError) as caught:
        read_lsp(tmp_path / "lsp", "train")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_data_set(tmp_path):
    with pytest.raises(PosecovError, match=r"there are lsp, lspet, mpii, .*did you mean lspet\?"):
        read_datasets(["lspte"], tmp_path)
    with pytest.raises(PosecovError, match=r"none of annot/train\.json"):
        read_datasets(["mpii"], tmp_path)


def test_missing_pictures_can_be_skipped(tmp_path, data_root):
    (tmp_path / "images").mkdir()
    shutil.copy(data_root / "lspet" / "joints.mat", tmp_path)
    for number in range(2, 31):
        (tmp_path / "images" / f"im{number:05d}.jpg").hardlink_to(data_root / "drawing0.jpg")
    problems = Problems()
    assert len(read_lspet(tmp_path, problems)) == 29
    assert "im00001.jpg is missing" in problems.lines[0]


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="POSECOV_DATA is not set: the real LSP and LSPET are not here")
def test_real_data_sets():
    root = Path(REAL_DATA)
    lsp, extended = read_lsp(root / "lsp", "train"), read_lspet(root / "lspet")
    assert len(lsp) == 1000
    assert all(record.labelled.all() for record in lsp)
    assert len(extended) == 9998
    assert sum(r.labelled.sum() for r in extended) / (14 * len(extended)) == pytest.approx(0.88, abs=0.01)


def test_a_head_box_counts_before_a_head_size():
    points, labelled = np.arange(8.0).reshape(4, 2), np.ones(4, dtype=bool)

    def size(**known):
        return make_record("a/1", Path("a.jpg"), points, labelled, ~labelled, **known).head_size

    assert np.isnan(size())
    assert size(head_size=5.0) == 5
    assert size(head_size=5.0, head_box=np.array([0.0, 0.0, 30.0, 40.0])) == pytest.approx(30)
