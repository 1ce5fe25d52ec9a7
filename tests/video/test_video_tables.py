import csv
import json

import numpy as np
import pytest
from tiny_model import DOTS, METADATA, POINTS, picture

from posecov.video.frames import Followed
from posecov.video.results import FrameResult, ResultsWriter, make_header
from posecov.video.tables import radius_of, write_coco, write_csv, write_npz


@pytest.fixture
def pose(estimator):
    return estimator(picture(POINTS, 320, 240), boxes=[[80, 60, 130, 110]])[0]


@pytest.fixture
def results(pose, model_path, tmp_path):
    """Makes results: for every frame the numbers of its people."""

    def make(*frames):
        path = tmp_path / "a.jsonl"
        writer = ResultsWriter(path, make_header("a.mp4", 320, 240, METADATA, model_path))
        for index, ids in enumerate(frames):
            writer.write(FrameResult(index, index / 4, [Followed(i, pose, pose) for i in ids]))
        writer.close()
        return path

    return make


def test_the_table_of_one_person_has_deeplabcuts_three_rows(results, pose, tmp_path):
    write_csv(results([1], [], [1]), tmp_path / "a.csv", 4.0)
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert [row[0] for row in rows] == ["scorer", "bodyparts", "coords", "0", "1", "2"]
    assert rows[0][1:] == ["tiny_within_4px"] * 12
    assert rows[1][1:] == [name for name in DOTS.keypoints for _ in range(3)]
    assert rows[2][1:4] == ["x", "y", "likelihood"]
    assert rows[4][1:] == [""] * 12
    np.testing.assert_allclose([float(rows[3][1]), float(rows[3][2])], pose.keypoints[0], rtol=1e-6)
    assert float(rows[3][3]) == pytest.approx(pose.probability_within("r_hand", 4.0), rel=1e-5)


def test_the_table_of_several_people_names_them(results, tmp_path):
    write_csv(results([1], [3, 1]), tmp_path / "a.csv")
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert [row[0] for row in rows] == ["scorer", "individuals", "bodyparts", "coords", "0", "1"]
    assert rows[1][1:] == ["person1"] * 12 + ["person3"] * 12
    assert rows[4][13:] == [""] * 12
    assert "" not in rows[5]


def test_the_radius_that_is_stated():
    header = {"width": 1920, "height": 1080}
    assert radius_of(header, None) == 22
    assert radius_of(header, 7.5) == 7.5
    assert radius_of({"width": 20, "height": 20}, None) == 1


def test_coco_results(results, pose, tmp_path):
    write_coco(results([1], [], [1, 2]), tmp_path / "a.json", 4.0)
    entries = json.loads((tmp_path / "a.json").read_text())
    assert [(e["image_id"], e["track_id"], e["category_id"]) for e in entries] == [(0, 1, 1), (2, 1, 1), (2, 2, 1)]
    points = np.array(entries[0]["keypoints"]).reshape(-1, 3)
    np.testing.assert_allclose(points[:, :2], pose.keypoints, atol=1e-3)
    assert entries[0]["score"] == pytest.approx(points[:, 2].mean(), abs=1e-4)
    assert entries[0]["bbox"] == [80, 60, 130, 110]


@pytest.mark.parametrize("frames", [([1], [], [3, 1]), ([], []), ()])
def test_arrays(results, pose, tmp_path, frames):
    write_npz(results(*frames), tmp_path / "a.npz")
    found = np.load(tmp_path / "a.npz")
    people = len({i for ids in frames for i in ids})
    assert found["keypoints"].shape == (len(frames), people, 4, 2)
    assert found["covariance"].shape == (len(frames), people, 8, 8)
    np.testing.assert_array_equal(found["time"], np.arange(len(frames)) / 4)
    assert list(found["names"]) == list(DOTS.keypoints)
    if people:
        np.testing.assert_array_equal(found["id"], [1, 3])
        np.testing.assert_array_equal(found["covariance"][2, 1], pose.covariance)
        assert np.isnan(found["keypoints"][1]).all()
        assert np.isnan(found["degrees_of_freedom"][0, 1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "a.npz"]
