"""What a pose says to a filter."""

import math

import numpy as np
from small_people import LEGS, STANDING, exchanged, standing

from posecov import law
from posecov.exchanges import exchanges_of
from posecov.tracking.measurement import component_of, gross_error_covariance, likeliest, relabelling_evidence

WEIGHTS = [0.9, 0.06, 0.04]


def test_a_measurement_is_one_component_without_the_spread_between_them():
    pose = standing(nu=5.0, weights=WEIGHTS)
    np.testing.assert_allclose(component_of(pose).covariance, 4 * np.eye(10), rtol=1e-6)
    assert pose.covariance[6, 6] > 40
    np.testing.assert_allclose(component_of(pose, 1).values.reshape(5, 2), exchanged(), rtol=1e-6)
    single = standing(nu=5.0)
    np.testing.assert_allclose(component_of(single).covariance, single.covariance, rtol=1e-6)


def test_the_component_is_chosen_by_the_prediction_and_the_weights():
    pose = standing(nu=5.0, weights=WEIGHTS)
    sure, unsure = np.eye(10), 1e6 * np.eye(10)
    assert likeliest(pose, STANDING.reshape(-1), sure).component == 0
    assert likeliest(pose, exchanged().reshape(-1), sure).component == 1
    assert likeliest(pose, exchanged().reshape(-1), unsure).component == 0
    assert likeliest(standing(), exchanged().reshape(-1), sure).component == 0


def test_evidence_for_another_labelling_is_the_ratio_of_the_weights():
    pose = standing(nu=5.0, weights=WEIGHTS)
    leg, foot = np.log(0.06), np.log(0.04)
    np.testing.assert_allclose(relabelling_evidence(pose, 0), [0, leg - np.log(0.9), foot - np.log(0.9)])
    # Legs exchanged once more are not exchanged; legs and then feet would be hips, which is no exchange of this law.
    assert [exchange.name for exchange in exchanges_of(LEGS)] == ["none", "leg", "foot"]
    np.testing.assert_allclose(relabelling_evidence(pose, 1), [0, np.log(0.9) - leg, 0])
    assert relabelling_evidence(standing(), 0).tolist() == [0]


def test_one_frame_says_no_more_than_a_factor_of_a_thousand():
    sure = standing(nu=5.0, weights=[1 - 2e-7, 1e-7, 1e-7])
    np.testing.assert_allclose(relabelling_evidence(sure, 0), [0, math.log(1e-3), math.log(1e-3)], atol=1e-6)


def test_further_errors_are_the_student_t_s_expected_scale_joint_by_joint():
    nu, residual = 5.0, np.zeros(10)
    residual[2:4] = 12.0, 9.0
    predicted = 9 * np.eye(10)
    found = gross_error_covariance(residual, predicted, component_of(standing(nu=nu)))
    squared = (12**2 + 9**2) / 9
    scatter = law.scatter_from_covariance(predicted, nu)[0, 0]
    weight = (nu + 2) / (nu + (12**2 + 9**2) / scatter)  # Expected precision factor of the t, of the scatter.
    inflation = scatter / weight / predicted[0, 0]
    np.testing.assert_allclose(inflation, (nu - 2 + squared) / (nu + 2))
    expected = np.zeros((10, 10))
    expected[2:4, 2:4] = (inflation - 1) * 4 * np.eye(2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (gross_error_covariance(residual, predicted, component_of(standing(nu=math.inf))) == 0).all()
