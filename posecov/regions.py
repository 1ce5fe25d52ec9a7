"""Where one joint lies, when its law may have two centres: probability of a disc, the ellipse that holds a mass, true contours.

All functions take the `Mixture` of one point, D = 2, of one person; lengths are its own, usually pixels.
"""

from collections.abc import Callable

import numpy as np

from posecov import density, law
from posecov.errors import PosecovError
from posecov.law import DegreesOfFreedom
from posecov.mixture import Mixture

_OUTLINE = 96  # Vertices of an ellipse.
_WIDEST = 50.0  # Logarithm of how much wider than the leading component's an ellipse may be: rounding hides the mass beyond.
_ROOT_STEPS = 100  # Of false position, at most; about ten are needed.
_CLOSE = 1e-6  # Of the odds' logarithm, where a root is found: as exact as the probabilities are.
_LEVEL_STEPS = 4  # Of the same between two lines of a grid: to a millionth of their distance.
LINES = 257
"""Grid lines in each direction, over all components; each gets 33 at least."""

COARSE_LINES = 97
"""Enough for outlines that are drawn: they lie on the level too, and only parts thinner than 1/20 may not be seen."""


def disc_probability(
    offset: np.ndarray, scatter: np.ndarray, radius: float | np.ndarray, degrees_of_freedom: DegreesOfFreedom
) -> np.ndarray:
    """Probability that a Student-t point lies in a disc that need not be centred on its mean.

    In coordinates where the scatter is the identity and the mean 0, the density is the divergence of the field
    M(|z|) z / (2 pi |z|^2), M the mass of the central circle through z. So the probability is the flux out of the disc, an
    integral around its rim whose integrand is smooth and periodic: the trapezoidal rule converges exponentially. With 16
    points for every smaller semi-axis of the scatter along a radius, and 128 at least, the error is below 1e-6; beyond 2048
    semi-axes the points no longer become more, and a rim that passes close to the mean passes between them.

    Args:
        offset: (..., 2) centre of the disc minus mean of the point.
        scatter: (..., 2, 2), positive definite.
        radius: (...), not negative.
        degrees_of_freedom: nu, a number or (...).

    Returns:
        (...) in [0, 1].
    """
    return _Discs(offset, scatter, degrees_of_freedom)(radius)[0]


class _Discs:
    """`disc_probability` for radii yet to come, with its derivative."""

    def __init__(self, offset: np.ndarray, scatter: np.ndarray, degrees_of_freedom: DegreesOfFreedom):
        scatter = np.asarray(scatter, dtype=np.float64)
        self._shortest = np.sqrt(np.linalg.eigvalsh(scatter)[..., 0])
        self._whitener = np.linalg.inv(law.cholesky(scatter))
        self._determinant = np.linalg.det(self._whitener)[..., None]
        self._centre = self._whitener @ np.asarray(offset, dtype=np.float64)[..., None]
        nu = degrees_of_freedom
        self._nu = nu if np.ndim(nu) == 0 else np.asarray(nu)[..., None]
        self._rims: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def __call__(self, radius: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (...), and how fast they grow with the radius."""
        radius = np.asarray(radius, dtype=np.float64)
        if not (radius >= 0).all():
            raise PosecovError("a radius must be a number that is not negative")
        ratio = (radius / self._shortest).max(initial=1.0)
        along, across, turned = self._rim(1 << int(np.clip(np.ceil(np.log2(16 * ratio)), 7, 15)))
        radius = radius[..., None]
        squared = np.square(self._centre[..., 0, :] + radius * along) + np.square(self._centre[..., 1, :] + radius * across)
        # The flux through a piece of the rim is its place times the step along it; the radius's own share of it is constant.
        flux = radius * (turned + radius * self._determinant)
        mass = law.circle_mass(squared, self._nu)
        # M(r) / r^2 is 1/2 at the mean itself.
        inside = np.where(squared > 1e-12, mass / np.maximum(squared, 1e-12), 0.5)
        # The rim times the density on it, which is M'(r) / (2 pi r).
        rate = (radius * self._determinant)[..., 0] * ((1 - mass) / (1 + squared / self._nu)).mean(axis=-1)
        return np.clip((inside * flux).mean(axis=-1), 0.0, 1.0), rate

    def _rim(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the unit circle's points both whitened coordinates, and the centre's cross product with the steps along it."""
        if count not in self._rims:
            turn = np.arange(count) * (2 * np.pi / count)
            circle = np.stack([np.cos(turn), np.sin(turn)])
            along, step = self._whitener @ circle, self._whitener @ np.stack([-circle[1], circle[0]])
            cross = self._centre[..., 0, :] * step[..., 1, :] - self._centre[..., 1, :] * step[..., 0, :]
            self._rims[count] = along[..., 0, :], along[..., 1, :], cross
        return self._rims[count]


def probability_within(point: Mixture, radius: float) -> float:
    """Probability that the point lies within a radius of its mean, that of the leading component. PosecovError below 0."""
    offsets = point.mean - point.means
    centred = law.probability_within(point.scatters, radius, point.degrees_of_freedom)
    moved = (offsets != 0).any(axis=-1)
    if moved.any():
        centred[moved] = disc_probability(offsets[moved], point.scatters[moved], radius, point.degrees_of_freedom)
    return float(centred @ point.weights)


def ellipse_axes(point: Mixture, mass: float) -> tuple[np.ndarray, np.ndarray]:
    """The ellipse around the mean, in the shape of the leading component, that holds ``mass`` of the whole law.

    It holds what it promises, but where a second component lies apart it is not the smallest such region: see `contours`.

    Args:
        point: of one point, or of several (...) with as many components each.
        mass: between 0 and 1.

    Returns:
        Semi-axes (..., 2), the longer first, and the angles (...) of the first as `law.ellipse_axes` gives them.
    """
    leading = point.scatters[..., 0, :, :]
    axes, angle = law.ellipse_axes(leading, mass, point.degrees_of_freedom)
    if point.components == 1:
        return axes, angle
    # In coordinates where the leading component is a unit circle, the ellipse is a circle.
    whitener = np.linalg.inv(law.cholesky(leading))[..., None, :, :]
    scatters = whitener @ point.scatters[..., 1:, :, :] @ np.swapaxes(whitener, -1, -2)
    scatters = (scatters + np.swapaxes(scatters, -1, -2)) / 2
    centres = (whitener @ (point.means[..., 1:, :] - point.mean[..., None, :])[..., None])[..., 0]
    weights, nu = point.weights, np.asarray(point.degrees_of_freedom)
    alone = np.log(law.central_radius_squared(mass, 2, nu)) / 2
    discs = _Discs(centres, scatters, nu[..., None] if nu.ndim else float(nu))

    def excess(log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        radius = np.exp(alone + log_ratio)
        own, (others, rates) = law.circle_mass(np.square(radius), nu), discs(radius[..., None])
        inside = weights[..., 0] * own + (weights[..., 1:] * others).sum(axis=-1)
        rate = weights[..., 0] * radius * (1 - own) / (1 + np.square(radius) / nu) + (weights[..., 1:] * rates).sum(axis=-1)
        # Odds against the logarithm of the radius are nearly a straight line, as both tails are powers.
        inside = np.clip(inside, 1e-300, 1 - 1e-16)
        odds = inside / (1 - inside)
        return np.log(odds * ((1 - mass) / mass)), radius * rate / (inside * (1 - inside))

    return axes * np.exp(_root(excess, np.zeros(leading.shape[:-2])))[..., None], angle


def _root(rising: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], start: np.ndarray) -> np.ndarray:
    """Where functions (...) that rise from below 0 are 0, `_WIDEST` above their starts (...) at most, all at a time.

    Args:
        rising: the functions' values and slopes.
        start: where to begin.

    Newton's steps, of 1 at most; halving the interval that is known where one leads out of it.
    """
    place, most = start, start + _WIDEST
    low, high = np.full(start.shape, -np.inf), np.full(start.shape, np.inf)
    for _ in range(_ROOT_STEPS):
        value, slope = rising(place)
        low, high = np.where(value < 0, place, low), np.where(value < 0, high, place)
        found = (abs(value) < _CLOSE) | (high - low < 1e-9) | (low >= most)
        if found.all():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            following = place + np.clip(-value / slope, -1.0, 1.0)
        inside = (following > low) & (following < high)
        place = np.where(found, place, np.minimum(np.where(inside, following, (low + high) / 2), most))
    return place


def contours(point: Mixture, mass: float, lines: int = LINES) -> list[np.ndarray]:
    """The smallest region that holds ``mass``: that of highest density, which may fall into several parts.

    The level is found to about 0.003 of the mass (`density.level`). A grid, finer around every component and along the axes of
    the leading one, shows the parts; their outlines are then moved onto the level itself, so that they are exact to a small
    part of a standard deviation. A part thinner than the lines' distance, 1/50 of its component's width where there are two,
    may not be seen.

    Returns:
        Polygons (n, 2), closed without a repeated vertex, the largest first. A hole is a polygon inside another: fill them with
        the even-odd rule.
    """
    if point.components == 1:
        axes, angle = law.ellipse_axes(point.scatters[0], mass, point.degrees_of_freedom)
        return [ellipse_outline(point.mean, axes, float(angle))]
    threshold = density.level(point, mass)
    root = law.cholesky(point.scatters[0])
    grid = _grid(point, threshold, np.linalg.inv(root), lines)
    # Whitened lines back to places.
    places = np.stack(np.meshgrid(*grid), axis=-1) @ root.T + point.mean
    inside = _heights(point, places.reshape(-1, 2)).reshape(places.shape[:-1]) > threshold
    polygons = [_on_level(point, threshold, outline, places) for outline in _outlines(inside)]
    return sorted(polygons, key=lambda polygon: -abs(area(polygon)))


def ellipse_outline(centre: np.ndarray, axes: np.ndarray, angle: float, vertices: int = _OUTLINE) -> np.ndarray:
    """Vertices (n, 2) on an ellipse, evenly spaced on the circle that it is an image of."""
    turn = np.arange(vertices) * (2 * np.pi / vertices)
    across = np.stack([axes[0] * np.cos(turn), axes[1] * np.sin(turn)], axis=1)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return centre + across @ rotation.T


def _grid(point: Mixture, threshold: float, whitener: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lines in x and y, where the leading component is a unit circle around 0, beyond the region on all sides."""
    centres = (point.means - point.mean) @ whitener.T
    widths = np.sqrt(np.diagonal(whitener @ point.scatters @ whitener.T, axis1=-2, axis2=-1))
    nu = float(point.degrees_of_freedom)
    # Where the density exceeds the threshold, one of the K components exceeds its K-th part: an ellipse around each.
    with np.errstate(divide="ignore"):
        peaks = np.log(point.weights) - law.negative_log_likelihood_at(np.zeros(()), point.whitener[1], 2, nu)
    excess = peaks - threshold + np.log(point.components)
    squared = 2 * excess if np.isinf(nu) else nu * np.expm1(2 / (nu + 2) * excess)
    reach = 1.02 * np.sqrt(np.maximum(squared, 0.0))[:, None] * widths
    seen = squared > 0
    across = np.linspace(-1.0, 1.0, max(33, count // int(seen.sum())))
    lines = [np.unique((centres[seen, axis, None] + reach[seen, axis, None] * across).ravel()) for axis in (0, 1)]
    return lines[0], lines[1]


def _heights(point: Mixture, places: np.ndarray) -> np.ndarray:
    """Log density at places (n, 2)."""
    residuals = places[None] - point.means[:, None]
    whitener, log_det = point.whitener
    squared = np.square(residuals @ np.swapaxes(whitener, -1, -2)).sum(axis=-1)
    with np.errstate(divide="ignore"):
        weights = np.log(point.weights)[:, None]
    terms = weights - law.negative_log_likelihood_at(squared, log_det[:, None], 2, point.degrees_of_freedom)
    top = terms.max(axis=0)
    return top + np.log(np.exp(terms - top).sum(axis=0))


# Marching squares: edges (0 top, 1 right, 2 bottom, 3 left) that an outline enters and leaves a cell by, with the inside on
# its left, for corners inside as bits: 1 top left, 2 top right, 4 bottom right, 8 bottom left.
_STEPS = {
    1: [(3, 0)], 2: [(0, 1)], 3: [(3, 1)], 4: [(1, 2)], 5: [(3, 0), (1, 2)], 6: [(0, 2)], 7: [(3, 2)],
    8: [(2, 3)], 9: [(2, 0)], 10: [(0, 1), (2, 3)], 11: [(2, 1)], 12: [(1, 3)], 13: [(1, 0)], 14: [(0, 3)],
}  # fmt: skip


def _outlines(inside: np.ndarray) -> list[np.ndarray]:
    """Outlines of a mask (H, W) whose border is outside, each the pairs (n, 2) of flat grid indices that it passes between."""
    height, width = inside.shape
    corner = np.arange(height * width).reshape(height, width)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    edges = [(a, b), (b, c), (d, c), (a, d)]
    bits = inside.astype(int)
    code = bits[:-1, :-1] + 2 * bits[:-1, 1:] + 4 * bits[1:, 1:] + 8 * bits[1:, :-1]
    following: dict[tuple[int, int], tuple[int, int]] = {}
    for value, steps in _STEPS.items():
        cells = code == value
        for enters, leaves in steps:
            starts = zip(edges[enters][0][cells].tolist(), edges[enters][1][cells].tolist(), strict=True)
            ends = zip(edges[leaves][0][cells].tolist(), edges[leaves][1][cells].tolist(), strict=True)
            following.update(zip(starts, ends, strict=True))
    found = []
    while following:
        edge, following_edge = following.popitem()
        outline = [edge]
        while following_edge != outline[0]:
            outline.append(following_edge)
            following_edge = following.pop(following_edge)
        found.append(np.array(outline))
    return found


def _on_level(point: Mixture, threshold: float, outline: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The places (n, 2) between pairs of grid places where the density passes the threshold, by false position (Illinois)."""
    flat = places.reshape(-1, 2)
    first, second = flat[outline[:, 0]], flat[outline[:, 1]]
    low, high = np.zeros(len(outline)), np.ones(len(outline))
    below, above = _heights(point, first) - threshold, _heights(point, second) - threshold
    inside, last, middle = below > 0, np.zeros(len(outline)), low
    for _ in range(_LEVEL_STEPS):
        middle = low + below / (below - above) * (high - low)
        value = _heights(point, first + middle[:, None] * (second - first)) - threshold
        # An end that stays twice counts half, or it would stay for ever.
        side = np.where((value > 0) == inside, 1, -1)
        above = np.where(side < 0, value, np.where(last > 0, above / 2, above))
        below = np.where(side > 0, value, np.where(last < 0, below / 2, below))
        low, high, last = np.where(side > 0, middle, low), np.where(side < 0, middle, high), side
    return first + middle[:, None] * (second - first)


def area(polygon: np.ndarray) -> float:
    """Of a polygon (n, 2), negative when it turns the other way."""
    following = np.concatenate([polygon[1:], polygon[:1]])
    return float((polygon[:, 0] * following[:, 1] - polygon[:, 1] * following[:, 0]).sum() / 2)
