"""Poses of a person with few joints, for tests of filters."""

import math

import numpy as np

from posecov import coordinates
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.mixture import Mixture
from posecov.pose import Pose
from posecov.skeleton import Skeleton
from posecov.tracking.motion import limb_depths, person_size
from posecov.tracking.synthetic import lasting_errors

TWO = Skeleton(name="two", keypoints=("head", "foot"), limbs=(("head", "foot"),))
LEGS = Skeleton(
    name="legs",
    keypoints=("head", "r_hip", "l_hip", "r_foot", "l_foot"),
    flip_pairs=(("r_hip", "l_hip"), ("r_foot", "l_foot")),
    limbs=(("head", "r_hip"), ("head", "l_hip"), ("r_hip", "r_foot"), ("l_hip", "l_foot")),
)
STANDING = np.array([[100.0, 20.0], [90.0, 60.0], [110.0, 60.0], [80.0, 110.0], [120.0, 110.0]])


def covariance(rng, dimension, scale=3.0):
    """A random covariance with correlations of all signs."""
    factor = scale * rng.standard_normal((dimension, 2 * dimension)) / math.sqrt(2 * dimension)
    return factor @ factor.T + 0.1 * scale**2 * np.eye(dimension)


def walking_two(seed=0, frames=7):
    """Uneven times, true-looking points and poses of `TWO` with a covariance of their own each."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.02, 0.08, frames))
    points = np.array([[50.0, 20.0], [55.0, 120.0]]) + 40 * times[:, None, None] + rng.standard_normal((frames, 2, 2)) * 3
    return times, [Pose(place, covariance(rng, 4), TWO) for place in points]


def moving_two(model, frames, seed=0):
    """Uneven times and poses of `TWO` whose motion and errors are just what a model says."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.02, 0.06, frames))
    spreads = np.stack([covariance(rng, 4, scale) for scale in 3 + 2 * np.sin(times)])
    errors = lasting_errors(rng, spreads, times, model.error_time_s)
    state = np.concatenate([[50.0, 0.0, 50.0, 100.0], rng.standard_normal(4) * 100 * model.speed])
    poses = []
    for index in range(frames):
        if index:
            dt = times[index] - times[index - 1]
            noise = model.noise(dt, person_size(state[:4]), limb_depths(TWO))[:8, :8]
            state = np.kron(model.transition(dt)[:2, :2], np.eye(4)) @ state + rng.multivariate_normal(np.zeros(8), noise)
        poses.append(Pose(coordinates.unflatten(state[:4] + errors[index]), spreads[index], TWO))
    return times, poses


def standing(points=STANDING, sigma=2.0, nu=math.inf, weights=None):
    """A pose of `LEGS` with independent joints; with ``weights`` of its exchanges a mixture."""
    variance = sigma**2 * np.eye(10)
    if weights is None:
        return Pose(points, variance, LEGS, nu)
    orders = coordinate_orders(exchanges_of(LEGS))
    scatter = variance * (1 - 2 / nu)
    return Pose.from_mixture(Mixture.of_exchanges(np.reshape(points, -1), scatter, nu, weights, orders), LEGS)


def exchanged(points=STANDING):
    """The same with left and right of the legs exchanged."""
    return np.asarray(points)[LEGS.flip_permutation]
