"""The law of a pose whose left and right may be confused: a mixture of multivariate Student-t's, in NumPy float64.

    p(y) = sum_k w_k t(P_k y; mu, S, nu)

P_k exchanges the joints of a limb with their mirror joints (`exchanges`) and is its own inverse, so that component k is a t
with mean P_k mu, scatter P_k S P_k^T and the same nu: it is the pose with that limb taken for the other one. What is known
about some coordinates, and the law of some of them alone, are again mixtures of t's with one nu, so that one class serves all.

`Mixture` answers what `law.Law` answers; with one component it answers the same. Batches and NaN are as there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from posecov import coordinates, density, law
from posecov.errors import PosecovError
from posecov.law import DegreesOfFreedom

_LIFT = 2.0**-48  # Of each variance and dimension, in second moments: more than rounding in float64 takes from them.
_CHUNK = 256  # People whose K scatters are written out at once.


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of K Student-t's over one person's coordinates, or over N people's.

    The first component leads: its mean is the point that stands for the law, since an average of two poses is none. As
    predicted that is the pose without any exchange; after `condition` it is the likeliest one.

    Attributes:
        weights: (..., K) probabilities of the components, which sum to 1.
        means: (..., K, D).
        scatter: (..., K, D, D), or (..., 1, D, D) the first component's when the others are exchanges of it.
        degrees_of_freedom: nu of every component, a number or (...).
        orders: None, or (K, D): component k is the first one with its coordinates in this order, which is its own inverse.
    """

    weights: np.ndarray
    means: np.ndarray
    scatter: np.ndarray
    degrees_of_freedom: DegreesOfFreedom
    orders: np.ndarray | None = None

    @classmethod
    def of_exchanges(
        cls,
        mean: np.ndarray,
        scatter: np.ndarray,
        degrees_of_freedom: DegreesOfFreedom,
        weights: np.ndarray,
        orders: np.ndarray,
    ) -> "Mixture":
        """The law of a prediction.

        Args:
            mean: (..., D) without exchange.
            scatter: (..., D, D) of it.
            degrees_of_freedom: nu, a number or (...).
            weights: (..., K), or (K,) for all alike; they are divided by their sum.
            orders: (K, D) `exchanges.coordinate_orders`, the first one 0 ... D-1.

        Raises:
            PosecovError: weights that are no probabilities, or orders that do not fit or are not their own inverse.
        """
        mean, scatter = np.asarray(mean, dtype=np.float64), np.asarray(scatter, dtype=np.float64)
        weights, orders = np.asarray(weights, dtype=np.float64), np.asarray(orders, dtype=np.intp)
        identity = np.arange(mean.shape[-1])
        shapes_fit = orders.ndim == 2 and orders.shape[1] == len(identity) and weights.shape[-1:] == orders.shape[:1]
        if not shapes_fit or (np.sort(orders, axis=1) != identity).any() or (orders[0] != identity).any():
            raise PosecovError(f"orders must be K permutations of the {len(identity)} coordinates, the first one the identity")
        if (np.take_along_axis(orders, orders, axis=1) != identity).any():
            raise PosecovError("an exchange of coordinates must be its own inverse")
        total = weights.sum(axis=-1, keepdims=True)
        if not (weights >= 0).all() or not (np.isfinite(total) & (total > 0)).all():
            raise PosecovError("the weights of a mixture must be finite, not negative and not all 0")
        batch = np.broadcast_shapes(mean.shape[:-1], scatter.shape[:-2], weights.shape[:-1])
        weights = np.broadcast_to(weights / total, (*batch, len(orders)))
        mean = np.broadcast_to(mean, (*batch, len(identity)))
        scatter = np.broadcast_to(scatter[..., None, :, :], (*batch, 1, len(identity), len(identity)))
        return cls(weights, mean[..., orders], scatter, degrees_of_freedom, orders)

    def __len__(self) -> int:
        return len(self.means) if self.means.ndim > 2 else 1

    def __getitem__(self, people: int | slice | np.ndarray) -> "Mixture":
        """The law of one person or of some people of a batch (N,)."""
        nu = self.degrees_of_freedom if np.ndim(self.degrees_of_freedom) == 0 else np.asarray(self.degrees_of_freedom)[people]
        return Mixture(self.weights[people], self.means[people], self.scatter[people], nu, self.orders)

    @property
    def components(self) -> int:
        """K."""
        return self.weights.shape[-1]

    @property
    def mean(self) -> np.ndarray:
        """(..., D) of the leading component."""
        return self.means[..., 0, :]

    @property
    def scatters(self) -> np.ndarray:
        """(..., K, D, D) of every component."""
        if self.orders is None:
            return self.scatter
        return self.scatter[..., 0, self.orders[:, :, None], self.orders[:, None, :]]

    @cached_property
    def covariance(self) -> np.ndarray:
        """Second moments (..., D, D) about the mean: sum_k w_k (nu / (nu - 2) S_k + (m_k - m_0)(m_k - m_0)^T)."""
        apart = self.means - self.mean[..., None, :]
        scatter = np.zeros((*self.means.shape[:-2], self.means.shape[-1], self.means.shape[-1]))
        for k in range(self.components):
            scatter += self.weights[..., k, None, None] * self.scatter_of(k)
        total = np.swapaxes(apart, -1, -2) @ (self.weights[..., None] * apart)
        total += law.covariance_from_scatter(scatter, self.degrees_of_freedom)
        # Exchanges far apart beside small scatters: without this the sum may not be positive definite once it is rounded.
        size = total.shape[-1]
        return total * (1 + size * _LIFT * np.eye(size)) if self.components > 1 else total

    def negative_log_likelihood(self, values: np.ndarray) -> np.ndarray:
        """(...) nats of values (..., D), NaN marginalised; 0 where all are."""
        return self._by_labels(values, lambda people, given: -people.log_density(given), 0.0)

    def log_density(self, values: np.ndarray) -> np.ndarray:
        """(...) log density at values (..., D) without NaN."""
        terms = self._log_weights - self._component_nll(values)
        top = terms.max(axis=-1, keepdims=True)
        return top[..., 0] + np.log(np.exp(terms - top).sum(axis=-1))

    def responsibilities(self, values: np.ndarray) -> np.ndarray:
        """(..., K) probability of each component once values (..., D) are known, NaN marginalised."""
        residuals = np.asarray(values, dtype=np.float64)[..., None, :] - self.means
        nu = np.asarray(self.degrees_of_freedom)[..., None]
        return _softmax(self._log_weights - law.negative_log_likelihood(residuals, self.scatters, nu))

    def mass(self, values: np.ndarray) -> np.ndarray:
        """(...) mass of the region of highest density that reaches values (..., D), NaN marginalised; NaN where all are.

        It is the probability of all points that are denser than the values: uniform on [0, 1] over the law's own samples. With
        one component it is the central region's, in closed form; with more it is found to about 0.005 (`density`).
        """
        return self._by_labels(values, density.mass, np.nan)

    def joint_masses(self, values: np.ndarray) -> np.ndarray:
        """(..., J) the same for each joint by itself, NaN at joints without a label."""
        values = np.asarray(values, dtype=np.float64)
        pairs = [coordinates.rows([joint]) for joint in range(self.means.shape[-1] // 2)]
        return np.stack([self.marginal(rows).mass(values[..., rows]) for rows in pairs], axis=-1)

    def expected_errors(self) -> np.ndarray:
        """(..., J) expected distance of each joint from its place in the leading component (`law.expected_distance`)."""
        found = []
        for joint in range(self.means.shape[-1] // 2):
            point = self.marginal(coordinates.rows([joint]))
            apart = point.means - point.mean[..., None, :]
            nu = np.asarray(point.degrees_of_freedom)[..., None]
            found.append((point.weights * law.expected_distance(apart, point.scatters, nu)).sum(axis=-1))
        return np.stack(found, axis=-1)

    def hidden_joint_residuals(self, values: np.ndarray) -> np.ndarray:
        """(..., J, 2) residual of each joint about its place given all other labelled joints of values (..., D).

        Its place is the conditional mean of the component that is the likeliest once the others are known: the mean of all of
        them would lie between a joint and its mirror joint, where it never is. NaN at joints without a label.
        """
        values = np.asarray(values, dtype=np.float64)
        batch = np.broadcast_shapes(self.means.shape[:-2], values.shape[:-1])
        values = np.broadcast_to(values, (*batch, values.shape[-1])).reshape(-1, values.shape[-1])
        people = self._for_people(batch)
        found = np.empty((len(values), values.shape[-1] // 2, 2))
        for start in range(0, len(values), _CHUNK):
            part = slice(start, start + _CHUNK)
            found[part] = (people[part] if people.means.ndim > 2 else people)._hidden_joints(values[part])
        return found.reshape(*batch, *found.shape[1:])

    def condition(self, known_rows: np.ndarray | Sequence[int], values: np.ndarray) -> "Mixture":
        """The law of the other coordinates once values (..., d_o) of some are known.

        Every component becomes its conditional t, with its own scale (`law.condition`), and is weighed anew by the density that
        it had given to the evidence. The likeliest one comes first, the others follow by weight.
        """
        known = np.asarray(known_rows, dtype=np.intp).reshape(-1)
        if not len(known):
            return self
        values = np.asarray(values, dtype=np.float64)[..., None, :]
        nu, scatters = np.asarray(self.degrees_of_freedom)[..., None], self.scatters
        evidence = scatters[..., known[:, None], known]
        nll = law.negative_log_likelihood(values - self.means[..., known], evidence, nu)
        weights = _softmax(self._log_weights - nll)
        means, scatters, _ = law.condition(self.means, scatters, nu, known, values)
        order = np.argsort(-weights, axis=-1, kind="stable")
        means = np.take_along_axis(means, order[..., None], axis=-2)
        scatters = np.take_along_axis(scatters, order[..., None, None], axis=-3)
        return Mixture(np.take_along_axis(weights, order, axis=-1), means, scatters, self.degrees_of_freedom + len(known))

    def marginal(self, rows: np.ndarray | Sequence[int]) -> "Mixture":
        """The law of some coordinates alone, in the order given; exchanges that none of them notices become one component."""
        rows = np.asarray(rows, dtype=np.intp).reshape(-1)
        if self.orders is None:
            scatters = self.scatter[..., rows[:, None], rows]
            return Mixture(self.weights, self.means[..., rows], scatters, self.degrees_of_freedom)
        kept, members = _distinct(self.orders[:, rows].tobytes(), len(rows))
        scatters = self.scatter[..., 0, kept[:, :, None], kept[:, None, :]]
        return Mixture(self.weights @ members, self.mean[..., kept], scatters, self.degrees_of_freedom)

    def points(self) -> list[tuple[np.ndarray, "Mixture"]]:
        """What `marginal` says of every point x, y of one person's law, those with as many components at once.

        Returns:
            Indices (n,) of points, and their laws, a batch (n,).
        """
        laws = []
        for chosen, kept, members in _points(self.means.shape[-1], None if self.orders is None else self.orders.tobytes()):
            if self.orders is None:
                scatter = np.swapaxes(self.scatter[:, kept[:, :, None], kept[:, None, :]], 0, 1)
                weights = np.broadcast_to(self.weights, (len(chosen), self.components))
                found = Mixture(weights, np.swapaxes(self.means[:, kept], 0, 1), scatter, self.degrees_of_freedom)
            else:
                scatter = self.scatter[0, kept[..., :, None], kept[..., None, :]]
                found = Mixture(self.weights @ members, self.mean[kept], scatter, self.degrees_of_freedom)
            laws.append((chosen, found))
        return laws

    def difference(self, first: np.ndarray | Sequence[int], second: np.ndarray | Sequence[int]) -> "Mixture":
        """The law of some coordinates minus some others, each (d,), such as the vector from one joint to another."""
        count = len(first)
        both = self.marginal(np.concatenate([first, second]))
        s = both.scatters
        scatter = s[..., :count, :count] + s[..., count:, count:] - s[..., :count, count:] - s[..., count:, :count]
        means = both.means[..., :count] - both.means[..., count:]
        return Mixture(both.weights, means, scatter, self.degrees_of_freedom)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, ..., D) independent draws."""
        unit = np.broadcast_to(np.eye(self.means.shape[-1]), (*self.means.shape[:-2], *self.scatter.shape[-2:]))
        draws = law.sample(rng, np.zeros(()), unit, self.degrees_of_freedom, count)
        place = rng.random((count, *self.weights.shape[:-1], 1))
        chosen = np.minimum((np.cumsum(self.weights, axis=-1) < place).sum(axis=-1), self.components - 1)
        found = np.empty(draws.shape)
        # One component at a time: all at once would take K times the memory.
        for k, root in enumerate(np.moveaxis(law.cholesky(self.scatter), -3, 0)):
            turned = (root @ draws[..., None])[..., 0]
            for member, order in enumerate(self.orders) if self.orders is not None else [(k, slice(None))]:
                place = (chosen == member)[..., None]
                np.copyto(found, self.means[..., member, :] + turned[..., order], where=place)
        return found

    def hypotheses(self, noticeable: float = 1.0) -> list[tuple[np.ndarray, float]]:
        """The poses among which one person's law is undecided.

        Components are one hypothesis when no joint of theirs lies further apart than ``noticeable`` standard deviations of that
        joint in the component that came first: legs that cross exchange nothing one could see.

        Returns:
            Indices of the components, the likeliest (or leading) one first, and their joint probability. The leading
            hypothesis comes first, the others follow by probability.
        """
        sigma = law.joint_sigma(law.covariance_from_scatter(self.scatters, self.degrees_of_freedom))
        points = coordinates.unflatten(self.means)
        alike = (np.linalg.norm(points[:, None] - points, axis=-1) <= noticeable * sigma).all(axis=-1)
        groups: list[list[int]] = []
        for k in [0, *(1 + np.argsort(-self.weights[1:], kind="stable")).tolist()]:
            for group in groups:
                if alike[k, group[0]]:
                    group.append(k)
                    break
            else:
                groups.append([k])
        found = [(np.array(group), float(self.weights[group].sum())) for group in groups]
        return [found[0], *sorted(found[1:], key=lambda hypothesis: -hypothesis[1])]

    def part(self, indices: np.ndarray | Sequence[int]) -> "Mixture":
        """The law when only some components are possible, the first of them leading. Their weights must not all be 0."""
        indices = np.asarray(indices, dtype=np.intp)
        weights = self.weights[..., indices]
        total = weights.sum(axis=-1, keepdims=True)
        scatters = np.stack([self.scatter_of(k) for k in indices], axis=-3)
        return Mixture(weights / total, self.means[..., indices, :], scatters, self.degrees_of_freedom)

    @cached_property
    def whitener(self) -> tuple[np.ndarray, np.ndarray]:
        """W (..., 1 or K, D, D) with W^T W the inverse of `scatter`, and the log determinant (..., 1 or K) of `scatter`."""
        root = law.cholesky(self.scatter)
        return np.linalg.inv(root), 2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)

    @cached_property
    def level_points(self) -> tuple[np.ndarray, np.ndarray]:
        """`density.sorted_points` of one person's law: many questions about it share them."""
        return density.sorted_points(self)

    @property
    def _log_weights(self) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.weights)

    def scatter_of(self, k: int) -> np.ndarray:
        """(..., D, D) of one component, without writing out the others."""
        if self.orders is None:
            return self.scatter[..., k, :, :]
        return self.scatter[..., 0, self.orders[k][:, None], self.orders[k]]

    def _component_nll(self, values: np.ndarray) -> np.ndarray:
        """(..., K) negative log likelihood under each component of values (..., D) without NaN."""
        residuals = np.asarray(values, dtype=np.float64)[..., None, :] - self.means
        if self.orders is not None:
            # P_k y against the first component: one factorisation serves all.
            residuals = np.take_along_axis(residuals, np.broadcast_to(self.orders, residuals.shape), axis=-1)
        whitener, log_det = self.whitener
        squared = np.square((whitener @ residuals[..., None])[..., 0]).sum(axis=-1)
        nu = np.asarray(self.degrees_of_freedom)[..., None]
        return law.negative_log_likelihood_at(squared, log_det, residuals.shape[-1], nu)

    def _hidden_joints(self, values: np.ndarray) -> np.ndarray:
        residuals = values[:, None, :] - self.means
        filled, masked, labelled = law.mask_missing(residuals, self.scatters)
        root = law.cholesky(masked)
        whitener = np.linalg.inv(root)
        whitened = (whitener @ filled[..., None])[..., 0]
        precision = np.swapaxes(whitener, -1, -2) @ whitener
        pulled = coordinates.unflatten((np.swapaxes(whitener, -1, -2) @ whitened[..., None])[..., 0])
        blocks = coordinates.joint_blocks(precision)
        left = np.linalg.solve(blocks, pulled[..., None])[..., 0]
        # The others' distance and determinant follow from the whole by the Schur complement: no second factorisation.
        squared = np.square(whitened).sum(axis=-1)[..., None] - (left * pulled).sum(axis=-1)
        log_det = 2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)[..., None] + np.linalg.slogdet(blocks)[1]
        dimension = labelled.sum(axis=-1)[..., None] - coordinates.unflatten(labelled).sum(axis=-1)
        nu = np.asarray(self.degrees_of_freedom)[..., None, None]
        nll = law.negative_log_likelihood_at(np.maximum(squared, 0.0), log_det, dimension, nu)
        best = (self._log_weights[..., None] - nll).argmax(axis=-2)
        chosen = np.take_along_axis(left, best[..., None, :, None], axis=-3)[..., 0, :, :]
        return np.where(np.isnan(coordinates.unflatten(values)), np.nan, chosen)

    def _for_people(self, batch: tuple[int, ...]) -> "Mixture":
        """The law with its batch spread to ``batch`` and flattened; one person's law stays one."""
        if self.means.ndim == 2:
            return self
        count = int(np.prod(batch))

        def spread(array: np.ndarray, tail: int) -> np.ndarray:
            shape = array.shape[array.ndim - tail :]
            return np.broadcast_to(array, (*batch, *shape)).reshape(count, *shape)

        nu = (
            self.degrees_of_freedom if np.ndim(self.degrees_of_freedom) == 0 else spread(np.asarray(self.degrees_of_freedom), 0)
        )
        return Mixture(spread(self.weights, 1), spread(self.means, 2), spread(self.scatter, 3), nu, self.orders)

    def _by_labels(self, values: np.ndarray, ask: Callable[["Mixture", np.ndarray], np.ndarray], empty: float) -> np.ndarray:
        """``ask(law, values)`` for people with the same labels at a time, (...), of the law of what is labelled."""
        values = np.asarray(values, dtype=np.float64)
        batch = np.broadcast_shapes(self.means.shape[:-2], values.shape[:-1])
        values = np.broadcast_to(values, (*batch, values.shape[-1])).reshape(-1, values.shape[-1])
        people, found = self._for_people(batch), np.full(len(values), empty)
        patterns, member = np.unique(~np.isnan(values), axis=0, return_inverse=True)
        for index, pattern in enumerate(patterns):
            chosen, rows = np.flatnonzero(member.reshape(-1) == index), np.flatnonzero(pattern)
            if not len(rows):
                continue
            if people.means.ndim == 2:
                seen = people if pattern.all() else people.marginal(rows)
                found[chosen] = ask(seen, values[chosen[:, None], rows])
                continue
            for start in range(0, len(chosen), _CHUNK):
                part = chosen[start : start + _CHUNK]
                seen = people[part] if pattern.all() else people[part].marginal(rows)
                found[part] = ask(seen, values[part[:, None], rows])
        return found.reshape(batch)


@lru_cache(maxsize=1024)
def _distinct(orders: bytes, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders (K', d) that differ, the first one still in front, and which of K has become which (K, K'), of orders (K, d)."""
    rows = [tuple(order) for order in np.frombuffer(orders, dtype=np.intp).reshape(-1, dimension).tolist()]
    found = {order: place for place, order in enumerate(dict.fromkeys(rows))}
    return np.array(list(found)), np.array([found[order] for order in rows])[:, None] == np.arange(len(found))


@lru_cache(maxsize=64)
def _points(dimension: int, orders: bytes | None) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For `Mixture.points`: points, then `_distinct` of theirs, stacked; without orders their coordinates, and nothing."""
    pairs = coordinates.rows(range(dimension // 2)).reshape(-1, 2)
    if orders is None:
        return [(np.arange(len(pairs)), pairs, np.empty(0))]
    all_orders = np.frombuffer(orders, dtype=np.intp).reshape(-1, dimension)
    each = [_distinct(all_orders[:, pair].tobytes(), 2) for pair in pairs]
    found = []
    for count in sorted({len(kept) for kept, _ in each}):
        chosen = [index for index, (kept, _) in enumerate(each) if len(kept) == count]
        found.append((np.array(chosen), np.stack([each[i][0] for i in chosen]), np.stack([each[i][1] for i in chosen])))
    return found


def _softmax(terms: np.ndarray) -> np.ndarray:
    powers = np.exp(terms - terms.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
