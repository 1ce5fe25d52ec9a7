"""Which joint to click: the one whose true place is expected to shrink the errors of all the others most.

Once joint h is known at y, the others have the errors that `Pose.condition` leaves: sum_j E|x_j - m_j(y)|, j other than h.
Where the click will land is not known beforehand, but the law says how likely every place is: what is computed is the mean.

For a Student-t that mean is exact without any integral over y. The residual x_j - m_j(y) is a linear map of the coordinates,
hence a t with the law's own degrees of freedom and the scatter S_jj - S_jh S_hh^-1 S_hj, whichever way the click goes.

For a mixture the same holds within each component, but m_j(y) is that of the likeliest component given y, which need not be
the one that the person came from. What such mistakes cost is added as a mean over a fixed set of points of every component
(mirrored normals, stratified radii, always the same), and only over those at which the wrong component wins: a law that is
never undecided has no error from it. Against random clicks the sums agree to 2 % (tests/test_clicks.py).
"""

from collections.abc import Iterable

import numpy as np

from posecov import coordinates, law
from posecov.errors import PosecovError
from posecov.mixture import Mixture
from posecov.pose import Pose

_POINTS = 2048  # Over all components,
_LEAST_POINTS = 32  # but so many of each.
_NEGLIGIBLE = 1e-6  # Probability below which a component is left out.


def expected_gain(pose: Pose) -> np.ndarray:
    """By how much each joint's true place is expected to reduce the summed expected error of the other joints.

    Args:
        pose: with or without joints that are known already.

    Returns:
        (J,) float64 pixels: sum over the others of `Pose.expected_error` now, minus its mean after the click. 0 for a joint
        that is known. It may be slightly negative for a mixture, whose keypoints are its likeliest pose, not its best guess.
    """
    free = np.flatnonzero([name not in pose.known for name in pose.names])
    gain = np.zeros(len(pose.names))
    if len(free) > 1:
        gain[free] = expected_gains(_free_law(pose, free))
    return gain


def best_click(pose: Pose, among: Iterable[str] | None = None) -> str:
    """Name of the joint with the largest `expected_gain`.

    Args:
        pose: with at least one joint that is not known.
        among: joints that can be clicked, such as those inside the picture; all by default. Known ones are passed over.

    Raises:
        PosecovError: an unknown joint, or none that could be clicked.
    """
    indices = range(len(pose.names)) if among is None else sorted({pose.skeleton.index(name) for name in among})
    candidates = [index for index in indices if pose.names[index] not in pose.known]
    if not candidates:
        raise PosecovError("no joint of this pose is left to click")
    return pose.names[candidates[int(expected_gain(pose)[candidates].argmax())]]


def expected_gains(people: law.Law | Mixture) -> np.ndarray:
    """`expected_gain` of one person's law.

    Args:
        people: of D = 2J coordinates, more than 1 degree of freedom.

    Returns:
        (J,) in the units of the coordinates.
    """
    before = people.expected_errors()
    if not isinstance(people, Mixture):
        after = _residual_errors(people.scatter[None], people.degrees_of_freedom)[0].sum(axis=-1)
    else:
        kept = np.flatnonzero(people.weights > _NEGLIGIBLE)
        weights, means, scatters = people.weights[kept], people.means[kept], people.scatters[kept]
        nu = float(people.degrees_of_freedom)
        after = weights @ _residual_errors(scatters, nu).sum(axis=-1)
        if len(kept) > 1:
            after = after + _cost_of_mistakes(weights, means, scatters, nu)
    return before.sum() - before - after


def _residual_errors(scatters: np.ndarray, degrees_of_freedom: law.DegreesOfFreedom) -> np.ndarray:
    """(K, J, J) expected error of joint j, the last, about its conditional mean once joint h is known; 0 where they are one."""
    blocks = _blocks(scatters)
    own = np.einsum("kjjab->kjab", blocks)
    gain = np.linalg.solve(own[:, :, None], blocks)  # S_hh^-1 S_hj
    left = own[:, None] - np.swapaxes(blocks, -1, -2) @ gain
    joint = np.arange(blocks.shape[1])
    left[:, joint, joint] = 0.0
    # `law.expected_distance` from the mean itself, in closed form, since there are many: the mean over directions of an
    # ellipse's half widths is 2 / pi times its longer semi-axis times an elliptic integral.
    from scipy.special import ellipe

    minor, major = np.moveaxis(np.maximum(np.linalg.eigvalsh(left), 0.0), -1, 0)
    with np.errstate(invalid="ignore"):
        flat = np.where(major > 0, 1 - minor / major, 0.0)
    unit = law.expected_distance(np.zeros(2), np.eye(2), degrees_of_freedom)
    return unit * 2 / np.pi * np.sqrt(major) * ellipe(flat)


def _cost_of_mistakes(weights: np.ndarray, means: np.ndarray, scatters: np.ndarray, degrees_of_freedom: float) -> np.ndarray:
    """(J,) what it adds to the others' errors that, once joint h is known, another component may be the likeliest."""
    count, dimension = means.shape
    points, joints = coordinates.unflatten(_points(means, scatters, degrees_of_freedom)), dimension // 2
    centres, blocks = coordinates.unflatten(means), _blocks(scatters)
    cost = np.zeros(joints)
    for h in range(joints):
        clicks, inverse = points[:, :, h], np.linalg.inv(blocks[:, h, h])
        apart = clicks[:, :, None] - centres[:, h]
        squared = np.einsum("knla,lab,knlb->knl", apart, inverse, apart, optimize=True)
        log_det = -np.linalg.slogdet(inverse)[1]
        nll = law.negative_log_likelihood_at(squared, log_det, 2, degrees_of_freedom)
        leading = (np.log(weights) - nll).argmax(axis=-1)
        own, point = np.nonzero(leading != np.arange(count)[:, None])
        if not len(own):
            continue
        follow = inverse @ scatters[:, coordinates.rows([h])]  # (K, 2, 2J)

        def errors(component: np.ndarray, own=own, point=point, follow=follow, h=h) -> np.ndarray:
            x, y = (points[own, point, h] - centres[component, h]).T[:, :, None]
            place = means[component] + x * follow[component, 0] + y * follow[component, 1]
            return np.hypot(*np.moveaxis(points[own, point] - coordinates.unflatten(place), -1, 0)).sum(axis=-1)

        taken = leading[own, point]
        cost[h] = (weights[own] * (errors(taken) - errors(own))).sum() / points.shape[1]
    return cost


def _points(means: np.ndarray, scatters: np.ndarray, degrees_of_freedom: float) -> np.ndarray:
    """(K, n, D) points that stand for each component, n of the same probability each."""
    from scipy.special import gammaincinv

    count, dimension = means.shape
    half = max(_LEAST_POINTS, _POINTS // count) // 2
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((half, dimension))
    if np.isfinite(degrees_of_freedom):
        places = (rng.permutation(half) + 0.5) / half
        directions *= np.sqrt(degrees_of_freedom / (2 * gammaincinv(degrees_of_freedom / 2, places)))[:, None]
    both = np.concatenate([directions, -directions])
    return means[:, None] + both @ np.swapaxes(law.cholesky(scatters), -1, -2)


def _blocks(scatters: np.ndarray) -> np.ndarray:
    """The 2 x 2 blocks (K, J, J, 2, 2) of matrices (K, 2J, 2J)."""
    count, dimension = scatters.shape[:2]
    return scatters.reshape(count, dimension // 2, 2, dimension // 2, 2).swapaxes(2, 3)


def _free_law(pose: Pose, free: np.ndarray) -> law.Law | Mixture:
    if pose.components is not None:
        return pose.components
    rows = coordinates.rows(free)
    mean = coordinates.flatten(pose.keypoints.astype(np.float64))[rows]
    return law.Law(mean, pose.scatter[np.ix_(rows, rows)], pose.degrees_of_freedom)
