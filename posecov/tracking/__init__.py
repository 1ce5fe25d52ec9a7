"""People through time: who is who (`Tracker`), and poses that use all frames (`KalmanFilter` live, `smooth` afterwards).

Both take every frame's whole covariance as measurement noise and give poses whose covariance says what is left.
"""

from posecov.tracking.fitting import fit_motion
from posecov.tracking.kalman import KalmanFilter
from posecov.tracking.motion import MotionModel
from posecov.tracking.one_euro import OneEuroFilter
from posecov.tracking.smoother import smooth
from posecov.tracking.tracker import Tracked, Tracker

__all__ = ["KalmanFilter", "MotionModel", "OneEuroFilter", "Tracked", "Tracker", "fit_motion", "smooth"]
