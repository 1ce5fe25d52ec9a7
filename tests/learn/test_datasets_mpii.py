import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from annotation_files import coco, people, write_mpii_csv, write_mpii_h5, write_mpii_json, write_mpii_mat, write_pictures

from posecov.errors import PosecovError
from posecov.learn.datasets import Problems, read_coco, read_datasets, read_mpii
from posecov.skeleton import load_skeleton

REAL_DATA = os.environ.get("POSECOV_DATA", "")
NAMES = ["a.jpg", "b.jpg", "c.jpg"]
WRITERS = {"csv": write_mpii_csv, "json": write_mpii_json, "h5": write_mpii_h5, "mat": write_mpii_mat}


@pytest.fixture
def folder(tmp_path) -> Path:
    write_pictures(tmp_path / "images", NAMES)
    return tmp_path


def _read(path: Path, problems: Problems | None = None) -> list:
    mine = Problems()
    records = read_mpii(path, mine if problems is None else problems).records
    if problems is None:
        mine.settle()
    return records


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_same_people(folder, form):
    records = _read(WRITERS[form](folder / f"train.{form}", people(), NAMES))
    assert [record.image.name for record in records] == NAMES
    assert len({record.name for record in records}) == 3
    for record, points in zip(records, people(), strict=True):
        np.testing.assert_allclose(record.keypoints, points - 1, atol=1e-9)
    assert records[1].labelled.tolist() == [False] + [True] * 15


@pytest.mark.parametrize("form", ["h5", "mat"])
def test_what_is_labelled_but_not_visible_is_occluded(folder, form):
    first = _read(WRITERS[form](folder / f"train.{form}", people(), NAMES))[0]
    assert np.flatnonzero(first.occluded).tolist() == [3]
    assert first.labelled.all()


def test_head_boxes_and_sizes(folder):
    for record in _read(write_mpii_mat(folder / "x.mat", people(), NAMES)):
        np.testing.assert_allclose(record.head_box, [10, 20, 30, 40])
        assert record.head_size == pytest.approx(0.6 * 50)
    assert _read(write_mpii_h5(folder / "x.h5", people(), NAMES))[0].head_size == 12.5
    points = people()
    inferred = _read(write_mpii_csv(folder / "x.csv", points, NAMES))[0].head_size
    assert inferred == pytest.approx(0.75 * np.linalg.norm(points[0, 8] - points[0, 9]))


def test_head_boxes_beside_the_validation_people(folder):
    boxes = np.array([[[11, 12, 13], [21, 22, 23]], [[41, 42, 43], [61, 62, 63]]], dtype=float)
    scipy.io.savemat(folder / "gt_valid.mat", {"headboxes_src": boxes})
    records = _read(write_mpii_json(folder / "valid.json", people(), NAMES))
    np.testing.assert_allclose(records[2].head_box, [12, 22, 30, 40])
    scipy.io.savemat(folder / "gt_valid.mat", {"headboxes_src": boxes[..., :2]})
    with pytest.raises(PosecovError, match="another split"):
        _read(folder / "valid.json")


def test_joints_far_outside_are_bad_and_a_little_outside_as_published(folder):
    points = people()
    points[0, 0], points[0, 1], points[2, 5] = (-8, 50), (-500, 50), (30, 5000)
    problems = Problems()
    records = _read(write_mpii_csv(folder / "x.csv", points, NAMES), problems)
    assert [record.labelled.sum() for record in records] == [15, 15, 15]
    assert records[0].keypoints[0].tolist() == [-9, 49]
    assert len(problems.lines) == 2
    assert "line 2: joint r_knee lies at (-501, 49), outside" in problems.lines[0]
    with pytest.raises(PosecovError, match=r"and 1 more.*--skip-bad"):
        _read(folder / "x.csv")


@pytest.mark.parametrize("form", WRITERS)
def test_missing_pictures_and_ways_out_of_the_folder(folder, form):
    write_pictures(folder.parent, ["outside.jpg"])
    (folder / "images" / "b.jpg").unlink()
    problems = Problems()
    path = WRITERS[form](folder / f"x.{form}", people(), [*NAMES[:2], "../../outside.jpg"])
    assert [record.image.name for record in _read(path, problems)] == ["a.jpg"]
    assert "b.jpg is missing" in problems.lines[0]
    assert "leads out of" in problems.lines[1]
    assert all(str(path) in line and "\n" not in line for line in problems.lines)


def test_wrong_entries_are_noted(folder):
    path = write_mpii_json(folder / "x.json", people(), NAMES)
    path.write_text(path.read_text().replace('"joints_vis"', '"visible"', 1))
    problems = Problems()
    assert len(_read(path, problems)) == 2
    assert "person 1" in problems.lines[0]
    text = write_mpii_csv(folder / "x.csv", people(), NAMES).read_text()
    (folder / "x.csv").write_text(text.replace("\n3,", "\n2,"))
    problems = Problems()
    assert len(_read(folder / "x.csv", problems)) == 2
    assert "line 4: has the same id" in problems.lines[0]


def test_joints_that_are_not_numbers(folder):
    points = people()
    path = write_mpii_csv(folder / "x.csv", points, NAMES)
    path.write_text(path.read_text().replace(f",{points[0, 4, 0]},", ",nan,", 1))
    problems = Problems()
    assert _read(path, problems)[0].labelled.sum() == 15
    assert "not two finite numbers" in problems.lines[0]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", b"ID,NAME,r ankle_X\n", "no column 'r ankle_Y'"),
        ("x.csv", b"\xff\xfe\x00", "readable table"),
        ("x.json", b'{"a": 1}', "not a list"),
        ("x.json", b"[1, ", "JSON"),
        ("x.h5", b"nothing", "HDF5"),
        ("x.mat", b"nothing", "MATLAB"),
        ("x.txt", b"nothing", "endings"),
    ],
)
def test_files_that_are_something_else(folder, name, content, says):
    (folder / name).write_bytes(content)
    with pytest.raises(PosecovError, match=says) as caught:
        _read(folder / name)
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_matlab_files(folder):
    scipy.io.savemat(folder / "x.mat", {"joints": np.zeros(3)})
    with pytest.raises(PosecovError, match="no RELEASE"):
        _read(folder / "x.mat")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA, reason="POSECOV_DATA is not set: the real MPII annotations are not here")
def test_real_mpii():
    root = Path(REAL_DATA)
    table, split = ({r.image.name: r for r in read_mpii(root / "mpii" / name, Problems()).records} for name in (
        "mpii_human_pose.csv", "pose_hg_valid.h5"
    ))  # fmt: skip
    assert len(table) == len(split) == 5
    for name, record in split.items():
        np.testing.assert_allclose(record.keypoints, table[name].keypoints, atol=1)
        assert record.head_size == pytest.approx(table[name].head_size, rel=0.01)
    test = read_datasets(["mpii/test_mpii.json"], root, load_skeleton("mpii16"))
    assert {record.image.name for record in test} == set(table)


OUTSIDE = [
    *("/etc/passwd", "{folder}/a.jpg", "C:\\a.jpg", "..\\a.jpg", "x\\..\\..\\a.jpg"),
    *("\\\\host\\a.jpg", "x/../../a.jpg", "linked.jpg"),
]


@pytest.mark.parametrize("form", [*WRITERS, "coco"])
def test_no_name_leads_out_of_the_folder_of_pictures(folder, form):
    write_pictures(folder, ["a.jpg"])
    (folder / "images" / "x").mkdir()
    (folder / "images" / "linked.jpg").symlink_to(folder / "a.jpg")
    for name in OUTSIDE:
        names, problems = [*NAMES[:2], name.format(folder=folder)], Problems()
        if form == "coco":
            (folder / "x.json").write_text(json.dumps(coco(people(), names, list(load_skeleton("mpii16").keypoints))))
            records = read_coco(folder / "x.json", folder / "images", problems).records
        else:
            records = _read(WRITERS[form](folder / f"x.{form}", people(), names), problems)
        assert [record.image.name for record in records] == NAMES[:2], name
        assert len(problems.lines) == 1
        assert "out of" in problems.lines[0]


def test_names_that_no_file_can_have(folder):
    for name in ("x" * 5000, "x/" * 3000, "a\ud800.jpg"):
        problems = Problems()
        assert len(_read(write_mpii_json(folder / "x.json", people(), [*NAMES[:2], name]), problems)) == 2
        assert len(problems.lines) == 1


def test_numbers_beyond_all_floats(folder):
    path = write_mpii_json(folder / "x.json", people(), NAMES)
    path.write_text(path.read_text().replace("[", f"[[{10**400}, 1], ", 2).replace(f"[[{10**400}, 1], ", "[", 1))
    problems = Problems()
    assert len(_read(path, problems)) == 2
    assert len(problems.lines) == 1


def _with_table(path, make):
    write_mpii_h5(path, people(), NAMES)
    with h5py.File(path, "a") as file:
        table = file["part"][()]
        del file["part"]
        make(file, table, path.parent)
    return path


def _other_file(file, table, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["part"] = table
    file["part"] = h5py.ExternalLink(str(folder / "other.h5"), "part")


def _other_bytes(file, table, folder):
    (folder / "secret.bin").write_bytes(table.tobytes())
    file.create_dataset("part", table.shape, table.dtype, external=[(str(folder / "secret.bin"), 0, table.nbytes)])


def _virtual(file, table, folder):
    layout = h5py.VirtualLayout(table.shape, table.dtype)
    with h5py.File(folder / "other.h5", "w") as other:
        other["part"] = table
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "part", table.shape)
    file.create_virtual_dataset("part", layout)


HOSTILE = {
    "other file": _other_file,
    "other bytes": _other_bytes,
    "virtual": _virtual,
    "soft link": lambda file, table, folder: file.__setitem__("part", h5py.SoftLink("/visible")),
    "huge": lambda file, table, folder: file.create_dataset("part", (10**9, 16, 2), "f8", chunks=(1, 16, 2)),
    "group": lambda file, table, folder: file.create_group("part"),
    "scalar": lambda file, table, folder: file.__setitem__("part", 1.0),
    "text": lambda file, table, folder: file.__setitem__("part", np.full((3, 16, 2), b"x")),
    "objects": lambda file, table, folder: file.create_dataset("part", (3, 16, 2), h5py.string_dtype()),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_tables_that_are_elsewhere_or_something_else(folder, kind):
    path = _with_table(folder / "x.h5", HOSTILE[kind])
    with pytest.raises(PosecovError, match=r"not an HDF5 file of MPII's people \(part is|its tables must") as caught:
        _read(path)
    assert str(caught.value).startswith(f"{path}: ")
