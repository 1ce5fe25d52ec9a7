"""A pose whose left and right may be confused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from test_law import random_scatter

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.geometry import Similarity
from posecov.law import Law
from posecov.mixture import Mixture
from posecov.pose import Pose, law_of_poses
from posecov.skeleton import Skeleton

SKELETON = Skeleton(
    name="legs",
    keypoints=("r_ankle", "r_knee", "l_knee", "l_ankle", "neck"),
    flip_pairs=(("r_ankle", "l_ankle"), ("r_knee", "l_knee")),
    limbs=(("r_ankle", "r_knee"), ("l_ankle", "l_knee"), ("r_knee", "neck"), ("l_knee", "neck")),
)
ORDERS = coordinate_orders(exchanges_of(SKELETON))  # none, both joints, the ankles
POINTS = np.array([[100.0, 200.0], [105.0, 150.0], [150.0, 152.0], [160.0, 203.0], [130.0, 60.0]])
WEIGHTS = np.array([0.7, 0.2, 0.1])
BOX = np.array([80.0, 50.0, 100.0, 170.0])


def law_of(dof=5.0, weights=WEIGHTS, points=POINTS, seed=0):
    scatter = 4 * random_scatter(np.random.default_rng(seed), 10)
    return Mixture.of_exchanges(coordinates.flatten(points), scatter, dof, weights, ORDERS)


def make(dof=5.0, **changes):
    return Pose.from_mixture(law_of(dof, **changes), SKELETON, BOX)


def test_keypoints_are_the_unexchanged_mean_and_covariance_the_moments_about_them():
    pose, law = make(), law_of()
    np.testing.assert_array_equal(pose.keypoints, POINTS.astype(np.float32))
    np.testing.assert_allclose(pose.covariance, law.covariance, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(pose.scatter, law.scatters[0], rtol=1e-6)
    assert pose.covariance.dtype == np.float32
    # The confusion of left and right is in the moments: 0.3 x 60 px apart.
    assert pose.sigma[0] > 0.9 * math.sqrt(0.3) * 60 / math.sqrt(2) > pose.sigma[4]
    np.testing.assert_array_equal(pose.box, BOX)


def test_a_mixture_of_one_is_the_plain_pose():
    pose = make(weights=np.ones(1)) if len(ORDERS) == 1 else Pose.from_mixture(law_of().part([0]), SKELETON, BOX)
    assert pose.components is None
    plain = Pose(POINTS, pose.covariance, SKELETON, 5.0, BOX)
    assert pose.to_dict() == plain.to_dict()
    assert pose.alternatives == []


@pytest.mark.parametrize("dof", [math.inf, 5.0])
def test_masses_are_uniform_over_people_before_and_after_conditioning(dof):
    pose = make(dof)
    people = coordinates.unflatten(pose.components.sample(np.random.default_rng(1), 800))
    assert stats.kstest([pose.mass(p) for p in people], "uniform").pvalue > 1e-3
    after = [pose.condition({"r_ankle": p[0]}).mass(p) for p in people[:200]]
    assert stats.kstest(after, "uniform").pvalue > 1e-3
    twice = [pose.condition({"r_ankle": p[0]}).condition({"neck": p[4]}).mass(p) for p in people[:200]]
    assert stats.kstest(twice, "uniform").pvalue > 1e-3
    people[:, 1] = np.nan
    assert stats.kstest([pose.mass(p) for p in people], "uniform").pvalue > 1e-3


def test_a_click_on_the_other_side_turns_the_limb_over():
    pose = make()
    same, other = pose.condition({"r_ankle": (101.0, 201.0)}), pose.condition({"r_ankle": (159.0, 202.0)})
    np.testing.assert_allclose(same.keypoints[3], POINTS[3], atol=8)
    np.testing.assert_allclose(other.keypoints[3], POINTS[0], atol=8)
    # Both joints exchanged are likelier than the ankles alone.
    np.testing.assert_allclose(other.keypoints[1:3], POINTS[[2, 1]], atol=12)
    assert other.known == ("r_ankle",)
    assert other.degrees_of_freedom == 7
    assert other.sigma[3] < 0.5 * pose.sigma[3]
    np.testing.assert_array_equal(other.covariance[:2], 0)
    _, probability = other.alternatives[0]
    assert 0.2 < probability < 0.5
    assert other.condition({"r_ankle": (159.0, 202.0)}) is other
    everything = other.condition(dict(zip(pose.names, POINTS, strict=True)) | {"r_ankle": (159.0, 202.0)})
    assert everything.known == pose.names
    assert everything.components is None
    assert everything.mass(everything.keypoints) == 0


def test_conditioning_step_by_step_is_conditioning_at_once():
    pose, places = make(), {"neck": (128.0, 66.0), "l_knee": (109.0, 149.0)}
    once, twice = pose.condition(places), pose.condition({"l_knee": places["l_knee"]}).condition({"neck": places["neck"]})
    np.testing.assert_allclose(once.keypoints, twice.keypoints, rtol=1e-4)
    np.testing.assert_allclose(once.covariance, twice.covariance, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(once.components.weights, twice.components.weights, rtol=1e-4)


def test_alternatives_are_exchanged_poses_with_their_probability():
    (both, first), (ankles, second) = make().alternatives
    assert (first, second) == pytest.approx((0.2, 0.1))
    np.testing.assert_array_equal(both.keypoints, POINTS[[3, 2, 1, 0, 4]])
    np.testing.assert_array_equal(ankles.keypoints, POINTS[[3, 1, 2, 0, 4]])
    assert both.components is None
    np.testing.assert_array_equal(both.box, BOX)
    np.testing.assert_allclose(both.scatter, law_of().scatters[1], rtol=1e-5)
    rare = make(weights=np.array([0.9995, 0.0004, 0.0001]))
    assert rare.alternatives == []
    # Less likely than 0.001, neither more nor as likely.
    assert [chance for _, chance in make(weights=np.array([0.9975, 0.0015, 0.001])).alternatives] == [0.0015, 0.001]


def test_alternatives_that_look_the_same_are_one():
    together = POINTS.copy()
    together[2] = together[1] + 0.5
    ((pose, probability),) = make(points=together).alternatives
    assert probability == pytest.approx(0.3)
    assert pose.components.components == 2
    np.testing.assert_allclose(pose.components.weights, [2 / 3, 1 / 3])


def test_ellipse_region_and_probability_agree_with_samples():
    pose, rng = make(), np.random.default_rng(2)
    ankle = pose.components.sample(rng, 200_000)[:, :2]
    assert pose.probability_within("r_ankle", 10.0) == pytest.approx(
        (np.linalg.norm(ankle - POINTS[0], axis=1) < 10).mean(), abs=0.005
    )
    centre, axes, angle = pose.ellipse("r_ankle", 0.9)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert (np.linalg.norm((ankle - centre) @ turn.T / axes, axis=1) < 1).mean() == pytest.approx(0.9, abs=0.005)
    assert len(pose.region("r_ankle", 0.9)) == 2
    assert len(pose.region("neck", 0.9)) == 1
    points = np.full((5, 2), np.nan)
    for polygon in pose.region("r_ankle", 0.9):
        points[0] = polygon[7]
        assert pose.mass(points) == pytest.approx(0.9, abs=0.005)
    # The neck is exchanged with nothing: what a single law says is exact.
    single = Pose.from_mixture(law_of().part([0]), SKELETON, BOX)
    assert pose.probability_within("neck", 4.0) == pytest.approx(single.probability_within("neck", 4.0))
    np.testing.assert_allclose(pose.ellipse("neck")[1], single.ellipse("neck")[1], rtol=1e-6)
    np.testing.assert_allclose(pose.region("neck")[0], single.region("neck")[0], rtol=1e-6)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("mass", [0.3, 0.95, 0.9999])
def test_all_ellipses_at_once_are_those_one_by_one(known, mass):
    pose = make()
    pose = pose.condition({pose.names[0]: pose.keypoints[0] + 2.0}) if known else pose
    axes, angles = pose.ellipses(mass)
    for index, name in enumerate(pose.names):
        _, expected, angle = pose.ellipse(name, mass)
        np.testing.assert_allclose(axes[index], expected, rtol=1e-6)
        assert angles[index] == pytest.approx(angle)


def test_known_joints_have_no_region():
    pose = make().condition({"r_ankle": (101.0, 201.0)})
    assert pose.region("r_ankle") == []
    np.testing.assert_array_equal(pose.ellipse("r_ankle")[1], 0)
    assert pose.probability_within("r_ankle", 1.0) == 1
    assert Pose(POINTS, np.eye(10), SKELETON, known=("neck",)).region("neck") == []
    assert pose.mass(np.vstack([[[200.0, 0.0]], POINTS[1:]])) == 1


@pytest.mark.parametrize("dof", [math.inf, 4.7])
def test_json_gives_the_same_pose_back(dof):
    for pose in (make(dof), make(dof).condition({"l_knee": (107.1, 150.2)}), make(dof).alternatives[0][0]):
        back = Pose.from_dict(json.loads(json.dumps(pose.to_dict(), allow_nan=False)))
        np.testing.assert_array_equal(back.keypoints, pose.keypoints)
        np.testing.assert_array_equal(back.covariance, pose.covariance)
        assert (back.degrees_of_freedom, back.known, back.skeleton) == (pose.degrees_of_freedom, pose.known, pose.skeleton)
        if pose.components is None:
            assert back.components is None
            continue
        for name in ("weights", "means", "scatter", "orders", "degrees_of_freedom"):
            np.testing.assert_array_equal(getattr(back.components, name), getattr(pose.components, name))
        assert back.mass(POINTS) == pose.mass(POINTS)
        with pytest.raises(ValueError, match="read-only"):
            back.components.means[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: replace(p, covariance=2 * p.covariance), "not those of its components"),
        (lambda p: replace(p, keypoints=p.keypoints + 1), "not those of its components"),
        (lambda p: replace(p, known=("neck",)), "not those of its components"),
        (lambda p: replace(p, degrees_of_freedom=9.0), "degrees of freedom"),
        (lambda p: replace(p, components=replace(p.components, weights=np.array([0.7, 0.2, 0.2]))), "sum to 1"),
        (lambda p: replace(p, components=replace(p.components, weights=np.array([0.9, 0.2, -0.1]))), "not negative"),
        (lambda p: replace(p, components=replace(p.components, weights=WEIGHTS[None])), "one person's"),
        (lambda p: replace(p, components=replace(p.components, scatter=-p.components.scatter)), "positive definite"),
        (lambda p: Pose.from_dict(p.to_dict() | {"components": {}}), "this is not a pose"),
        (lambda p: Pose.from_dict(p.to_dict() | {"components": 3}), "this is not a pose"),
    ],
)
def test_what_is_not_a_pose(change, said):
    with pytest.raises(PosecovError, match=said):
        change(make())


@pytest.mark.parametrize("size", [1.0, 0.01])
def test_one_variance_that_is_not_the_law_s_is_refused_at_every_size(size):
    pose = make().mapped(Similarity(size * np.eye(2), np.zeros(2)))
    covariance = pose.covariance.copy()
    covariance[8, 8] *= 1.01
    with pytest.raises(PosecovError, match="not those of its components"):
        replace(pose, covariance=covariance)


def test_questions_that_have_no_answer():
    pose = make()
    for ask, said in [
        (lambda: pose.region("nose"), "no joint 'nose'"),
        (lambda: pose.region("r_ankle", 1.0), "mass"),
        (lambda: pose.ellipse("r_ankle", 0.0), "mass"),
        (lambda: pose.probability_within("r_ankle", -1), "radius"),
    ]:
        with pytest.raises(PosecovError, match=said):
            ask()


def test_a_pose_in_the_pixels_of_another_frame_answers_the_same():
    pose = make()
    turn = 2.0 * np.array([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])
    frame = Similarity(turn, np.array([7.0, -3.0]))
    near = POINTS + np.array([[3.0, 1.0], [-2.0, 4.0], [0.0, -6.0], [1.0, 1.0], [2.0, -2.0]])
    for one in (pose, pose.condition({"r_knee": near[1]})):
        mapped = one.mapped(frame)
        assert mapped.known == one.known
        assert mapped.components.components == one.components.components
        assert mapped.mass(frame.points(near)) == pytest.approx(one.mass(near), abs=0.01)
        assert mapped.probability_within("l_ankle", 10) == pytest.approx(one.probability_within("l_ankle", 5), abs=1e-4)


@pytest.mark.parametrize("single", [True, False])
def test_the_laws_of_several_poses_are_one_law(single):
    shifted = [POINTS + 7 * n for n in range(3)]
    if single:
        poses = [Pose(points, (n + 1.0) * np.eye(10), SKELETON, 5.0) for n, points in enumerate(shifted)]
    else:
        poses = [make(points=points, seed=n, weights=np.roll(WEIGHTS, n)) for n, points in enumerate(shifted)]
    people = law_of_poses(poses)
    assert len(people) == 3
    assert len(law_of_poses(poses[:1])) == 1
    assert isinstance(people, Law if single else Mixture)
    assert people.degrees_of_freedom == 5.0
    values = coordinates.flatten(np.stack(shifted) + 3.0)
    np.testing.assert_allclose(
        people.mass(values), [pose.mass(point + 3.0) for pose, point in zip(poses, shifted, strict=True)]
    )
    np.testing.assert_allclose(people.covariance, [pose.covariance for pose in poses], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(people[1].mass(values[1]), people.mass(values)[1])
    np.testing.assert_allclose(people[np.array([2, 0])].mean, people.mean[[2, 0]])


def test_laws_that_have_nothing_in_common_are_not_put_together():
    plain = Pose(POINTS, np.eye(10), SKELETON, 5.0)
    for poses in ([], [make(), plain], [plain, plain.condition({"neck": POINTS[4]})]):
        with pytest.raises(PosecovError, match="put together") as caught:
            law_of_poses(poses)
        assert "\n" not in str(caught.value)
    mixed = law_of_poses([plain, Pose(POINTS, np.eye(10), SKELETON, math.inf)])
    np.testing.assert_array_equal(mixed.degrees_of_freedom, [5.0, math.inf])
    assert mixed[1].degrees_of_freedom == math.inf


@pytest.mark.parametrize("known", [False, True])
def test_alternatives_in_brief_are_those_that_the_poses_say(known):
    pose = make()
    pose = pose.condition({"neck": pose.keypoints[4] + 2.0}) if known else pose
    expected = [{"probability": p, "keypoints": other.keypoints_to_dict()} for other, p in pose.alternatives]
    assert expected
    assert pose.alternatives_to_dict() == expected
    assert Pose.from_mixture(law_of().part([0]), SKELETON, BOX).alternatives_to_dict() == []
