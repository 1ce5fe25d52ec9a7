"""Few cases of what must hold of every covariance; tools/trust/properties.py tries many."""

import covariance_cases as cases
import numpy as np
import pytest
from covariance_networks import Networks
from covariance_properties import PROPERTIES, Watch, in_pictures, same_pose
from hypothesis import HealthCheck, given, settings

from posecov import PosecovError
from posecov.pose import Pose
from posecov.rounding import covariance_in_float32, least_eigenvalue

FEW = settings(max_examples=20, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", PROPERTIES)
def test_always_a_covariance(name):
    strategy, check = PROPERTIES[name]
    watch = Watch()
    FEW(given(strategy)(lambda case: check(case, watch)))()
    assert watch.judged >= 20


def test_always_a_covariance_from_pictures():
    networks, watch = Networks(small=12, shipped=3), Watch()
    FEW(given(cases.pictures(len(networks)))(lambda case: in_pictures(networks)(case, watch)))()
    assert watch.judged >= 20


def test_a_law_that_float32_cannot_hold_keeps_its_variances():
    case = cases.LawCase(shape="one for all", log_range=2.0, log_floor=-11)
    found = covariance_in_float32(case.covariance)
    np.testing.assert_array_equal(np.diagonal(found), np.diagonal(case.covariance).astype(np.float32))
    sigma = np.sqrt(np.diagonal(found).astype(float))
    assert np.linalg.eigvalsh(found / sigma[:, None] / sigma)[0] > least_eigenvalue(len(found))
    np.testing.assert_array_equal(covariance_in_float32(found), found)
    assert abs(found - case.covariance).max() < 1e-5 * case.covariance.max()


def test_a_law_that_float32_holds_is_only_rounded():
    case = cases.LawCase(log_range=2.0, log_floor=-3)
    np.testing.assert_array_equal(covariance_in_float32(case.covariance), case.covariance.astype(np.float32))


@pytest.mark.parametrize("factor", [1e39, 1e-50])
def test_what_lies_beyond_float32_is_refused(factor):
    with pytest.raises(PosecovError, match=r"finite in float32|not positive definite"):
        Pose(np.zeros((3, 2)), factor * np.eye(6), cases.skeleton_of(3))
    with pytest.raises(PosecovError, match="keypoints must be finite"):
        Pose(np.full((3, 2), 1e39), np.eye(6), cases.skeleton_of(3))


def test_exchanges_far_apart_beside_small_ellipses():
    pose = cases.LawCase(weights="even", log_sigma=-3, log_extent=4).pose()
    np.linalg.cholesky(pose.covariance)
    same_pose(pose, Pose.from_dict(pose.to_dict()))


def test_exchanges_that_are_closer_than_float32_can_say_where_they_are():
    pose = cases.LawCase(weights="even", log_sigma=-3, log_extent=-2, log_offset=5).pose()
    np.linalg.cholesky(pose.covariance)
    same_pose(pose, Pose.from_dict(pose.to_dict()))


def test_the_watch_sees_what_is_no_covariance():
    good = np.eye(4, dtype=np.float32)
    for bad in (good * np.nan, good - 1, -good, good + np.tri(4, k=-1, dtype=np.float32), np.ones((4, 4), np.float32)):
        with pytest.raises(AssertionError):
            Watch().matrix(bad)
