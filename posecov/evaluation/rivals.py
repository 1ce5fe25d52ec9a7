"""Two rivals that a model has to beat.

They keep the model's means and its family of laws (Student-t, or Gaussian if its degrees of freedom are infinite):

- **constant covariance**: one full scatter in units of the person's size, times that size squared. Its D (D + 1) / 2 numbers
  and its degrees of freedom are fitted by maximum likelihood.
- **constant correlation**: the model's own standard deviation of every coordinate around one matrix for everybody. The full
  scatter of the standardised residuals and the degrees of freedom are fitted by maximum likelihood. Its diagonal is free, so
  that this rival may also rescale each of the model's sigmas by one factor.

Both are fitted across folds of the evaluated people, by default two: those with an even index are judged with constants from
those with an odd one, and the other way round. They thus know the distribution that they are judged on, which the model does
not; no figure of the model is refitted. Against that, p fitted numbers cost about p / 2n nats on new people when n people fit
them: 0.4 for 28 coordinates and 500 people. More folds make that smaller.
"""

import logging
import math

import numpy as np

from posecov import law
from posecov.errors import PosecovError
from posecov.law import Law

RIVALS = ("constant_covariance", "constant_correlation")

log = logging.getLogger(__name__)


def fit_student_t(residuals: np.ndarray, degrees_of_freedom: float | None = None) -> tuple[np.ndarray, float]:
    """Maximum likelihood scatter and degrees of freedom of residuals about a mean of 0, by ECME.

    Each round weighs person n by (nu + d_n) / (nu + m_n), fills missing coordinates with their conditional mean and scatter,
    then maximises the likelihood over nu itself (Liu and Rubin 1995). Dividing by the sum of weights, not the count, has the
    same solution in fewer rounds (Kent, Tyler and Vardi 1994). For a Gaussian with all labels it is the second moment.

    Args:
        residuals: (N, D), NaN where a label is missing.
        degrees_of_freedom: None fits them, between 2.05 and 1000; a number, or `math.inf`, holds them.

    Returns:
        Scatter (D, D) and degrees of freedom.

    Raises:
        PosecovError: too few people for a full scatter, or a coordinate that is never labelled.
    """
    residuals = np.asarray(residuals, dtype=np.float64)
    labelled = ~np.isnan(residuals)
    count, dimension = residuals.shape
    if count <= dimension or not labelled.any(axis=0).all():
        raise PosecovError(f"{count} people are too few to fit {dimension} x {dimension} numbers, or a joint is never labelled")
    patterns, member = np.unique(labelled, axis=0, return_inverse=True)
    groups = [(pattern, residuals[member.reshape(-1) == index]) for index, pattern in enumerate(patterns)]
    scatter = np.diag(np.nanmean(np.square(residuals), axis=0))
    nu = 8.0 if degrees_of_freedom is None else degrees_of_freedom
    previous = math.inf
    for _ in range(500):
        scatter = _reweighted(groups, scatter, nu)
        distances = law.distances(residuals, scatter)
        if degrees_of_freedom is None:
            nu = _likeliest_degrees_of_freedom(distances)
        reached = float(law.negative_log_likelihood_at(*distances, nu).mean())
        if previous - reached < 1e-8:
            break
        previous = reached
    else:
        log.warning("the fit of a constant scatter has not settled after 500 rounds")
    return scatter, nu


def _reweighted(groups: list[tuple[np.ndarray, np.ndarray]], scatter: np.ndarray, nu: float) -> np.ndarray:
    """One round of `fit_student_t`. Groups are people with the same labels: which, and their residuals."""
    total, weight_sum = np.zeros_like(scatter), 0.0
    for labelled, residuals in groups:
        seen, missing = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        block = scatter[np.ix_(seen, seen)]
        squared = law.squared_mahalanobis(residuals[:, seen], block)
        # (nu + d) / (nu + m), written so that it is 1 for a Gaussian.
        weights = (1 + len(seen) / nu) / (1 + squared / nu)
        gain = np.linalg.solve(block, scatter[np.ix_(seen, missing)])
        filled = np.zeros_like(residuals)
        filled[:, seen], filled[:, missing] = residuals[:, seen], residuals[:, seen] @ gain
        total += filled.T @ (weights[:, None] * filled)
        total[np.ix_(missing, missing)] += len(residuals) * (
            scatter[np.ix_(missing, missing)] - scatter[np.ix_(missing, seen)] @ gain
        )
        weight_sum += weights.sum()
    return (total + total.T) / (2 * weight_sum)


def _likeliest_degrees_of_freedom(distances: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    from scipy.optimize import minimize_scalar

    def cost(log_nu: float) -> float:
        return float(law.negative_log_likelihood_at(*distances, math.exp(log_nu)).mean())

    return math.exp(minimize_scalar(cost, bounds=(math.log(2.05), math.log(1000)), method="bounded", options={"xatol": 1e-6}).x)


def constant_covariance_rival(people: Law, values: np.ndarray, sizes: np.ndarray, folds: int = 2) -> Law:
    """The people's law with one constant scatter in units of their size (N,), fitted across folds (see the module)."""
    return _across_folds(people, values, np.broadcast_to(sizes[:, None], people.mean.shape), folds)


def constant_correlation_rival(people: Law, values: np.ndarray, folds: int = 2) -> Law:
    """The people's law with their own sigmas around one constant matrix, fitted across folds (see the module)."""
    return _across_folds(people, values, np.sqrt(np.diagonal(people.covariance, axis1=-2, axis2=-1)), folds)


def _across_folds(people: Law, values: np.ndarray, units: np.ndarray, folds: int) -> Law:
    """Scatter U C U for U = diag(units (N, D)), C and the degrees of freedom from the people of the other folds."""
    if folds < 2:
        raise PosecovError(f"{folds} folds: there must be at least 2, or the rivals would be judged on what fitted them")
    standardised = (values - people.mean) / units
    held = math.inf if np.isinf(people.degrees_of_freedom).all() else None
    scatter, freedom = np.empty(people.scatter.shape), np.empty(len(values))
    member = np.arange(len(values)) % folds
    for fold in range(folds):
        constant, nu = fit_student_t(standardised[member != fold], held)
        own = units[member == fold]
        scatter[member == fold], freedom[member == fold] = own[:, :, None] * constant * own[:, None, :], nu
    return Law(people.mean, scatter, freedom)
