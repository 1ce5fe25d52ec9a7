"""The components of a pose's mixture: checked, kept in float32's digits, and as plain types for JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.mixture import Mixture
from posecov.rounding import covariance_in_float32

_CHECKED = "_checked"  # Mark of what `checked` returns, whose arrays cannot be written to: a second time it has nothing to do.


def checked(components: Mixture, degrees_of_freedom: float) -> Mixture:
    """The components in float32's digits, which JSON keeps; PosecovError when they are no law of one person."""
    if vars(components).get(_CHECKED) == degrees_of_freedom:
        return components
    weights, means = np.array(components.weights, dtype=np.float64), np.array(components.means, dtype=np.float64)
    scatter = np.array(components.scatter, dtype=np.float64)
    dimension = means.shape[-1]
    leads = (1,) if components.orders is not None else weights.shape
    if weights.ndim != 1 or means.shape != (len(weights), dimension) or scatter.shape != (*leads, dimension, dimension):
        raise PosecovError("the components of a pose must be one person's")
    most = np.finfo(np.float32).max  # What is kept is float32.
    if not all((abs(array) <= most).all() for array in (weights, means, scatter)) or not (weights >= 0).all():
        raise PosecovError("the components of a pose must be finite, with weights that are not negative")
    if abs(weights.sum() - 1) > 1e-5:
        raise PosecovError(f"the weights of a pose's components must sum to 1, not {weights.sum():g}")
    if components.degrees_of_freedom != degrees_of_freedom:
        raise PosecovError("the components of a pose must have its degrees of freedom")
    scatter = covariance_in_float32(scatter, "a scatter of this pose's components").astype(np.float64)
    with np.errstate(over="ignore"):
        means = means.astype(np.float32).astype(np.float64)
    if not np.isfinite(means).all():
        raise PosecovError("the means of a pose's components are not finite in float32")
    found = Mixture(frozen(weights), frozen(means), frozen(scatter), float(degrees_of_freedom), components.orders)
    vars(found)[_CHECKED] = found.degrees_of_freedom
    return found


def components_to_plain(components: Mixture) -> dict[str, Any]:
    """Weights, and either one scatter and the joints' permutations, or the means and scatters of every component."""
    fields: dict[str, Any] = {"weights": components.weights.tolist()}
    if components.orders is None:
        return fields | {"means": plain(components.means), "scatters": plain(components.scatter)}
    return fields | {"scatter": plain(components.scatter[0]), "permutations": (components.orders[:, ::2] // 2).tolist()}


def components_from_plain(fields: Mapping[str, Any], free: list[tuple[float, float]], degrees_of_freedom: float) -> Mixture:
    """The inverse of `components_to_plain`; ``free`` are the places of the joints that are not known."""
    weights = np.array(fields["weights"], dtype=np.float64)
    if "permutations" not in fields:
        means, scatters = (np.array(fields[key], dtype=np.float64) for key in ("means", "scatters"))
        return Mixture(weights, means, scatters, degrees_of_freedom)
    orders = np.stack([coordinates.rows(permutation) for permutation in fields["permutations"]])
    # Checks all but the weights, which division by their sum would change in the last digit.
    mean, scatter = np.array(free, dtype=np.float64).reshape(-1), np.array(fields["scatter"], dtype=np.float64)
    made = Mixture.of_exchanges(mean, scatter, degrees_of_freedom, weights, orders)
    return Mixture(weights, made.means, made.scatter, degrees_of_freedom, orders)


def frozen(array: np.ndarray) -> np.ndarray:
    """The array, which can no longer be written to."""
    array.flags.writeable = False
    return array


def plain(array: np.ndarray) -> list[Any]:
    """float32 as nested lists with the fewest digits that give the same float32 back."""
    values = array.astype(np.float32)
    exact = values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.floor(np.log10(abs(exact)))
    # Text is slow. A whole number over an exact power of ten is what its decimal text would be read as; 0, and numbers whose
    # powers are not exact, take the way over text.
    found: np.ndarray = np.zeros(exact.shape)
    open_ = np.ones(exact.shape, dtype=bool)
    plainly = (exponent > -13) & (exponent < 5)
    for digits in range(6, 10):
        power = 10.0 ** np.where(plainly, digits - 1 - exponent, 0)
        tried = np.round(exact * power) / power
        fits = open_ & plainly & (tried.astype(np.float32) == values)
        found[fits], open_[fits] = tried[fits], False
    found[open_] = values[open_].astype(str).astype(np.float64)
    return found.tolist()
