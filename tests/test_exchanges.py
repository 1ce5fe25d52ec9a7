import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecov.errors import PosecovError
from posecov.exchanges import (
    Exchange,
    coordinate_orders,
    exchanges_from_plain,
    exchanges_of,
    exchanges_to_plain,
    limb_pairs,
)
from posecov.skeleton import Skeleton, load_skeleton

LEG, ARM = ("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")
BODY = {
    "none": (),
    "leg": LEG,
    "lower leg": LEG[1:],
    "ankle": LEG[2:],
    "arm": ARM,
    "forearm": ARM[1:],
    "wrist": ARM[2:],
}


def moved(skeleton, exchange):
    """The joints that an exchange moves, without their side."""
    names = [skeleton.keypoints[i] for i, j in enumerate(exchange.permutation) if i != j]
    return {name.split("_", 1)[1] for name in names}, len(names)


@pytest.mark.parametrize("name", ["lsp14", "mpii16", "coco17"])
def test_the_exchanges_of_the_shipped_skeletons(name):
    skeleton = load_skeleton(name)
    found = {exchange.name: moved(skeleton, exchange) for exchange in exchanges_of(skeleton)}
    expected = dict(BODY)
    if name == "coco17":
        expected |= {"eye-ear": ("eye", "ear"), "ear": ("ear",), "arm, eye-ear and leg together": (*LEG, *ARM, "eye", "ear")}
    else:
        expected |= {"arm and leg together": (*LEG, *ARM)}
    assert found == {key: (set(joints), 2 * len(joints)) for key, joints in expected.items()}
    assert next(iter(found)) == "none"


@pytest.mark.parametrize("name", ["lsp14", "mpii16", "coco17"])
def test_joints_change_places_with_their_mirror_joints_only(name):
    skeleton = load_skeleton(name)
    for exchange in exchanges_of(skeleton):
        for index, other in enumerate(exchange.permutation):
            assert other in (index, skeleton.flip_permutation[index])
            assert exchange.permutation[other] == index


def test_a_pair_alone_has_its_joint_s_name_not_the_limb_s():
    limbs = (("neck", "r_knee"), ("neck", "l_knee"))
    skeleton = Skeleton("knees", ("neck", "r_knee", "l_knee"), (("r_knee", "l_knee"),), limbs)
    assert [exchange.name for exchange in exchanges_of(skeleton)] == ["none", "knee"]
    assert [limb.name for limb in limb_pairs(skeleton)] == ["knee"]


def test_a_branched_limb_goes_with_what_it_hangs_from():
    sides = [(f"r_{name}", f"l_{name}") for name in ("toe", "heel", "ankle", "hip")]
    limbs = [(f"{s}_{a}", f"{s}_{b}") for s in "rl" for a, b in (("ankle", "toe"), ("ankle", "heel"), ("hip", "ankle"))]
    skeleton = Skeleton("feet", tuple(j for pair in sides for j in pair), tuple(sides), (*limbs, ("r_hip", "l_hip")))
    found = [moved(skeleton, exchange)[0] for exchange in exchanges_of(skeleton)]
    assert found == [set(), {"hip", "ankle", "toe", "heel"}, {"ankle", "toe", "heel"}, {"toe"}, {"heel"}]


def test_skeletons_without_limbs_or_sides():
    assert exchanges_of(Skeleton("hand", ("wrist", "tip"), limbs=(("wrist", "tip"),))) == (Exchange("none", (0, 1)),)
    eyes = Skeleton("eyes", ("left_eye", "right_eye", "a", "b"), (("left_eye", "right_eye"), ("a", "b")))
    assert [exchange.name for exchange in exchanges_of(eyes)] == ["none", "eye", "a/b", "a/b and eye together"]


@st.composite
def skeletons(draw):
    count = draw(st.integers(1, 6))
    pairs = [(f"r_{i}", f"l_{i}") for i in range(count)]
    joints = [*[j for pair in pairs for j in pair], "c"]
    limbs = draw(
        st.lists(st.tuples(st.sampled_from(joints), st.sampled_from(joints)).filter(lambda e: e[0] != e[1]), max_size=12)
    )
    return Skeleton("any", tuple(joints), tuple(pairs), tuple(limbs))


@given(skeletons())
def test_any_skeleton_has_distinct_exchanges_of_pairs_the_empty_one_first(skeleton):
    exchanges = exchanges_of(skeleton)
    assert exchanges[0].permutation == tuple(range(len(skeleton)))
    # One for every pair, and one for all of them, which a single limb has already.
    assert len(skeleton.flip_pairs) + 1 <= len(exchanges) <= len(skeleton.flip_pairs) + 2
    assert tuple(skeleton.flip_permutation) in {exchange.permutation for exchange in exchanges}
    assert exchanges_from_plain(exchanges_to_plain(exchanges), len(skeleton)) == exchanges


def test_orders_of_coordinates_move_x_and_y_together():
    orders = coordinate_orders([Exchange("none", (0, 1, 2)), Exchange("swap", (2, 1, 0))])
    np.testing.assert_array_equal(orders, [[0, 1, 2, 3, 4, 5], [4, 5, 2, 3, 0, 1]])


def test_what_are_no_exchanges_is_said():
    with pytest.raises(PosecovError, match="file 'exchanges' must exchange pairs"):
        exchanges_from_plain([{"name": "none", "permutation": [0, 0]}], 2, "file 'exchanges'")


@pytest.mark.parametrize("name", ["lsp14", "mpii16", "coco17"])
def test_limbs_hang_in_pairs_from_the_trunk(name):
    skeleton = load_skeleton(name)
    found = {
        pair.name: ({skeleton.keypoints[j][2:] for j in pair.joints}, {skeleton.keypoints[j] for j in pair.ends})
        for pair in limb_pairs(skeleton)
    }
    expected = {"leg": (set(LEG), {"r_ankle", "l_ankle"}), "arm": (set(ARM), {"r_wrist", "l_wrist"})}
    assert found == (expected | {"eye-ear": ({"eye", "ear"}, {"r_ear", "l_ear"})} if name == "coco17" else expected)
    assert all(len(pair.joints) == 2 * len({skeleton.keypoints[j][2:] for j in pair.joints}) for pair in limb_pairs(skeleton))
    assert limb_pairs(Skeleton("hand", ("wrist", "tip"))) == ()
