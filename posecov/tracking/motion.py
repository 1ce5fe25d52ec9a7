"""How joints move and how their errors last: the linear Gaussian model behind filter, smoother and tracks.

A state is (3D,): the D = 2J positions p in pixels, their velocities v in pixels/s, and the whitened error u of the estimator,
one block after the other. What is measured is

    y_t = p_t + L_t u_t,    L_t L_t^T = R_t the predicted covariance,    u_t = phi u_{t-1} + sqrt(1 - phi^2) w_t

with w_t white, of unit covariance, and phi = exp(-dt / error_time). So an error has the covariance R_t that the network says,
whatever frame it is, and lasts for a while as errors in films do. A plain Kalman filter believes the errors of neighbouring
frames to be independent and is soon far too sure; it is the case error_time = 0.

Any root L of R gives the errors of one frame their covariance, but the root decides how errors of two frames go together.
`error_root` takes the standard deviation of each joint times the symmetric root of what is left: where a joint becomes less
sure while correlations stay, its error grows in proportion and the other joints' errors go on as they were.

Velocities are pulled by white acceleration noise and fade within ``fading_s``, so that the motion of a joint that is not seen
comes to rest; with infinite ``fading_s`` it is the model of constant velocity (Bar-Shalom, Li and Kirubarajan 2001, chapter 6).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from posecov import coordinates, law
from posecov.errors import PosecovError
from posecov.exchanges import limb_pairs
from posecov.skeleton import Skeleton


@dataclass(frozen=True)
class MotionModel:
    """Physical sizes of the model. A person's size is the longer side of the extent of its joints (`person_size`).

    Acceleration and error time are about those under which real films are the likeliest (`tools/smoothing.py --real`).

    Attributes:
        acceleration: root mean square acceleration of a joint of the trunk along one axis, person sizes / s^2.
        outwards: how many times as much a joint accelerates that lies one limb further out: knees, then ankles (`limb_depths`).
        persistence_s: how long an acceleration lasts, seconds; the noise has the spectral density 2 acceleration^2 persistence.
        shared: share of the trunk's density that all joints have in common: the person moves as a whole.
        fading_s: time constant with which velocities fade, seconds; `math.inf` for constant velocity.
        speed: root mean square velocity of a joint along one axis when it is first seen, person sizes / s.
        error_time_s: time constant with which the errors of the estimator are forgotten, seconds; 0 for independent errors.
        tails: degrees of freedom of the law of innovations, where the measurements' are not fewer; `math.inf` for none of its
            own. From frame to frame people and errors mostly rest and now and then jump, more unequally than errors differ from
            picture to picture: one film each is the likeliest with 3.5 to 5.

    Raises:
        PosecovError: a number outside its range.
    """

    acceleration: float = 2.5
    outwards: float = 1.7
    persistence_s: float = 0.1
    shared: float = 0.3
    fading_s: float = 0.5
    speed: float = 1.0
    error_time_s: float = 0.25
    tails: float = 4.5

    def __post_init__(self) -> None:
        for name in ("acceleration", "outwards", "persistence_s", "fading_s", "speed"):
            if not getattr(self, name) > 0:
                raise PosecovError(f"{name} of a motion model must be positive, not {getattr(self, name):g}")
        if not 0 <= self.shared < 1:
            raise PosecovError(f"shared of a motion model must lie in [0, 1), not {self.shared:g}")
        if not self.tails > 2:
            raise PosecovError(f"tails of a motion model must be more than 2 degrees of freedom, not {self.tails:g}")
        if not 0 <= self.error_time_s < math.inf:
            raise PosecovError(f"error_time_s of a motion model must be finite and not negative, not {self.error_time_s:g}")

    def transition(self, dt: float) -> np.ndarray:
        """(3, 3) what ``dt`` seconds make of position, velocity and whitened error of one coordinate."""
        rate = 1 / self.fading_s
        phi = math.exp(-dt / self.error_time_s) if self.error_time_s > 0 else 0.0
        travelled = -math.expm1(-rate * dt) / rate if rate > 0 else dt
        return np.array([[1.0, travelled, 0.0], [0.0, math.exp(-rate * dt), 0.0], [0.0, 0.0, phi]])

    def noise(self, dt: float, size: float, depths: np.ndarray) -> np.ndarray:
        """(3D, 3D) covariance of what ``dt`` seconds add to a state.

        Args:
            dt: seconds.
            size: of the person, pixels.
            depths: (J,) `limb_depths` of its joints.
        """
        joints = len(depths)
        density = 2 * (self.acceleration * size) ** 2 * self.persistence_s
        among = _among(self.shared, self.outwards, tuple(depths.tolist()))
        noise = np.zeros((3, 2 * joints, 3, 2 * joints))
        noise[:2, :, :2, :] = (density * self._per_density(dt))[:, None, :, None] * among[:, None, :]
        noise[2, :, 2, :] = (1 - self.transition(dt)[2, 2] ** 2) * np.eye(2 * joints)
        return noise.reshape(6 * joints, 6 * joints)

    def _per_density(self, dt: float) -> np.ndarray:
        """(2, 2) covariance of position and velocity after ``dt`` for unit density: the integral of g g^T, g the response."""
        rate = 1 / self.fading_s
        # The closed form is a difference of terms of order 1; for slow fading its digits are lost, and the series has them.
        if rate * dt < 1e-2:
            x = rate * dt
            place = dt**3 / 3 * (1 - 3 * x / 4 + 7 * x**2 / 20)
            both = dt**2 / 2 * (1 - x + 7 * x**2 / 12)
            pace = dt * (1 - x + 2 * x**2 / 3)
        else:
            once, twice = -math.expm1(-rate * dt), -math.expm1(-2 * rate * dt)
            place = (dt - 2 * once / rate + twice / (2 * rate)) / rate**2
            both = once**2 / (2 * rate**2)
            pace = twice / (2 * rate)
        return np.array([[place, both], [both, pace]])


@lru_cache(maxsize=64)
def _among(shared: float, outwards: float, depths: tuple[int, ...]) -> np.ndarray:
    """(2J, 2J) accelerations of joints at these depths together, the trunk's variance being 1."""
    own = np.diag(outwards ** (2.0 * np.array(depths, dtype=np.float64)))
    return np.kron(shared + (1 - shared) * own, np.eye(2))


def error_root(covariance: np.ndarray) -> np.ndarray:
    """The root L (2J, 2J) of a predicted covariance, L L^T, that ties errors of different frames together.

    L = D (D^-1 R D^-1)^1/2 with D each joint's standard deviation: exchanging joints or turning the picture does the same to L.
    """
    scale = np.repeat(law.joint_sigma(covariance), 2)
    scale = np.where(scale > 0, scale, 1.0)  # A joint that is known has rows of 0.
    return scale[:, None] * law.symmetric_root(covariance / (scale[:, None] * scale))


def limb_depths(skeleton: Skeleton) -> np.ndarray:
    """(J,) limbs between each joint and the trunk: 0 for the trunk, hips and shoulders, 1 for knees, 2 for ankles."""
    limbs = limb_pairs(skeleton)
    depths = np.zeros(len(skeleton), dtype=int)
    # What hangs from the trunk by a pair of mirror joints; that pair itself belongs to the trunk.
    beyond = {joint for limb in limbs for joint in limb.joints[2:]}
    reached = set(range(len(skeleton))) - beyond
    while True:
        near = {b for pair in skeleton.limb_indices for a, b in (pair, pair[::-1]) if a in reached and b not in reached}
        if not near:
            return depths
        depths[list(beyond - reached)] += 1
        reached |= near


def person_size(position: np.ndarray) -> float:
    """Longer side in pixels of the extent of joints given as coordinates (2J,), at least 1."""
    return max(float(np.ptp(coordinates.unflatten(position), axis=0).max()), 1.0)
