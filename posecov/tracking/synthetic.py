"""A moving figure whose true joints are known, and an estimator's errors on it, to measure filters by.

The figure has LSP's 14 joints, bones of fixed lengths and joint angles that are sums of sinusoids; it is seen by a camera far
away. Errors have a joint covariance, last for a while, and are now and then gross, exchanged, or those of a covered joint.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.mixture import Mixture
from posecov.pose import Pose
from posecov.skeleton import Skeleton, load_skeleton
from posecov.tracking.measurement import component_of
from posecov.tracking.motion import error_root, person_size

_BONES = {"shin": 0.25, "thigh": 0.25, "trunk": 0.30, "neck_to_top": 0.18, "upper_arm": 0.17, "forearm": 0.16}
_HALF_WIDTH = {"hip": 0.055, "shoulder": 0.105}
_SIGMA = {
    "ankle": 0.028,
    "knee": 0.02,
    "hip": 0.018,
    "wrist": 0.032,
    "elbow": 0.022,
    "shoulder": 0.015,
    "neck": 0.012,
    "top": 0.014,
}


@dataclass(frozen=True)
class Errors:
    """How an estimator errs.

    Attributes:
        lasting_s: time constant with which errors are forgotten, seconds.
        scale: standard deviations as a multiple of an ordinary estimator's (1 to 3 % of a person's height, wrists the most).
        outliers: share of joints and frames with a gross error, a fifth of the height long.
        swaps: share of frames in which the legs or the arms are exchanged.
        degrees_of_freedom: of the errors' law, which the poses say. Its scale changes slowly: a frame is hard because the one
            before it was.
        scale_lasting_s: time constant of that.
        exchanges: whether the poses' law knows exchanges of left and right.
    """

    lasting_s: float = 0.1
    scale: float = 1.0
    outliers: float = 0.003
    swaps: float = 0.01
    degrees_of_freedom: float = 30.0
    scale_lasting_s: float = 0.5
    exchanges: bool = True


@dataclass(frozen=True, eq=False)
class Film:
    """A film of one person.

    Attributes:
        times_s: (T,).
        truth: (T, J, 2) pixels.
        poses: T, as estimated.
        hidden: (T, J) joints that something covers.
    """

    times_s: np.ndarray
    truth: np.ndarray
    poses: tuple[Pose, ...]
    hidden: np.ndarray


def walk(t: np.ndarray) -> Mapping[str, np.ndarray]:
    """Walking past the camera: angles (T,) of the limbs forwards, of the body's heading, and the way gone (in heights)."""
    swing = 2 * np.pi * 0.9 * t
    angles = {}
    for side, phase in (("r", 0.0), ("l", np.pi)):
        angles[f"{side}_hip"] = 0.45 * np.sin(swing + phase) + 0.05 * np.sin(2 * swing + phase)
        angles[f"{side}_knee"] = -0.45 - 0.4 * np.sin(swing + phase - 1.2)
        angles[f"{side}_shoulder"] = -0.4 * np.sin(swing + phase)
        angles[f"{side}_elbow"] = 0.45 + 0.2 * np.sin(swing + phase + np.pi)
    return angles | {"heading": 1.2 + 0.15 * np.sin(0.5 * t), "forwards": 0.6 * t, "up": 0.015 * np.cos(2 * swing)}


def wave(t: np.ndarray) -> Mapping[str, np.ndarray]:
    """Standing before the camera and waving with the right arm, and a little with the left."""
    sway = 0.04 * np.sin(1.3 * t)
    return {
        "r_lift": 2.2 + 0.25 * np.sin(2 * np.pi * 0.5 * t),
        "r_bend": 0.5 + 0.6 * np.sin(2 * np.pi * 1.1 * t),
        "l_lift": 0.3 + 0.15 * np.sin(2 * np.pi * 0.4 * t + 1),
        "l_bend": 0.2 + 0.1 * np.sin(2 * np.pi * 0.7 * t),
        "lean": sway,
        "heading": 0.1 * np.sin(0.7 * t),
    }


def turn(t: np.ndarray) -> Mapping[str, np.ndarray]:
    """Turning about oneself every six seconds, with arms that swing and knees that give."""
    beat = 2 * np.pi * 0.6 * t
    angles = {"heading": 2 * np.pi * t / 6, "up": 0.02 * np.sin(beat)}
    for side, phase in (("r", 0.0), ("l", 2.0)):
        angles |= {f"{side}_lift": 0.7 + 0.4 * np.sin(beat + phase), f"{side}_bend": 0.3 + 0.2 * np.sin(0.7 * beat + phase)}
        angles |= {f"{side}_hip": 0.15 + 0.12 * np.sin(beat + phase), f"{side}_knee": -0.3 - 0.2 * np.sin(beat + phase)}
    return angles


MOTIONS: Mapping[str, Callable[[np.ndarray], Mapping[str, np.ndarray]]] = MappingProxyType(
    {"walk": walk, "wave": wave, "turn": turn}
)


def skeleton() -> Skeleton:
    """The figure's joints."""
    return load_skeleton("lsp14")


def figure(motion: str, times_s: np.ndarray, height: float = 200.0, origin: tuple[float, float] = (150.0, 150.0)) -> np.ndarray:
    """True joints (T, J, 2) in pixels of a figure ``height`` pixels tall.

    Args:
        motion: one of `MOTIONS`.
        times_s: (T,).
        height: pixels.
        origin: of the middle of its hips at rest, pixels.
    """
    t = np.asarray(times_s, dtype=np.float64)
    given = MOTIONS[motion](t)

    def angle(name: str) -> np.ndarray:
        return np.asarray(given.get(name, np.zeros_like(t)))

    def along(length: float, forwards: np.ndarray, sideways: np.ndarray) -> np.ndarray:
        """A bone that hangs down at angles of 0, (T, 3): sideways to the person's right, down, forwards."""
        down = np.cos(forwards) * np.cos(sideways)
        return length * np.stack([np.sin(sideways) * np.cos(forwards), down, np.sin(forwards)], axis=-1)

    places: dict[str, np.ndarray] = {}
    middle = np.stack([np.zeros_like(t), -angle("up"), angle("forwards")], axis=-1)
    upright = -along(1.0, np.zeros_like(t), angle("lean"))
    places["neck"] = middle + _BONES["trunk"] * upright
    places["head_top"] = places["neck"] + _BONES["neck_to_top"] * upright
    for side, sign in (("r", 1.0), ("l", -1.0)):
        across = sign * np.array([1.0, 0.0, 0.0])
        places[f"{side}_hip"] = middle + _HALF_WIDTH["hip"] * across
        places[f"{side}_shoulder"] = places["neck"] + _HALF_WIDTH["shoulder"] * across + np.array([0.0, 0.02, 0.0])
        hip, knee = angle(f"{side}_hip"), angle(f"{side}_knee")
        shoulder, elbow = angle(f"{side}_shoulder"), angle(f"{side}_elbow")
        lift, bend = sign * angle(f"{side}_lift"), sign * angle(f"{side}_bend")
        still = np.zeros_like(t)
        places[f"{side}_knee"] = places[f"{side}_hip"] + along(_BONES["thigh"], hip, still)
        places[f"{side}_ankle"] = places[f"{side}_knee"] + along(_BONES["shin"], hip + knee, still)
        places[f"{side}_elbow"] = places[f"{side}_shoulder"] + along(_BONES["upper_arm"], shoulder, lift)
        places[f"{side}_wrist"] = places[f"{side}_elbow"] + along(_BONES["forearm"], shoulder + elbow, lift + bend)
    body = np.stack([places[name] for name in skeleton().keypoints], axis=1)
    cosine, sine = np.cos(angle("heading"))[:, None], np.sin(angle("heading"))[:, None]
    # Facing the camera the person's right is on the left of the picture.
    seen = np.stack([-cosine * body[..., 0] + sine * body[..., 2], body[..., 1]], axis=-1)
    return np.asarray(origin) + height * seen


def correlation(joints: Skeleton, near: float = 0.5, common: float = 0.2) -> np.ndarray:
    """(2J, 2J) correlation of errors: ``common`` to all joints, and ``near`` more the fewer limbs lie between two of them."""
    count = len(joints)
    steps = np.where(np.eye(count) > 0, 0.0, np.inf)
    for a, b in joints.limb_indices:
        steps[a, b] = steps[b, a] = 1.0
    for k in range(count):  # Floyd and Warshall: the shortest way between any two.
        steps = np.minimum(steps, steps[:, k, None] + steps[k])
    among = common + near * np.exp(-(steps**2) / 2) + (1 - common - near) * np.eye(count)
    values, vectors = np.linalg.eigh(among)
    among = (vectors * np.maximum(values, 0.05)) @ vectors.T
    sigma = np.sqrt(np.diagonal(among))
    return np.kron(among / (sigma[:, None] * sigma), np.eye(2))


def make_film(
    motion: str,
    errors: Errors | None = None,
    *,
    seconds: float = 10.0,
    rate: float = 30.0,
    height: float = 200.0,
    covered: bool = True,
    seed: int = 0,
    like: Sequence[Pose] = (),
) -> Film:
    """A film of a figure and what an estimator says about it.

    Args:
        motion: one of `MOTIONS`.
        errors: how the estimator errs.
        seconds: length.
        rate: frames a second.
        height: of the figure, pixels.
        covered: whether a patch covers the right forearm or the left lower leg for 15 frames in every 60. What is said about a
            covered joint is drawn from a covariance ten times as wide as otherwise, which the pose tells.
        seed: of errors and patches.
        like: a real film's poses, as estimated. The errors then have the laws that it states, frame by frame and scaled to the
            figure, forwards and backwards again, with its probabilities of exchanges; of ``errors`` only times count.
    """
    errors = Errors() if errors is None else errors
    if like:
        return _film_like(motion, errors, like, seconds, rate, height, covered, seed)
    rng, joints = np.random.default_rng(seed), skeleton()
    times = np.arange(round(seconds * rate)) / rate
    truth = figure(motion, times, height)
    hidden = _patches(rng, len(times), joints) if covered else np.zeros((len(times), len(joints)), dtype=bool)
    sigma = errors.scale * height * np.array([_SIGMA[name.split("_")[-1]] for name in joints.keypoints])
    # Whole frames are more or less clear, slowly.
    clear = np.exp(0.25 * np.sin(2 * np.pi * times / 2.7 + rng.uniform(0, 2 * np.pi)))
    sigmas = np.repeat(clear[:, None] * np.where(hidden, 10 * sigma, sigma), 2, axis=1)
    covariance = sigmas[:, :, None] * correlation(joints) * sigmas[:, None, :]
    drawn = lasting_errors(rng, covariance, times, errors.lasting_s) * _lasting_stretch(rng, times, errors)[:, None]
    points = truth + coordinates.unflatten(drawn)
    gross = rng.uniform(size=hidden.shape) < errors.outliers
    points[gross] += 0.2 * height * rng.standard_normal((int(gross.sum()), 2))
    orders = coordinate_orders(exchanges_of(joints))
    limbs = [k for k, exchange in enumerate(exchanges_of(joints)) if exchange.name in ("leg", "arm")]
    poses = []
    for place, spread in zip(points, covariance, strict=True):
        order = orders[rng.choice(limbs)] if rng.uniform() < errors.swaps else orders[0]
        poses.append(_pose(coordinates.flatten(place)[order], spread[np.ix_(order, order)], joints, orders, errors))
    return Film(times, truth, tuple(poses), hidden)


def _film_like(
    motion: str, errors: Errors, like: Sequence[Pose], seconds: float, rate: float, height: float, covered: bool, seed: int
) -> Film:
    """`make_film` with the laws of a real film. What is covered is ten times as uncertain as it was there."""
    from scipy.stats import norm

    if like[0].skeleton.keypoints != skeleton().keypoints:
        raise PosecovError(f"the figure has the joints of {skeleton().name}, not of {like[0].skeleton.name}")
    rng, joints = np.random.default_rng(seed), skeleton()
    times = np.arange(round(seconds * rate)) / rate
    truth = figure(motion, times, height)
    hidden = _patches(rng, len(times), joints) if covered else np.zeros((len(times), len(joints)), dtype=bool)
    there_and_back = [*like, *like[-2:0:-1]]
    laws = [there_and_back[index % len(there_and_back)] for index in range(len(times))]
    wider = np.repeat(np.where(hidden, 10.0, 1.0), 2, axis=1)
    scale = np.array([height / person_size(coordinates.flatten(pose.keypoints.astype(np.float64))) for pose in laws])
    covariance = np.stack([component_of(pose).covariance for pose in laws]) * scale[:, None, None] ** 2
    covariance = wider[:, :, None] * covariance * wider[:, None, :]
    law = dataclasses.replace(errors, degrees_of_freedom=like[0].degrees_of_freedom)
    stretch = _lasting_stretch(rng, times, law)[:, None]
    points = coordinates.flatten(truth) + lasting_errors(rng, covariance, times, errors.lasting_s) * stretch
    chance = norm.cdf(_lasting_normal(rng, times, 1, errors.lasting_s)[:, 0])
    poses = []
    for place, spread, pose, share in zip(points, covariance, laws, chance, strict=True):
        parts, nu = pose.components, pose.degrees_of_freedom
        if parts is None or parts.orders is None:
            poses.append(Pose(coordinates.unflatten(place), spread, joints, nu))
            continue
        order = parts.orders[min(int(np.searchsorted(np.cumsum(parts.weights), share)), len(parts.orders) - 1)]
        scatter = spread[np.ix_(order, order)] * (1 - 2 / nu)
        poses.append(Pose.from_mixture(Mixture.of_exchanges(place[order], scatter, nu, parts.weights, parts.orders), joints))
    return Film(times, truth, tuple(poses), hidden)


def lasting_errors(rng: np.random.Generator, covariance: np.ndarray, times_s: np.ndarray, lasting_s: float) -> np.ndarray:
    """(T, D) errors with the covariances (T, D, D) that are forgotten with the time constant ``lasting_s``."""
    whitened = _lasting_normal(rng, times_s, covariance.shape[-1], lasting_s)
    return np.stack([error_root(matrix) @ vector for matrix, vector in zip(covariance, whitened, strict=True)])


def _lasting_normal(rng: np.random.Generator, times_s: np.ndarray, count: int, lasting_s: float) -> np.ndarray:
    """(T, count) standard normal numbers, each column an autoregressive process of order 1."""
    found = rng.standard_normal((len(times_s), count))
    for index, dt in enumerate(np.diff(times_s), start=1):
        phi = np.exp(-dt / lasting_s) if lasting_s > 0 else 0.0
        found[index] = phi * found[index - 1] + np.sqrt(1 - phi**2) * found[index]
    return found


def _lasting_stretch(rng: np.random.Generator, times_s: np.ndarray, errors: Errors) -> np.ndarray:
    """(T,) factors that make a normal error one of the t's, with the same second moments."""
    from scipy.stats import chi2, norm

    normal, nu = _lasting_normal(rng, times_s, 1, errors.scale_lasting_s)[:, 0], errors.degrees_of_freedom
    return np.ones(len(normal)) if np.isinf(nu) else np.sqrt((nu - 2) / chi2.ppf(norm.cdf(normal), nu))


def _patches(rng: np.random.Generator, frames: int, joints: Skeleton) -> np.ndarray:
    groups = [[joints.index(name) for name in names] for names in (("r_elbow", "r_wrist"), ("l_knee", "l_ankle"))]
    hidden = np.zeros((frames, len(joints)), dtype=bool)
    for number, begin in enumerate(range(30, frames - 20, 60)):
        first = begin + int(rng.integers(10))
        hidden[first : first + 15, groups[number % 2]] = True
    return hidden


def _pose(mean: np.ndarray, covariance: np.ndarray, joints: Skeleton, orders: np.ndarray, errors: Errors) -> Pose:
    nu = errors.degrees_of_freedom
    if not errors.exchanges:
        return Pose(coordinates.unflatten(mean), covariance, joints, nu)
    weights = np.full(len(orders), 0.02)
    weights[0] = 1 - 0.02 * (len(orders) - 1)
    return Pose.from_mixture(Mixture.of_exchanges(mean, covariance * (1 - 2 / nu), nu, weights, orders), joints)
