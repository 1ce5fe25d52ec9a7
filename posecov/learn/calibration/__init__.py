"""Calibration of a trained covariance on people that trained nothing."""

from posecov.learn.calibration.laws import calibrate_law, calibrate_scale, calibrated_law
from posecov.learn.calibration.mixture import calibrate_mixture
from posecov.learn.calibration.shared import Calibration, shrink
from posecov.learn.calibration.single import calibrate

__all__ = ["Calibration", "calibrate", "calibrate_law", "calibrate_mixture", "calibrate_scale", "calibrated_law", "shrink"]
