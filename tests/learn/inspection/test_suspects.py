import dataclasses

import numpy as np
import pytest

from posecov.learn.datasets import read_lsp
from posecov.learn.inspection.suspects import find_suspects, limb_norms, neighbouring_pairs
from posecov.skeleton import Skeleton, load_skeleton

LSP = load_skeleton("lsp14")


@pytest.fixture
def people(data_root):
    return read_lsp(data_root / "lsp", "train")[:40]


def _moved(record, joint, to):
    points = record.keypoints.copy()
    points[LSP.index(joint)] = to
    return dataclasses.replace(record, keypoints=points)


def _exchanged(record, *joints):
    points = record.keypoints.copy()
    for joint in joints:
        pair = [LSP.index(f"l_{joint}"), LSP.index(f"r_{joint}")]
        points[pair] = points[pair[::-1]]
    return dataclasses.replace(record, keypoints=points)


def _of(suspects, kind):
    return [suspect for suspect in suspects if suspect.kind == kind]


def test_sound_labels_are_not_suspicious(people):
    assert find_suspects(people, LSP) == []


def test_what_is_planted_is_found(people):
    wrist, elbow = (people[3].keypoints[LSP.index(joint)] for joint in ("l_wrist", "l_elbow"))
    people[3] = _moved(people[3], "l_wrist", elbow + 3.5 * (wrist - elbow))
    people[5] = _exchanged(people[5], "hip", "knee", "ankle")
    people[7] = _moved(people[7], "l_wrist", people[7].keypoints[LSP.index("l_elbow")])
    people[8] = _moved(people[8], "head_top", [70, -30])
    found = find_suspects(people, LSP)
    assert next((s.index, s.joints) for s in _of(found, "long limb")) == (3, (LSP.index("l_elbow"), LSP.index("l_wrist")))
    assert {s.index for s in _of(found, "left and right")} == {5}
    assert "r_hip, l_hip and r_shoulder, l_shoulder" in _of(found, "left and right")[0].what
    assert {s.index for s in _of(found, "one place")} == {7}
    assert 8 in {s.index for s in _of(found, "outside picture")}


def test_boxes_and_people_twice(people):
    x, y = people[2].keypoints.min(axis=0)
    people[2] = dataclasses.replace(people[2], annotated_box=np.array([x, y, 60.0, 60.0]))
    people[9] = dataclasses.replace(people[4], name="again")
    found = find_suspects(people, LSP)
    assert {s.index for s in _of(found, "outside box")} == {2}
    assert [(s.index, s.what) for s in _of(found, "person twice")] == [(9, f"the same person as {people[4].name}")]


def test_limb_norms_follow_the_person(people):
    points = np.stack([record.keypoints for record in people])
    points[1] *= 3
    lengths, expected = limb_norms(points, LSP)
    assert np.median(expected[1]) == pytest.approx(3 * np.median(expected[0]), rel=0.3)
    np.testing.assert_allclose(np.median(lengths / expected, axis=0), 1, atol=0.1)
    points[0, :11] = np.nan
    assert np.isnan(limb_norms(points, LSP)[1][0]).all()


def test_pairs_that_limbs_or_the_torso_join():
    names = {(LSP.keypoints[a[0]][2:], LSP.keypoints[b[0]][2:]) for a, b in neighbouring_pairs(LSP)}
    assert names == {("ankle", "knee"), ("knee", "hip"), ("hip", "shoulder"), ("wrist", "elbow"), ("elbow", "shoulder")}
    mpii = load_skeleton("mpii16")
    assert len(neighbouring_pairs(mpii)) == 5


def test_a_skeleton_without_limbs(people):
    assert find_suspects(people, Skeleton("bare", LSP.keypoints)) == []
