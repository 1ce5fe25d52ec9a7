"""What a pose promises to its users."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.geometry import Similarity
from posecov.law import Law
from posecov.pose import Pose
from posecov.skeleton import Skeleton

SKELETON = Skeleton(name="three", keypoints=("hip", "knee", "ankle"))


def make(dof=5.0, seed=0, **changes):
    rng = np.random.default_rng(seed)
    factor = 5 * rng.standard_normal((6, 9))
    fields = {
        "keypoints": np.array([[100.0, 50.0], [110.0, 90.0], [105.0, 130.0]]),
        "covariance": factor @ factor.T,
        "skeleton": SKELETON,
        "degrees_of_freedom": dof,
        "box": np.array([80.0, 30.0, 60.0, 120.0]),
    }
    return Pose(**{**fields, **changes})


def test_types_shapes_and_units():
    pose = make()
    assert pose.keypoints.dtype == pose.covariance.dtype == pose.box.dtype == pose.sigma.dtype == np.float32
    assert pose.keypoints.shape == (3, 2)
    assert pose.covariance.shape == (6, 6)
    assert pose.names == SKELETON.keypoints
    assert pose.alternatives == []
    np.testing.assert_array_equal(pose.covariance, pose.covariance.T)
    block = pose.covariance[2:4, 2:4]
    assert pose.sigma[1] == pytest.approx(np.sqrt((block[0, 0] + block[1, 1]) / 2))
    np.testing.assert_allclose(pose.scatter, pose.covariance * 3 / 5, rtol=1e-6)


def test_the_expected_error_follows_the_law_and_is_0_where_a_joint_is_known():
    pose = make()
    assert pose.expected_error.shape == (3,)
    assert pose.expected_error.dtype == np.float32
    law = Law.from_covariance(pose.keypoints.reshape(-1), pose.covariance, 5.0)
    np.testing.assert_allclose(pose.expected_error, law.expected_errors(), rtol=1e-6)
    known = pose.condition({"knee": (112.0, 92.0)})
    assert known.expected_error[1] == 0
    assert (known.expected_error[[0, 2]] > 0).all()


def test_covariances_are_made_symmetric_and_known_joints_certain():
    skewed = np.diag([4.0] * 6)
    skewed[0, 5] = 1
    pose = make(covariance=skewed)
    assert pose.covariance[0, 5] == pose.covariance[5, 0] == 0.5
    pose = make(covariance=skewed, known=("ankle",))
    assert not pose.covariance[4:].any()
    assert not pose.covariance[:, 4:].any()
    assert pose.covariance[0, 0] == 4


def test_a_pose_does_not_change():
    keypoints = np.zeros((3, 2), dtype=np.float32)
    pose = make(keypoints=keypoints)
    keypoints[0] = 7
    assert pose.keypoints[0, 0] == 0
    with pytest.raises(ValueError, match="read-only"):
        pose.keypoints[0] = 7


def test_mass_is_uniform_over_people():
    pose, rng = make(), np.random.default_rng(1)
    people = Law.from_covariance(coordinates.flatten(pose.keypoints), pose.covariance, 5.0).sample(rng, 1500).reshape(-1, 3, 2)
    assert stats.kstest([pose.mass(p) for p in people], "uniform").pvalue > 1e-3
    people[:, 1] = np.nan
    assert stats.kstest([pose.mass(p) for p in people], "uniform").pvalue > 1e-3
    half, none = people[0].copy(), people[0].copy()
    half[2, 0], none[2] = np.nan, np.nan
    assert pose.mass(half) == pose.mass(none) != pose.mass(people[0])


def test_the_ellipse_is_where_the_mass_of_the_joint_is_reached():
    pose = make()
    centre, axes, angle = pose.ellipse("knee", mass=0.7)
    np.testing.assert_array_equal(centre, pose.keypoints[1])
    for semi_axis, turn in zip(axes, (angle, angle + np.pi / 2), strict=True):
        points = np.full((3, 2), np.nan)
        points[1] = centre + semi_axis * np.array([np.cos(turn), np.sin(turn)])
        assert pose.mass(points) == pytest.approx(0.7, abs=1e-6)


def test_probability_within_a_radius_of_a_round_joint():
    # A round Gaussian: 1 - exp(-r^2 / 2 sigma^2); as a t of 4 degrees of freedom its scatter is half the covariance.
    assert make(math.inf, covariance=9 * np.eye(6)).probability_within("hip", 3.0) == pytest.approx(1 - np.exp(-0.5))
    assert make(4.0, covariance=8 * np.eye(6)).probability_within("hip", 4.0) == pytest.approx(1 - (1 + 4 / 4) ** -2.0)


@pytest.mark.parametrize("dof", [math.inf, 5.0])
def test_condition_moves_and_narrows_the_rest(dof):
    pose = make(dof)
    there = pose.keypoints[0].astype(float) + [3, -2]
    after = pose.condition({"hip": there})
    assert after.known == ("hip",)
    np.testing.assert_array_equal(after.box, pose.box)
    assert after.degrees_of_freedom == dof + 2
    np.testing.assert_allclose(after.keypoints[0], there)
    assert not after.covariance[:2].any()
    known, rest = np.arange(2), np.arange(2, 6)
    gain = pose.scatter[np.ix_(rest, known)] @ np.linalg.inv(pose.scatter[np.ix_(known, known)])
    residual = there - pose.keypoints[0]
    np.testing.assert_allclose(
        coordinates.flatten(after.keypoints)[2:], coordinates.flatten(pose.keypoints)[2:] + gain @ residual, rtol=1e-5
    )
    narrowed = pose.scatter[2:, 2:] - gain @ pose.scatter[:2, 2:]
    squared = residual @ np.linalg.inv(pose.scatter[:2, :2]) @ residual
    factor = 1 if math.isinf(dof) else (dof + squared) / (dof + 2) * (dof + 2) / dof
    # The covariance stays second moments, now of a t with two more degrees of freedom.
    np.testing.assert_allclose(after.covariance[2:, 2:], factor * narrowed, rtol=1e-4)


def test_conditioning_step_by_step_is_conditioning_at_once():
    pose = make()
    hip, ankle = (103.0, 48.0), (99.0, 133.0)
    once, twice = pose.condition({"hip": hip, "ankle": ankle}), pose.condition({"ankle": ankle}).condition({"hip": hip})
    np.testing.assert_allclose(once.keypoints, twice.keypoints, rtol=1e-5)
    np.testing.assert_allclose(once.covariance, twice.covariance, rtol=1e-3, atol=1e-6)
    assert once.degrees_of_freedom == twice.degrees_of_freedom == 9
    assert once.known == twice.known == ("hip", "ankle")


def test_known_joints_are_certain():
    pose = make().condition({"hip": (103.0, 48.0)})
    centre, axes, _ = pose.ellipse("hip")
    np.testing.assert_allclose(centre, [103, 48])
    np.testing.assert_array_equal(axes, 0)
    assert pose.sigma[0] == 0
    assert pose.probability_within("hip", 0.5) == 1
    points = pose.keypoints.astype(float) + np.array([[0, 0], [4, 1], [2, -3]])
    asked = points.copy()
    asked[0] = np.nan
    assert pose.mass(points) == pose.mass(asked) > 0
    points[0] += 1
    assert pose.mass(points) == 1
    points[0] -= 1
    # A hundredth of a pixel is the same place: float32 and JSON round.
    for off, same in ((0.009, True), (0.011, False)):
        moved = points + [[off, 0], [0, 0], [0, 0]]
        assert (pose.mass(moved) < 1) == same
    points[1:] = np.nan
    assert pose.mass(points) == 0
    assert pose.condition({"hip": (103.0, 48.0)}) is pose
    with pytest.raises(PosecovError, match=r"hip is known already, at \(103, 48\)"):
        pose.condition({"hip": (104.0, 48.0)})
    everything = pose.condition({"knee": points[0], "ankle": points[0]})
    assert everything.known == SKELETON.keypoints
    assert everything.mass(everything.keypoints) == 0


def test_conditional_masses_stay_uniform():
    pose, rng = make(3.5), np.random.default_rng(2)
    people = Law.from_covariance(coordinates.flatten(pose.keypoints), pose.covariance, 3.5).sample(rng, 1500).reshape(-1, 3, 2)
    masses = [pose.condition({"hip": p[0], "ankle": p[2]}).mass(p) for p in people]
    assert stats.kstest(masses, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dof", [math.inf, 4.7])
def test_json_gives_the_same_pose_back(dof):
    for pose in (make(dof), make(dof).condition({"knee": (1.1, 2.2)}), make(dof, box=None)):
        fields = json.loads(json.dumps(pose.to_dict(), allow_nan=False))
        back = Pose.from_dict(fields)
        np.testing.assert_array_equal(back.keypoints, pose.keypoints)
        np.testing.assert_array_equal(back.covariance, pose.covariance)
        assert (back.box is None) == (pose.box is None)
        assert (back.degrees_of_freedom, back.known, back.skeleton) == (pose.degrees_of_freedom, pose.known, pose.skeleton)
    ankle = make(dof).to_dict()["keypoints"]["ankle"]
    assert (ankle["x"], ankle["y"]) == (105, 130)
    assert ankle["sigma"] == pytest.approx(make(dof).sigma[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": np.zeros((2, 2))}, r"keypoints must have shape \(3, 2\), not \(2, 2\)"),
        ({"keypoints": np.full((3, 2), np.nan)}, "keypoints must be finite"),
        ({"keypoints": "left"}, "keypoints must be numbers"),
        ({"covariance": np.eye(4)}, "covariance must have shape"),
        ({"covariance": np.diag([1, 1, 1, 1, 1, -1.0])}, "not positive definite"),
        ({"covariance": np.ones((6, 6))}, "not positive definite"),
        ({"degrees_of_freedom": 2.0}, "more than 2 degrees of freedom"),
        ({"box": np.zeros(3)}, "box must have shape"),
        ({"known": ("nose",)}, "no joint 'nose'"),
    ],
)
def test_what_is_not_a_pose(change, message):
    with pytest.raises(PosecovError, match=message) as caught:
        make(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dof", [5.0, math.inf])
def test_a_pose_in_another_frame_answers_the_same(dof):
    pose = make(dof)
    turn = np.array([[0.0, -2.0], [2.0, 0.0]])
    frame = Similarity(turn, np.array([7.0, -3.0]))
    points = pose.keypoints + np.array([[3.0, 1.0], [-2.0, 4.0], [0.0, -6.0]])
    for one in (pose, pose.condition({"knee": points[1]})):
        mapped = one.mapped(frame)
        assert mapped.box is None
        assert mapped.known == one.known
        np.testing.assert_allclose(mapped.sigma, 2 * one.sigma, rtol=1e-5)
        assert mapped.mass(frame.points(points)) == pytest.approx(one.mass(points), abs=1e-4)
        assert mapped.probability_within("hip", 10) == pytest.approx(one.probability_within("hip", 5), abs=1e-4)


def test_questions_that_have_no_answer():
    pose = make()
    for ask, message in [
        (lambda: pose.ellipse("nose"), "no joint 'nose'"),
        (lambda: pose.ellipse("hip", mass=1.0), "mass"),
        (lambda: pose.probability_within("hip", -1), "radius"),
        (lambda: pose.condition({"nose": (1, 2)}), "no joint 'nose'"),
        (lambda: pose.condition({"hip": (1, math.nan)}), "the place of hip must be finite"),
        (lambda: pose.condition({"hip": 3}), "the place of hip must have shape"),
        (lambda: pose.mass(np.zeros((2, 2))), "points must have shape"),
        (lambda: pose.mass(np.full((3, 2), np.inf)), "points must be finite"),
        (lambda: pose.mass(np.full((3, 2), np.nan)), "no joint of these points"),
        (lambda: Pose.from_dict({}), "this is not a pose"),
        (lambda: Pose.from_dict({**pose.to_dict(), "keypoints": {}}), "this is not a pose"),
    ]:
        with pytest.raises(PosecovError, match=message):
            ask()


def test_what_float32_cannot_hold_is_refused():
    skeleton = Skeleton("one", ("a",))
    for keypoints, covariance in (([[1e39, 0]], np.eye(2)), ([[0, 0]], np.eye(2) * 1e39), ([[10**400, 0]], np.eye(2))):
        with pytest.raises(PosecovError, match=r"finite|numbers"):
            Pose(keypoints, covariance, skeleton, 5.0)
