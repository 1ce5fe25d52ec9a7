"""The order in which pictures are labelled, and why."""

from pathlib import Path

import numpy as np
import pytest

from posecov.clicks import best_click, expected_gain
from posecov.pose import Pose
from posecov.ranking import COLUMNS, csv_row, judge, ordered, unit_of
from posecov.skeleton import Skeleton

SKELETON = Skeleton("arm", ("shoulder", "elbow", "wrist"))
POINTS = np.array([[50.0, 50.0], [60.0, 80.0], [70.0, 110.0]])
BOX = np.array([40.0, 40.0, 40.0, 80.0])


def make(sigmas=(2.0, 4.0, 8.0), correlation=0.5, points=POINTS, box=BOX):
    spread = np.repeat(np.array(sigmas, dtype=float), 2)
    mixing = np.kron(np.full((3, 3), correlation) + (1 - correlation) * np.eye(3), np.eye(2))
    return Pose(points, spread[:, None] * mixing * spread, SKELETON, 6.0, box)


def test_the_mean_expected_error_in_torsos():
    pose = make()
    row = judge(Path("a.jpg"), [pose], 200, 200)
    assert row.uncertainty == pytest.approx(pose.expected_error.mean() / 80, rel=1e-6)
    assert row.joints == (2, 1, 0)
    assert row.click == best_click(pose)
    assert row.gain == pytest.approx(expected_gain(pose).max())
    # A person twice as large is as uncertain with errors twice as large, and not more.
    large = make(np.array([4.0, 8.0, 16.0]), points=2 * POINTS, box=2 * BOX)
    assert judge(Path("b.jpg"), [large], 400, 400).uncertainty == pytest.approx(row.uncertainty, rel=1e-6)
    assert unit_of(make(box=None)) == pytest.approx(60 * 1.2)
    assert unit_of(make(box=np.array([40.0, 40.0, 90.0, 80.0]))) == 90  # Somebody lies.


def test_the_unit_is_the_torso_where_the_skeleton_names_one():
    trunk = Skeleton("trunk", ("l_shoulder", "r_hip"), torso=("l_shoulder", "r_hip"))
    pose = Pose(np.array([[10.0, 10.0], [40.0, 50.0]]), np.eye(4), trunk, 6.0, np.array([0.0, 0.0, 60.0, 90.0]))
    assert unit_of(pose) == pytest.approx(50)
    from_above = Pose(np.array([[10.0, 10.0], [11.0, 10.0]]), np.eye(4), trunk, 6.0, np.array([0.0, 0.0, 60.0, 90.0]))
    assert unit_of(from_above) == pytest.approx(18)


def test_joints_outside_the_picture_do_not_count():
    # The wrist would be the surest joint, and the best click.
    pose = make((8.0, 9.0, 2.0))
    row = judge(Path("a.jpg"), [pose], 200, 100)
    assert row.uncertainty == pytest.approx(pose.expected_error[:2].mean() / 80, rel=1e-6)
    assert row.joints == (1, 0)
    assert best_click(pose) == "wrist" != row.click
    none = judge(Path("b.jpg"), [pose], 40, 40)
    assert (none.picture, none.people, none.person) == (Path("b.jpg"), 1, None)
    assert "outside" in none.note


def test_a_picture_is_as_uncertain_as_its_most_uncertain_person():
    row = judge(Path("a.jpg"), [make(), make((3.0, 6.0, 12.0)), make((1.0, 1.0, 1.0))], 200, 200)
    assert (row.people, row.person) == (3, 1)


def test_the_order_and_the_table():
    sure, unsure = judge(Path("sure.jpg"), [make((1.0, 1.0, 1.0))], 200, 200), judge(Path("unsure.jpg"), [make()], 200, 200)
    nobody = judge(Path("nobody.jpg"), [], 200, 200)
    rows = ordered([nobody, sure, unsure])
    assert [row.picture.name for row in rows] == ["unsure.jpg", "sure.jpg", "nobody.jpg"]
    cells = dict(zip(COLUMNS, csv_row(rows[0], 1), strict=True))
    assert (cells["rank"], cells["image"], cells["people"], cells["person"]) == (1, "unsure.jpg", 1, 0)
    assert float(cells["uncertainty"]) * float(cells["size"]) == pytest.approx(float(cells["expected_error"]), rel=1e-3)
    assert (cells["joint_1"], cells["joint_3"]) == ("wrist", "shoulder")
    assert float(cells["error_1"]) == pytest.approx(make().expected_error[2], rel=1e-4)
    cells = dict(zip(COLUMNS, csv_row(rows[2], 3), strict=True))
    assert (cells["rank"], cells["uncertainty"], cells["people"]) == ("", "", 0)
    assert "nobody found" in cells["note"]
    cells = dict(zip(COLUMNS, csv_row(judge(Path("a.jpg"), [make()], 200, 100), 1), strict=True))
    assert (cells["joint_2"], cells["joint_3"], cells["error_3"]) == ("shoulder", "", "")
