import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.skeleton import Skeleton, canonical_joint, load_skeleton

SHIPPED = {"lsp14": 14, "mpii16": 16, "coco17": 17}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_skeletons(name):
    skeleton = load_skeleton(name)
    assert skeleton.name == name
    assert len(skeleton) == SHIPPED[name]
    assert {joint for limb in skeleton.limbs for joint in limb} <= set(skeleton.keypoints)
    a, b = skeleton.torso_indices
    assert a != b
    assert skeleton.limb_indices == [(skeleton.keypoints.index(i), skeleton.keypoints.index(j)) for i, j in skeleton.limbs]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_flip_exchanges_every_left_with_its_right(name):
    skeleton = load_skeleton(name)
    flipped = [skeleton.keypoints[i] for i in skeleton.flip_permutation]
    for joint, partner in zip(skeleton.keypoints, flipped, strict=True):
        expected = {"l_": "r_", "r_": "l_"}.get(joint[:2], joint[:2]) + joint[2:]
        assert partner == expected
    np.testing.assert_array_equal(skeleton.flip_permutation[skeleton.flip_permutation], np.arange(len(skeleton)))


def test_the_order_of_lsp_is_that_of_its_labels():
    assert load_skeleton("lsp14").keypoints == (
        *("r_ankle", "r_knee", "r_hip", "l_hip", "l_knee", "l_ankle", "r_wrist"),
        *("r_elbow", "r_shoulder", "l_shoulder", "l_elbow", "l_wrist", "neck", "head_top"),
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_round_trip(name):
    skeleton = load_skeleton(name)
    assert Skeleton.from_dict(skeleton.to_dict()) == skeleton


def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "hand.yaml").write_text("name: hand\nkeypoints: [wrist, tip]\nlimbs: [[wrist, tip]]\n")
    skeleton = load_skeleton(tmp_path / "hand.yaml")
    assert skeleton.limb_indices == [(0, 1)]
    with pytest.raises(PosecovError, match="torso"):
        skeleton.torso_indices  # noqa: B018


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "not a skeleton"),
        ("name: x", "keypoints"),
        ("keypoints: [a, a]", "twice"),
        ("keypoints: [a, 3]", "keypoints"),
        ("keypoints: [a, b]\nlimbs: [[a, c]]", "limbs"),
        ("keypoints: [a, b]\nlimbs: 3", "limbs"),
        ("keypoints: [a, b]\ntorso: [a]", "torso"),
        ("keypoints: [a, b, c]\nflip_pairs: [[a, b], [b, c]]", "two 'flip_pairs'"),
        ("keypoints: [l_a, r_a, l_b, r_b]\nflip_pairs: [[l_a, r_b], [l_b, r_a]]", "pair 'l_a' with 'r_b'.* is 'r_a'"),
        ("keypoints: [l_a, r_a, b]\nflip_pairs: [[l_a, b]]", "pair 'l_a' with 'b'"),
        ("keypoints: [left_a, right_a, b]", r"lacks the pair \[left_a, right_a\]"),
        ("keypoints: [left_a, l_a]", "same name"),
        ("keypoints: [a, b]\noks_sigmas: [0.1]", "oks_sigmas"),
        ("keypoints: [a, b]\nbones: []", "'bones'"),
        ("keypoints: [a, b", "cannot read"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, text, said):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(PosecovError, match=said) as caught:
        load_skeleton(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["l_elbow", "left_elbow", "Left Elbow", "left-elbow", "elbow_l", "elbow_left", "l.elbow"])
def test_spellings_of_one_joint(name):
    assert canonical_joint(name) == "l_elbow"


def test_names_without_a_side_stay():
    assert [canonical_joint(name) for name in ("head_top", "Upper Neck", "l", "tail")] == [
        "head_top",
        "upper_neck",
        "l",
        "tail",
    ]


def test_unknown_names():
    with pytest.raises(PosecovError, match=r"r_ankle, r_knee"):
        load_skeleton("lsp14").index("tail")
    with pytest.raises(PosecovError, match=r"did you mean r_ankle\?"):
        load_skeleton("lsp14").index("r_ankel")
    with pytest.raises(PosecovError, match="lsp15"):
        load_skeleton("lsp15")
