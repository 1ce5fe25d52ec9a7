import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from posecov import output
from posecov.errors import PosecovError
from posecov.mixture import Mixture
from posecov.pose import Pose
from posecov.skeleton import Skeleton

SKELETON = Skeleton(name="two", keypoints=("a", "b"))
POSE = Pose(
    np.array([[10.0, 20.0], [130.0, 5.0]]), np.diag([4.0, 1.0, 9.0, 9.0]), SKELETON, 5.0, np.array([5.0, 5.0, 100.0, 50.0])
)


def test_outside_counts_from_the_edges_of_pixels():
    points = np.array([[0, 0], [-0.4, 0], [-0.6, 0], [99.4, 0], [99.6, 0], [0, 49.4], [0, 49.6], [0, -0.6]])
    assert output.outside(points, 100, 50).tolist() == [False, False, True, False, True, False, True, True]


def test_the_document_of_a_picture():
    document = json.loads(json.dumps(output.picture_document("p.jpg", 100, 50, "tiny", 0.9, [POSE])))
    assert {k: document[k] for k in ("image", "width", "height", "model", "mass")} == {
        "image": "p.jpg",
        "width": 100,
        "height": 50,
        "model": "tiny",
        "mass": 0.9,
    }
    (person,) = document["people"]
    assert [person["keypoints"][name]["outside"] for name in ("a", "b")] == [False, True]
    _, axes, angle = POSE.ellipse("a", 0.9)
    ellipse = person["keypoints"]["a"]["ellipse"]
    assert [ellipse["semi_major"], ellipse["semi_minor"], ellipse["angle"]] == pytest.approx([*axes, angle])
    assert ellipse["semi_major"] == pytest.approx(2 * ellipse["semi_minor"])
    again = Pose.from_dict(person)
    np.testing.assert_array_equal(again.covariance, POSE.covariance)
    np.testing.assert_array_equal(again.keypoints, POSE.keypoints)


def test_the_document_lists_exchanged_poses():
    orders = np.array([[0, 1, 2, 3], [2, 3, 0, 1]])
    pose = Pose.from_mixture(Mixture.of_exchanges(np.array([10.0, 20, 130, 5]), np.eye(4), 5.0, [0.75, 0.25], orders), SKELETON)
    (person,) = json.loads(json.dumps(output.picture_document("p.jpg", 200, 50, "tiny", 0.9, [pose])))["people"]
    (other,) = person["alternatives"]
    assert other["probability"] == 0.25
    assert (other["keypoints"]["a"]["x"], other["keypoints"]["b"]["y"]) == (130, 20)
    again = Pose.from_dict(person)
    np.testing.assert_array_equal(again.components.weights, pose.components.weights)
    assert "alternatives" not in output.picture_document("p.jpg", 100, 50, "tiny", 0.9, [POSE])["people"][0]


def test_the_table(tmp_path):
    output.write_csv(tmp_path / "t.csv", output.csv_rows("x/ü.jpg", 100, 50, 0.9, [POSE, POSE]))
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(output.CSV_COLUMNS)
    assert [(r["image"], r["person"], r["joint"], r["outside"]) for r in rows] == [
        ("x/ü.jpg", "0", "a", "0"),
        ("x/ü.jpg", "0", "b", "1"),
        ("x/ü.jpg", "1", "a", "0"),
        ("x/ü.jpg", "1", "b", "1"),
    ]
    assert float(rows[1]["x"]) == 130
    assert float(rows[1]["sigma"]) == pytest.approx(3)
    assert float(rows[0]["semi_major"]) == pytest.approx(POSE.ellipse("a", 0.9)[1][0], rel=1e-6)


def stems(tmp_path, *names, folder="out"):
    return output.output_stems([tmp_path / name for name in names], tmp_path / folder)


def test_results_are_named_after_their_pictures(tmp_path):
    assert stems(tmp_path, "a.jpg", "b.c.png") == ["a", "b.c"]


def test_no_two_pictures_share_results(tmp_path):
    assert stems(tmp_path, "a.jpg", "a.png", "b.jpg") == ["a_jpg", "a_png", "b"]
    assert stems(tmp_path, "x/a.jpg", "y/a.jpg") == ["x_a_jpg", "y_a_jpg"]
    assert stems(tmp_path, "1/x/a.jpg", "2/x/a.jpg", "x_a_jpg.png") == ["x_a_jpg", "x_a_jpg_2", "x_a_jpg_3"]
    names = stems(tmp_path, "a.jpg", "A.png", "a_png.jpg")
    assert len({name.casefold() for name in names}) == 3


def test_no_result_overwrites_a_picture(tmp_path):
    assert stems(tmp_path, "a.png", folder=".") == ["a_pose"]
    assert stems(tmp_path, "a.jpg", folder=".") == ["a"]
    names = stems(tmp_path, "a.png", "a_pose.png", folder=".")
    assert not {"a", "a_pose"} & set(names)
    assert len(set(names)) == 2


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    output.write_json(path, {"old": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PosecovError, match=r"a\.json: cannot be written \(No space left on device\)"):
        output.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_an_old_file_reads_it_to_its_end(tmp_path):
    output.write_json(tmp_path / "a.json", {"old": 1})
    with (tmp_path / "a.json").open() as reader:
        output.write_json(tmp_path / "a.json", {"new": 2})
        assert json.load(reader) == {"old": 1}
    assert json.loads((tmp_path / "a.json").read_text()) == {"new": 2}


def test_written_files_can_be_read_by_others(tmp_path):
    (tmp_path / "plain").touch()
    output.write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_png_keeps_its_pixels(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    output.write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), image)


def test_not_a_number_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        output.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_and_one_that_cannot_be_is_said(tmp_path):
    assert output.prepare_folder(tmp_path / "x" / "y").is_dir()
    assert list((tmp_path / "x" / "y").iterdir()) == []
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(PosecovError, match="cannot write results") as caught:
            output.prepare_folder(wrong)
        assert str(caught.value).startswith(f"{wrong}: ")


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40),
        min_size=1,
        max_size=4,
        unique=True,
    )
)
@settings(max_examples=40, deadline=None)
@example(["..", "...", "a\\..\\..\\b.jpg", "C:\\x.png", ".jpg", "-", "\udcff.jpg"])
def test_no_name_of_a_picture_leads_out_of_the_folder(names):
    folder = Path("/results")
    stems = output.output_stems([Path("/pictures") / name for name in names], folder)
    assert len({stem.casefold() for stem in stems}) == len(names)
    for stem in stems:
        for ending in (".png", ".json", ".mp4", ".part.jsonl"):
            assert os.path.dirname(os.path.normpath(f"{folder}/{stem}{ending}")) == str(folder)  # noqa: PTH120
