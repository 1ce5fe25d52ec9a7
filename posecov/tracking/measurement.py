"""What a pose says to a filter: one Gaussian measurement out of a law with heavy tails and exchanges of left and right."""

from dataclasses import dataclass

import numpy as np

from posecov import coordinates, law
from posecov.mixture import Mixture
from posecov.pose import SAME_PIXEL, Pose

_LEAST_WEIGHT = 1e-3  # A network is never so sure that one frame should decide about left and right for good.


@dataclass(frozen=True, eq=False)
class Measurement:
    """The likeliest component of a pose's law.

    Attributes:
        values: (D,) coordinates, pixels.
        covariance: (D, D) second moments of that component alone, pixels^2.
        degrees_of_freedom: of the law.
        component: its index, 0 for the pose's own keypoints.
    """

    values: np.ndarray
    covariance: np.ndarray
    degrees_of_freedom: float
    component: int = 0


def component_of(pose: Pose, component: int = 0) -> Measurement:
    """A component of a pose's law as a measurement; that of the keypoints for a single t and where joints are known.

    A known joint counts as measured to `SAME_PIXEL`: a filter that takes it for exact has nothing left to go on with.
    """
    nu = pose.degrees_of_freedom
    if pose.components is None or pose.known:
        covariance = law.covariance_from_scatter(pose.scatter, nu)
        fixed = coordinates.rows([pose.skeleton.index(name) for name in pose.known])
        covariance[fixed, fixed] = SAME_PIXEL**2
        return Measurement(coordinates.flatten(pose.keypoints.astype(np.float64)), covariance, nu)
    covariance = law.covariance_from_scatter(pose.components.scatter_of(component), nu)
    return Measurement(pose.components.means[component], covariance, nu, component)


def likeliest(pose: Pose, position: np.ndarray, covariance: np.ndarray) -> Measurement:
    """The component that fits a predicted position best, so that limbs exchanged in one frame are turned back.

    Args:
        pose: as estimated.
        position: (D,) predicted, pixels.
        covariance: (D, D) of the prediction, which every component's own is added to.
    """
    if pose.components is None or pose.known:
        return component_of(pose)
    parts = pose.components
    scatters = parts.scatters + law.scatter_from_covariance(covariance, parts.degrees_of_freedom)
    widened = Mixture(parts.weights, parts.means, scatters, parts.degrees_of_freedom)
    return component_of(pose, int(widened.responsibilities(position).argmax()))


def relabelling_evidence(pose: Pose, component: int) -> np.ndarray:
    """What one frame says for the hypothesis that the whole track has left and right exchanged, (K,) nats, one an exchange.

    A track whose first frame was exchanged turns every later frame the wrong way. The network then keeps calling its choice
    unlikely: with c the chosen component and k the exchange that would mend the track, this is log w_{kc} - log w_c, kc being
    both exchanges in turn; 0 where that is no exchange of the law.
    """
    parts = pose.components
    if parts is None or parts.orders is None or pose.known:
        return np.zeros(1)
    weights = np.log(np.maximum(parts.weights, _LEAST_WEIGHT))
    mended = parts.orders[component][parts.orders]
    same = (mended[:, None, :] == parts.orders).all(axis=-1)
    return np.where(same.any(axis=1), weights[same.argmax(axis=1)] - weights[component], 0.0)


def gross_error_covariance(residual: np.ndarray, covariance: np.ndarray, measurement: Measurement) -> np.ndarray:
    """Covariance (D, D) of further errors, independent between joints, that the Student-t law sees behind an innovation.

    A t is a Gaussian whose scatter is divided by a gamma variable; given a residual at the squared distance d of m
    coordinates, that variable's expectation is (nu + m) / (nu + d). Asked of every joint by itself (m = 2), with d in units of
    second moments, the joint's variance becomes (nu - 2 + d) / (nu + 2) times what was predicted. What is more than predicted
    is added here, joint by joint: a wrist that jumped to another object must not drag the elbow along. What is less is left
    as predicted, so that a Gaussian law gets nothing.

    Args:
        residual: (D,) measured minus predicted.
        covariance: (D, D) predicted of that residual.
        measurement: what was measured.
    """
    blocks = coordinates.joint_blocks(covariance)
    squared = law.squared_mahalanobis(coordinates.unflatten(residual), blocks)
    nu = measurement.degrees_of_freedom
    inflation = (1 + (squared - 2) / nu) / (1 + 2 / nu)
    further = np.maximum(inflation - 1, 0.0)[:, None, None] * coordinates.joint_blocks(measurement.covariance)
    joints = len(blocks)
    found = np.zeros((joints, 2, joints, 2))
    found[np.arange(joints), :, np.arange(joints), :] = further
    return found.reshape(2 * joints, 2 * joints)
