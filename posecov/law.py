"""The probability law of a pose, in NumPy float64: a multivariate Student-t, or with infinite degrees of freedom the Gaussian.

Every formula has its only home here. All functions are batched over leading dimensions ``...``, D is the number of
coordinates, and a NaN in ``residuals`` or ``values`` marks a coordinate without a label: the law is then that of the others.
``degrees_of_freedom`` is a number or an array (...), `math.inf` for a Gaussian.

The law has two matrices: the *scatter* stands in the density, the *covariance* is the second moment, nu / (nu - 2) times it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from posecov import coordinates
from posecov.errors import PosecovError

DegreesOfFreedom: TypeAlias = float | np.ndarray


def covariance_from_scatter(scatter: np.ndarray, degrees_of_freedom: DegreesOfFreedom) -> np.ndarray:
    """Second moments (..., D, D): nu / (nu - 2) times the scatter. Raises PosecovError unless nu > 2."""
    return np.asarray(scatter, dtype=np.float64) * _spread(degrees_of_freedom)


def scatter_from_covariance(covariance: np.ndarray, degrees_of_freedom: DegreesOfFreedom) -> np.ndarray:
    """The inverse of `covariance_from_scatter`."""
    return np.asarray(covariance, dtype=np.float64) / _spread(degrees_of_freedom)


def squared_mahalanobis(residuals: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """r^T S^-1 r over the labelled coordinates.

    Args:
        residuals: (..., D) value minus mean; NaN is marginalised.
        scatter: (..., D, D), positive definite.

    Returns:
        (...) without unit; 0 where nothing is labelled.
    """
    return distances(residuals, scatter)[0]


def distances(residuals: np.ndarray, scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared Mahalanobis distance, log determinant and dimension, each (...), over the labelled coordinates."""
    filled, masked, labelled = mask_missing(residuals, scatter)
    root = cholesky(masked)
    if root.ndim == 2:
        whitened = np.linalg.solve(root, filled.reshape(-1, len(root)).T).T.reshape(filled.shape)
    else:
        whitened = np.linalg.solve(root, filled[..., None])[..., 0]
    log_det = 2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
    return np.square(whitened).sum(axis=-1), log_det, labelled.sum(axis=-1)


def negative_log_likelihood(residuals: np.ndarray, scatter: np.ndarray, degrees_of_freedom: DegreesOfFreedom) -> np.ndarray:
    """-log density in nats over the labelled coordinates. It may be negative; in units s times smaller it is D log s more.

    Args:
        residuals: (..., D) value minus mean; NaN is marginalised.
        scatter: (..., D, D) in squared units of the residuals.
        degrees_of_freedom: nu; infinite gives 1/2 (D log 2 pi + log det S + r^T S^-1 r).

    Returns:
        (...); 0 where nothing is labelled.
    """
    return negative_log_likelihood_at(*distances(residuals, scatter), degrees_of_freedom)


def negative_log_likelihood_at(
    squared: np.ndarray, log_det: np.ndarray, dimension: int | np.ndarray, degrees_of_freedom: DegreesOfFreedom
) -> np.ndarray:
    """`negative_log_likelihood` from what `distances` returns: to try many degrees of freedom for one scatter."""
    from scipy.special import betaln, gammaln

    nu, gaussian = _split(degrees_of_freedom)
    asked = np.maximum(dimension, 1)
    # betaln keeps its digits for large nu, where the difference of two gammaln loses them. Below, it divides by gamma(171),
    # which is no number where a training process flushes denormals to zero.
    exact = gammaln(nu / 2) - gammaln((nu + asked) / 2)
    constant = np.where(nu < 1e5, exact, betaln(nu / 2, asked / 2) - gammaln(asked / 2)) + asked / 2 * np.log(nu * np.pi)
    student = constant + (nu + asked) / 2 * np.log1p(squared / nu)
    normal = asked / 2 * np.log(2 * np.pi) + squared / 2
    return np.where(np.asarray(dimension) > 0, np.where(gaussian, normal, student) + log_det / 2, 0.0)


def central_mass(squared: np.ndarray, dimension: int | np.ndarray, degrees_of_freedom: DegreesOfFreedom) -> np.ndarray:
    """Mass of the central ellipsoid that reaches a squared Mahalanobis distance (with the scatter).

    Over the law's samples squared / d follows F(d, nu), and for a Gaussian squared follows chi-square(d).

    Returns:
        (...) in [0, 1], uniform over the law's own samples; NaN where the dimension is 0.
    """
    from scipy.special import betainc, gammainc

    squared = np.asarray(squared, dtype=np.float64)
    half = np.maximum(dimension, 1) / 2
    nu, gaussian = _split(degrees_of_freedom)
    with np.errstate(invalid="ignore"):
        share = np.where(np.isinf(squared), 1.0, squared / (nu + squared))
    mass = np.where(gaussian, gammainc(half, squared / 2), betainc(half, nu / 2, share))
    return np.where(np.asarray(dimension) > 0, mass, np.nan)


def circle_mass(squared: np.ndarray, degrees_of_freedom: DegreesOfFreedom) -> np.ndarray:
    """`central_mass` in two dimensions, where it has a closed form: 1 - (1 + squared / nu)^(-nu / 2)."""
    nu, gaussian = _split(degrees_of_freedom)
    if not gaussian.any():
        return -np.expm1(-nu / 2 * np.log1p(squared / nu))
    return -np.expm1(np.where(gaussian, -squared / 2, -nu / 2 * np.log1p(squared / nu)))


def central_radius_squared(
    mass: float | np.ndarray, dimension: int | np.ndarray, degrees_of_freedom: DegreesOfFreedom
) -> np.ndarray:
    """The squared Mahalanobis distance (with the scatter) at which the central ellipsoid holds ``mass``.

    The inverse of `central_mass`.

    Raises:
        PosecovError: a mass outside (0, 1).
    """
    from scipy.special import betaincinv, gammaincinv

    mass = np.asarray(mass, dtype=np.float64)
    if not ((mass > 0) & (mass < 1)).all():
        raise PosecovError(f"a mass must lie between 0 and 1, not {float(np.ravel(mass)[0]):g}")
    half = np.asarray(dimension) / 2
    nu, gaussian = _split(degrees_of_freedom)
    # share / (1 - share), both found as quantiles: either may be too close to 1 to give the other by subtraction.
    odds = betaincinv(half, nu / 2, mass) / betaincinv(nu / 2, half, 1 - mass)
    return np.where(gaussian, 2 * gammaincinv(half, mass), nu * odds)


def condition(
    mean: np.ndarray,
    scatter: np.ndarray,
    degrees_of_freedom: DegreesOfFreedom,
    known_rows: np.ndarray | Sequence[int],
    values: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, DegreesOfFreedom]:
    """The law of the remaining coordinates once some are known.

    For d_o known ones at the squared distance m_o it is again a t, with nu + d_o degrees of freedom and the Gaussian's
    conditional scatter times (nu + m_o) / (nu + d_o): evidence that fits badly widens it.

    Args:
        mean: (..., D).
        scatter: (..., D, D).
        degrees_of_freedom: nu.
        known_rows: (d_o,) indices of the known coordinates.
        values: (..., d_o) what they are.

    Returns:
        Mean (..., D - d_o), scatter (..., D - d_o, D - d_o) and degrees of freedom of the others, in their order.
    """
    mean, scatter = np.asarray(mean, dtype=np.float64), np.asarray(scatter, dtype=np.float64)
    known = np.asarray(known_rows, dtype=np.intp).reshape(-1)
    rest = np.setdiff1d(np.arange(mean.shape[-1]), known)
    root = cholesky(scatter[..., known[:, None], known])
    gain = np.linalg.solve(root, scatter[..., known[:, None], rest])
    evidence = np.linalg.solve(root, (np.asarray(values, dtype=np.float64) - mean[..., known])[..., None])
    transposed = np.swapaxes(gain, -1, -2)
    moved = mean[..., rest] + (transposed @ evidence)[..., 0]
    # Written so that it is 1 for infinite degrees of freedom.
    squared = np.square(evidence).sum(axis=(-2, -1))
    widened = (1 + squared / degrees_of_freedom) / (1 + len(known) / np.asarray(degrees_of_freedom))
    narrowed = scatter[..., rest[:, None], rest] - transposed @ gain
    return moved, narrowed * widened[..., None, None], degrees_of_freedom + len(known)


def hidden_joint_residuals(residuals: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """What is left of each joint's residual once it is predicted from the true values of all other labelled joints.

    With the precision P = S^-1 the conditional mean of joint h leaves P_hh^-1 (P r)_h: one factorisation serves all joints.
    Degrees of freedom do not move a conditional mean.

    Args:
        residuals: (..., 2J) value minus mean, NaN where a joint has no label.
        scatter: (..., 2J, 2J), or the covariance: only its shape counts.

    Returns:
        (..., J, 2), NaN at joints without a label.
    """
    filled, masked, labelled = mask_missing(residuals, scatter)
    root = cholesky(masked)
    whitener = np.linalg.solve(root, np.broadcast_to(np.eye(root.shape[-1]), root.shape))
    precision = np.swapaxes(whitener, -1, -2) @ whitener
    pulled = coordinates.unflatten((precision @ filled[..., None])[..., 0])
    left = np.linalg.solve(coordinates.joint_blocks(precision), pulled[..., None])[..., 0]
    return np.where(coordinates.unflatten(labelled), left, np.nan)


def probability_within(scatter: np.ndarray, radius: float | np.ndarray, degrees_of_freedom: DegreesOfFreedom) -> np.ndarray:
    """Probability that a point lies within a distance of its mean.

    It is the average over directions u of the radial distribution at (radius / |A u|)^2, A A^T the scatter. With a and b the
    semi-axes and tan(angle) = e^t the integrand changes near t = 0 and t = log(a / b) only, over a width of order 1, however
    elongated the ellipse; the trapezoidal rule in t then converges exponentially (error below 1e-8 at this step).

    Args:
        scatter: (..., 2, 2) of one point; a zero matrix is a point that is known.
        radius: (...) in the units of the point, not negative.
        degrees_of_freedom: nu.

    Returns:
        (...) in [0, 1].
    """
    radius = np.asarray(radius, dtype=np.float64)
    if not (radius >= 0).all():
        raise PosecovError("a radius must be a number that is not negative")
    variances = np.maximum(np.linalg.eigvalsh(np.asarray(scatter, dtype=np.float64)), 0.0)[..., None]
    t = np.arange(-20.0, 20.01, 0.2)
    cosine = 1 / (1 + np.exp(2 * t))
    along = variances[..., 1, :] * cosine + variances[..., 0, :] * (1 - cosine)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.where(along > 0, np.square(radius[..., None]) / along, np.inf)
    weights = 1 / np.cosh(t)
    nu = degrees_of_freedom if np.ndim(degrees_of_freedom) == 0 else np.asarray(degrees_of_freedom)[..., None]
    within = central_mass(squared, 2, nu) @ (weights / weights.sum())
    return np.where(variances[..., 1, 0] > 0, within, 1.0)


def expected_distance(offset: np.ndarray, scatter: np.ndarray, degrees_of_freedom: DegreesOfFreedom) -> np.ndarray:
    """Expected length of offset + x, x of the law with mean 0: how far a point is from a place, on average.

    A length is pi / 2 times the mean over directions of its projections' sizes, and the projection of a t on a direction is a
    t of one dimension, whose expected size is closed-form. The trapezoidal rule over a half turn does the rest: 64 directions
    are exact to 0.1 % for ellipses up to 50 times as long as wide (at the worst angle), and far better for rounder ones.

    Args:
        offset: (..., 2) mean minus that place.
        scatter: (..., 2, 2); a zero matrix is a point that is known.
        degrees_of_freedom: nu, above 1.

    Returns:
        (...) in the units of the offset.
    """
    from scipy.special import betaln, ndtr, stdtr

    nu, gaussian = _split(degrees_of_freedom)
    if not ((nu > 1) | gaussian).all():
        raise PosecovError("an expected distance needs more than 1 degree of freedom")
    nu, gaussian = nu[..., None], gaussian[..., None]
    angles = np.arange(64) * np.pi / 64
    across = np.stack([np.cos(angles), np.sin(angles)])
    middle = np.asarray(offset, dtype=np.float64) @ across
    spread = np.sqrt(np.maximum(((np.asarray(scatter, dtype=np.float64) @ across) * across).sum(axis=-2), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, middle / spread, 0.0)
    squared = np.square(z)
    normal = np.exp(-squared / 2) / np.sqrt(2 * np.pi)
    exponent = -(nu + 1) / 2 * np.log1p(squared / nu) - betaln(nu / 2, 0.5) - np.log(nu) / 2
    # Where infinite, nu stands at 1, and what it gives there is thrown away.
    tail = np.where(gaussian, normal, np.exp(exponent) * (nu + squared) / np.where(gaussian, 1.0, nu - 1))
    beyond = 2 * np.where(gaussian, ndtr(z), stdtr(nu, z)) - 1
    sizes = np.where(spread > 0, middle * beyond + 2 * spread * tail, np.abs(middle))
    return np.pi / 2 * sizes.mean(axis=-1)


def ellipse_axes(scatter: np.ndarray, mass: float, degrees_of_freedom: DegreesOfFreedom) -> tuple[np.ndarray, np.ndarray]:
    """The central ellipse of a point that holds ``mass``.

    Args:
        scatter: (..., 2, 2).
        mass: between 0 and 1.
        degrees_of_freedom: nu.

    Returns:
        Semi-axes (..., 2), the longer first, and the angle atan2(y, x) (...) of the first, in radians in (-pi/2, pi/2].
    """
    variances, directions = np.linalg.eigh(np.asarray(scatter, dtype=np.float64))
    radius = np.asarray(central_radius_squared(mass, 2, degrees_of_freedom))[..., None]
    axes = np.sqrt(np.maximum(variances[..., ::-1], 0.0) * radius)
    angle = np.arctan2(directions[..., 1, 1], directions[..., 0, 1])
    # An axis has no sign: keep the half turn that starts above -pi/2.
    return axes, np.pi / 2 - np.mod(np.pi / 2 - angle, np.pi)


def joint_sigma(covariance: np.ndarray) -> np.ndarray:
    """(..., J) standard deviation of each joint, averaged over directions: sqrt of half the trace of its 2 x 2 block."""
    return np.sqrt(np.trace(coordinates.joint_blocks(covariance), axis1=-2, axis2=-1) / 2)


def log_volume(covariance: np.ndarray, labelled: np.ndarray | None = None) -> np.ndarray:
    """Sharpness: log det of the covariance / (2 d), the mean log standard deviation along its d principal axes.

    Lower is sharper; exp of it is a length in the units of the coordinates. A law is good when it is sharp *and* calibrated.

    Args:
        covariance: (..., D, D) second moments.
        labelled: (..., D) bool, the coordinates that count; all by default.

    Returns:
        (...); NaN where nothing is labelled.
    """
    residuals = np.zeros(np.shape(covariance)[:-1]) if labelled is None else np.where(labelled, 0.0, np.nan)
    _, log_det, dimension = distances(residuals, covariance)
    return np.where(dimension > 0, log_det / 2 / np.maximum(dimension, 1), np.nan)


def sample(
    rng: np.random.Generator, mean: np.ndarray, scatter: np.ndarray, degrees_of_freedom: DegreesOfFreedom, count: int
) -> np.ndarray:
    """Independent draws (count, ..., D) of the law: mean + L z sqrt(nu / chi-square(nu))."""
    root, nu = cholesky(np.asarray(scatter, dtype=np.float64)), np.asarray(degrees_of_freedom, dtype=np.float64)
    normal = rng.standard_normal((count, *root.shape[:-1]))
    finite = np.where(np.isinf(nu), 1.0, nu)
    stretch = np.where(np.isinf(nu), 1.0, np.sqrt(finite / rng.chisquare(finite, size=(count, *root.shape[:-2]))))
    return mean + (root @ normal[..., None])[..., 0] * stretch[..., None]


def symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root (..., D, D) of positive semi-definite matrices; negative eigenvalues count as 0."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, dtype=np.float64))
    return (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def gaussian_wasserstein2(
    first_mean: np.ndarray, first_covariance: np.ndarray, second_mean: np.ndarray, second_covariance: np.ndarray
) -> np.ndarray:
    """Squared 2-Wasserstein distance of two Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S2^1/2 S1 S2^1/2)^1/2) (ToSS, 2502.10587).

    Computed with the nuclear norm of S1^1/2 S2^1/2, which is the trace of that root. Covariances may be singular.

    Returns:
        (...) in squared units.
    """
    product = symmetric_root(first_covariance) @ symmetric_root(second_covariance)
    traces = np.trace(np.asarray(first_covariance) + np.asarray(second_covariance), axis1=-2, axis2=-1)
    bures = traces - 2 * np.linalg.svd(product, compute_uv=False).sum(axis=-1)
    return np.square(np.asarray(first_mean) - np.asarray(second_mean)).sum(axis=-1) + np.maximum(bures, 0.0)


def wasserstein2_factor_bound(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|A - B|_F^2, never below the covariance part of the distance of A A^T and B B^T, for any factors (..., D, R) of them.

    With symmetric roots it is Theorem 1 of ToSS (2502.10587). That part is the minimum of |A - B Q|_F^2 over orthogonal Q, and
    Q = I bounds it.
    """
    return np.square(np.asarray(first) - np.asarray(second)).sum(axis=(-2, -1))


@dataclass(frozen=True, eq=False)
class Law:
    """The law of one person's coordinates, or of N people's. Code that asks a `Law` need not know its family.

    Attributes:
        mean: (..., D) float64.
        scatter: (..., D, D) float64.
        degrees_of_freedom: nu, a number or (...).
    """

    mean: np.ndarray
    scatter: np.ndarray
    degrees_of_freedom: DegreesOfFreedom

    @classmethod
    def from_covariance(cls, mean: np.ndarray, covariance: np.ndarray, degrees_of_freedom: DegreesOfFreedom) -> "Law":
        """From second moments. Raises PosecovError unless nu > 2."""
        scatter = scatter_from_covariance(covariance, degrees_of_freedom)
        return cls(np.asarray(mean, dtype=np.float64), scatter, degrees_of_freedom)

    def __len__(self) -> int:
        return len(self.mean) if self.mean.ndim > 1 else 1

    def __getitem__(self, people: int | slice | np.ndarray) -> "Law":
        """The law of one person or of some people of a batch (N,)."""
        nu = self.degrees_of_freedom if np.ndim(self.degrees_of_freedom) == 0 else np.asarray(self.degrees_of_freedom)[people]
        return Law(self.mean[people], self.scatter[people], nu)

    @property
    def covariance(self) -> np.ndarray:
        """Second moments (..., D, D) about the mean."""
        return covariance_from_scatter(self.scatter, self.degrees_of_freedom)

    def negative_log_likelihood(self, values: np.ndarray) -> np.ndarray:
        """(...) nats of values (..., D), NaN marginalised."""
        return negative_log_likelihood(values - self.mean, self.scatter, self.degrees_of_freedom)

    def mass(self, values: np.ndarray) -> np.ndarray:
        """(...) mass of the central region that reaches values (..., D), NaN marginalised; NaN where all are."""
        dimension = (~np.isnan(values)).sum(axis=-1)
        return central_mass(squared_mahalanobis(values - self.mean, self.scatter), dimension, self.degrees_of_freedom)

    def joint_masses(self, values: np.ndarray) -> np.ndarray:
        """(..., J) the same for each joint by itself, NaN at joints without a label."""
        residuals = coordinates.unflatten(values - self.mean)
        squared = squared_mahalanobis(residuals, coordinates.joint_blocks(self.scatter))
        dimension = (~np.isnan(residuals)).sum(axis=-1)
        return central_mass(squared, dimension, np.asarray(self.degrees_of_freedom)[..., None])

    def expected_errors(self) -> np.ndarray:
        """(..., J) expected distance of each joint from its mean (`expected_distance`)."""
        blocks = coordinates.joint_blocks(self.scatter)
        return expected_distance(np.zeros(blocks.shape[:-1]), blocks, np.asarray(self.degrees_of_freedom)[..., None])

    def hidden_joint_residuals(self, values: np.ndarray) -> np.ndarray:
        """(..., J, 2) residual of each joint about its mean given all other labelled joints of values (..., D)."""
        return hidden_joint_residuals(values - self.mean, self.scatter)

    def condition(self, known_rows: np.ndarray | Sequence[int], values: np.ndarray) -> "Law":
        """The law of the other coordinates once values (..., d_o) of some are known."""
        return Law(*condition(self.mean, self.scatter, self.degrees_of_freedom, known_rows, values))

    def marginal(self, rows: np.ndarray | Sequence[int]) -> "Law":
        """The law of some coordinates alone, in the order given."""
        rows = np.asarray(rows, dtype=np.intp)
        return Law(self.mean[..., rows], self.scatter[..., rows[:, None], rows], self.degrees_of_freedom)

    def difference(self, first: np.ndarray | Sequence[int], second: np.ndarray | Sequence[int]) -> "Law":
        """The law of some coordinates minus some others, each (d,), such as the vector from one joint to another.

        A linear map of a t is a t with the same degrees of freedom: A mu and A S A^T, here S_aa + S_bb - S_ab - S_ba.
        """
        a, b = np.asarray(first, dtype=np.intp), np.asarray(second, dtype=np.intp)

        def block(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            return self.scatter[..., left[:, None], right]

        scatter = block(a, a) + block(b, b) - block(a, b) - block(b, a)
        return Law(self.mean[..., a] - self.mean[..., b], scatter, self.degrees_of_freedom)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, ..., D) independent draws."""
        return sample(rng, self.mean, self.scatter, self.degrees_of_freedom, count)


def _spread(degrees_of_freedom: DegreesOfFreedom) -> np.ndarray:
    """nu / (nu - 2), ready to multiply matrices; 1 for a Gaussian."""
    nu = np.asarray(degrees_of_freedom, dtype=np.float64)
    if not (nu > 2).all():
        raise PosecovError(f"a covariance needs more than 2 degrees of freedom, not {float(np.ravel(nu)[0]):g}")
    return (1 / (1 - 2 / nu))[..., None, None]


def _split(degrees_of_freedom: DegreesOfFreedom) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom with 1 in place of infinity, and where they are infinite."""
    nu = np.asarray(degrees_of_freedom, dtype=np.float64)
    if not (nu > 0).all():
        raise PosecovError(f"degrees of freedom must be positive, not {float(np.ravel(nu)[0]):g}")
    return np.where(np.isinf(nu), 1.0, nu), np.isinf(nu)


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Lower factor (..., D, D). Raises PosecovError when a matrix is not positive definite."""
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise PosecovError("a covariance is not positive definite") from None


def mask_missing(residuals: np.ndarray, scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residuals with 0, and scatters with rows and columns of the identity, where a label is missing; and where it is not.

    The labelled part keeps its distance and determinant and the rest adds nothing: the marginal, without ragged arrays.
    """
    residuals, scatter = np.asarray(residuals, dtype=np.float64), np.asarray(scatter, dtype=np.float64)
    labelled = ~np.isnan(residuals)
    if labelled.all():
        return residuals, scatter, labelled
    both = labelled[..., :, None] & labelled[..., None, :]
    return np.where(labelled, residuals, 0.0), np.where(both, scatter, np.eye(scatter.shape[-1])), labelled
