"""Rivals that a model has to beat. They keep the model's means.

Two keep its family of laws too (one Student-t, or one Gaussian if its degrees of freedom are infinite):

- **constant covariance**: one full scatter in units of the person's size, times that size squared. Its D (D + 1) / 2 numbers
  and its degrees of freedom are fitted by maximum likelihood.
- **constant correlation**: the model's own standard deviation of every coordinate around one matrix for everybody. The full
  scatter of the standardised residuals and the degrees of freedom are fitted by maximum likelihood. Its diagonal is free, so
  that this rival may also rescale each of the model's sigmas by one factor.

A model whose law is a mixture over exchanges of left and right meets both, single laws as they are, and two more that are
mixtures themselves. Its sigmas for the constant correlation are those of its second moments, which hold the exchanges, or those
of its leading component, which do not: whichever gives the rival the better likelihood on the very people that it is judged on.

- **average weights**: the model's law with the mean of its weights for everybody. Nothing is fitted. What is left is what the
  picture's own weights are worth.
- **mixture, constant correlation**: the model's weights and the sigmas of its components around one matrix for everybody,
  fitted with the degrees of freedom to the likelihood of the mixture. What is left is what the picture's own scatter is worth.

Fits go across folds of the evaluated people, by default two: those with an even index are judged with constants from
those with an odd one, and the other way round. They thus know the distribution that they are judged on, which the model does
not; no figure of the model is refitted. Against that, p fitted numbers cost about p / 2n nats on new people when n people fit
them: 0.4 for 28 coordinates and 500 people. More folds make that smaller.
"""

import dataclasses
import logging
import math
from collections.abc import Sequence

import numpy as np

from posecov import law
from posecov.errors import PosecovError
from posecov.law import Law
from posecov.mixture import Mixture

RIVALS = ("constant_covariance", "constant_correlation")
MIXTURE_RIVALS = ("average_weights", "mixture_constant_correlation")
"""Further ones of a mixture."""

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
    return fit_mixture(residuals[:, None, :], np.zeros((len(residuals), 1)), degrees_of_freedom)


def fit_mixture(
    residuals: np.ndarray,
    log_weights: np.ndarray,
    degrees_of_freedom: float | None = None,
    start: tuple[np.ndarray, float] | None = None,
) -> tuple[np.ndarray, float]:
    """The scatter and degrees of freedom that K components share, by maximum likelihood of a mixture with known weights.

    `fit_student_t` with one more weight: each round, a person's residual about component k counts as much as that component is
    likely for that person under the scatter of the round before. The likelihood never falls, and the matrix stays positive
    definite without a parameterisation; where it has several maxima, the start decides.

    Args:
        residuals: (N, K, D) of each person about each component, NaN where a label is missing.
        log_weights: (N, K), -inf for a component that is impossible.
        degrees_of_freedom: None fits them, between 2.05 and 1000; a number, or `math.inf`, holds them.
        start: scatter and degrees of freedom; not given, the mean squares about the first component, and 8.

    Returns:
        Scatter (D, D) and degrees of freedom.

    Raises:
        PosecovError: too few people for a full scatter, or a coordinate that is never labelled.
    """
    residuals = np.asarray(residuals, dtype=np.float64)
    count, _, dimension = residuals.shape
    rows = residuals.reshape(-1, dimension)
    labelled = ~np.isnan(rows)
    if count <= dimension or not labelled.any(axis=0).all():
        raise PosecovError(f"{count} people are too few to fit {dimension} x {dimension} numbers, or a joint is never labelled")
    patterns, member = np.unique(labelled, axis=0, return_inverse=True)
    groups = [(pattern, np.flatnonzero(member.reshape(-1) == index)) for index, pattern in enumerate(patterns)]
    scatter, nu = (np.diag(np.nanmean(np.square(rows), axis=0)), 8.0) if start is None else start
    nu = nu if degrees_of_freedom is None else degrees_of_freedom
    distances, previous = _distances(rows, groups, scatter), math.inf
    for _ in range(500):
        shares = np.exp(-_terms(distances, log_weights, nu))
        shares /= shares.sum(axis=1, keepdims=True)
        scatter = _reweighted(rows, groups, scatter, nu, distances[0], shares.reshape(-1))
        distances = _distances(rows, groups, scatter)
        if degrees_of_freedom is None:
            nu = _likeliest_degrees_of_freedom(distances, log_weights)
        reached = _cost(distances, log_weights, nu)
        if previous - reached < 1e-8:
            break
        previous = reached
    else:
        log.warning("the fit of a constant scatter has not settled after 500 rounds")
    return scatter, nu


_Groups = Sequence[tuple[np.ndarray, np.ndarray]]  # Rows with the same labels: which labels, and the rows' indices.
_Distances = tuple[np.ndarray, np.ndarray, np.ndarray]  # As `law.distances` has them, one for each row.


def _distances(rows: np.ndarray, groups: _Groups, scatter: np.ndarray) -> _Distances:
    squared, log_det, dimension = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows), dtype=np.intp)
    for labelled, members in groups:
        seen = np.flatnonzero(labelled)
        if len(seen):
            found = law.distances(rows[np.ix_(members, seen)], scatter[np.ix_(seen, seen)])
            squared[members], log_det[members], dimension[members] = found
    return squared, log_det, dimension


def _reweighted(
    rows: np.ndarray, groups: _Groups, scatter: np.ndarray, nu: float, squared: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """One round of `fit_mixture`: squared distances of the rows under the scatter, and how much each row counts."""
    total, weight_sum = np.zeros_like(scatter), 0.0
    for labelled, members in groups:
        seen, missing = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        # (nu + d) / (nu + m), written so that it is 1 for a Gaussian.
        weights = shares[members] * (1 + len(seen) / nu) / (1 + squared[members] / nu)
        gain = np.linalg.solve(scatter[np.ix_(seen, seen)], scatter[np.ix_(seen, missing)])
        filled = np.zeros((len(members), rows.shape[1]))
        filled[:, seen] = rows[np.ix_(members, seen)]
        filled[:, missing] = filled[:, seen] @ gain
        total += filled.T @ (weights[:, None] * filled)
        narrowed = scatter[np.ix_(missing, missing)] - scatter[np.ix_(missing, seen)] @ gain
        total[np.ix_(missing, missing)] += shares[members].sum() * narrowed
        weight_sum += weights.sum()
    return (total + total.T) / (2 * weight_sum)


def _terms(distances: _Distances, log_weights: np.ndarray, nu: float) -> np.ndarray:
    """(N, K) negative log of weight times density, less the smallest of each person."""
    terms = law.negative_log_likelihood_at(*distances, nu).reshape(log_weights.shape) - log_weights
    return terms - terms.min(axis=1, keepdims=True)


def _cost(distances: _Distances, log_weights: np.ndarray, nu: float) -> float:
    """Mean negative log likelihood of the mixture."""
    terms = law.negative_log_likelihood_at(*distances, nu).reshape(log_weights.shape) - log_weights
    least = terms.min(axis=1)
    return float((least - np.log(np.exp(least[:, None] - terms).sum(axis=1))).mean())


def _likeliest_degrees_of_freedom(distances: _Distances, log_weights: np.ndarray) -> float:
    from scipy.optimize import minimize_scalar

    def cost(log_nu: float) -> float:
        return _cost(distances, log_weights, math.exp(log_nu))

    return math.exp(minimize_scalar(cost, bounds=(math.log(2.05), math.log(1000)), method="bounded", options={"xatol": 1e-6}).x)


def constant_covariance_rival(people: Law | Mixture, values: np.ndarray, sizes: np.ndarray, folds: int = 2) -> Law:
    """The people's law with one constant scatter in units of their size (N,), fitted across folds (see the module)."""
    return _across_folds(people, values, np.broadcast_to(sizes[:, None], people.mean.shape), folds)


def constant_correlation_rival(people: Law | Mixture, values: np.ndarray, folds: int = 2) -> Law:
    """The people's law with their own sigmas around one constant matrix, fitted across folds (see the module)."""
    squares = [people.covariance]
    if isinstance(people, Mixture) and people.components > 1:
        squares.append(people.scatter[:, 0])
    found = [_across_folds(people, values, np.sqrt(np.diagonal(one, axis1=-2, axis2=-1)), folds) for one in squares]
    return min(found, key=lambda rival: rival.negative_log_likelihood(values).mean())


def average_weights_rival(people: Mixture) -> Mixture:
    """The people's law with the mean of their weights for everybody."""
    return dataclasses.replace(people, weights=np.broadcast_to(people.weights.mean(axis=0), people.weights.shape))


def mixture_constant_correlation_rival(people: Mixture, values: np.ndarray, folds: int = 2) -> Mixture:
    """The people's law with their own weights and sigmas around one constant matrix, fitted across folds (see the module).

    The fit starts from the mean of the model's own correlations, so that it ends at the maximum that is nearest to the model.

    Raises:
        PosecovError: the mixture is not one over exchanges (`Mixture.of_exchanges`).
    """
    if people.orders is None:
        raise PosecovError("only a mixture over exchanges has one matrix that a constant could take the place of")
    leading = people.scatter[:, 0]
    units = np.sqrt(np.diagonal(leading, axis1=-2, axis2=-1))
    correlations = leading / (units[:, :, None] * units[:, None, :])
    # P_k y about the first component: all components share its scatter.
    standardised = (values[:, people.orders] - people.mean[:, None, :]) / units[:, None, :]
    with np.errstate(divide="ignore"):
        log_weights = np.log(people.weights)
    scatter, freedom = _fitted(people, standardised, log_weights, units, folds, correlations)
    return dataclasses.replace(people, scatter=scatter[:, None], degrees_of_freedom=freedom)


def _across_folds(people: Law | Mixture, values: np.ndarray, units: np.ndarray, folds: int) -> Law:
    """Scatter U C U for U = diag(units (N, D)), C and the degrees of freedom from the people of the other folds."""
    standardised = ((values - people.mean) / units)[:, None, :]
    return Law(people.mean, *_fitted(people, standardised, np.zeros((len(values), 1)), units, folds))


def _fitted(
    people: Law | Mixture,
    standardised: np.ndarray,
    log_weights: np.ndarray,
    units: np.ndarray,
    folds: int,
    correlations: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scatters (N, D, D) U C U and degrees of freedom (N,), each person's from the people of the other folds.

    Coordinates that are never labelled are left out of the fit; they get C = 1 and nothing that ties them to others.
    """
    if folds < 2:
        raise PosecovError(f"{folds} folds: there must be at least 2, or the rivals would be judged on what fitted them")
    held = math.inf if np.isinf(people.degrees_of_freedom).all() else None
    freedom, scatter = np.empty(len(units)), np.empty((*units.shape, units.shape[1]))
    seen = np.flatnonzero(~np.isnan(standardised).all(axis=(0, 1)))
    member = np.arange(len(units)) % folds
    for fold in range(folds):
        others, constant = member != fold, np.eye(units.shape[1])
        start = None if correlations is None else (correlations[others].mean(axis=0)[np.ix_(seen, seen)], 8.0)
        constant[np.ix_(seen, seen)], nu = fit_mixture(standardised[others][..., seen], log_weights[others], held, start)
        own = units[member == fold]
        scatter[member == fold], freedom[member == fold] = own[:, :, None] * constant * own[:, None, :], nu
    return scatter, freedom
