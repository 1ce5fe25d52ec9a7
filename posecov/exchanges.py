"""Exchanges of left and right: which joints a network may confuse with their mirror joints together, for any skeleton.

A limb taken for the other one is exchanged as a whole, or from some joint on to its end. So there is one exchange for every
pair of mirror joints, of that pair **and of everything beyond it as seen from the trunk**, and one of all limbs together (a
person seen from behind). A pair belongs to the trunk when a limb line leads from it to its own mirror joint or to a joint on
no side; what is beyond what follows from the shortest way along the limb lines of one side. For LSP's 14 joints that gives
none; leg, lower leg, ankle; arm, forearm, wrist; arm and leg together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.skeleton import Skeleton

_LIMBS = {"hip": "leg", "knee": "lower leg", "shoulder": "arm", "elbow": "forearm"}


@dataclass(frozen=True)
class Exchange:
    """One way in which left and right may be confused.

    Attributes:
        name: for people, such as ``lower leg``.
        permutation: J indices p with exchanged_pose = points[p]; its own inverse.
    """

    name: str
    permutation: tuple[int, ...]


def exchanges_of(skeleton: Skeleton) -> tuple[Exchange, ...]:
    """The exchanges of a skeleton by the rule above, the one that exchanges nothing first.

    A skeleton without flip pairs has only that one. Where no limb line ties a group of pairs to the trunk, it hangs from its
    first pair in the skeleton's order.
    """
    pairs = [(skeleton.index(a), skeleton.index(b)) for a, b in skeleton.flip_pairs]
    parents = _parents(skeleton, pairs)
    roots = [pair for pair, parent in enumerate(parents) if parent is None]
    found = {tuple(range(len(skeleton))): "none"}
    for root in roots:
        for pair in _beyond(parents, root):
            members = _beyond(parents, pair)
            found.setdefault(_swap(len(skeleton), pairs, members), _name(skeleton, members))
    if len(roots) > 1:
        names = sorted(_name(skeleton, _beyond(parents, root)) for root in roots)
        together = f"{', '.join(names[:-1])} and {names[-1]} together"
        found.setdefault(_swap(len(skeleton), pairs, range(len(pairs))), together)
    return tuple(Exchange(name, permutation) for permutation, name in found.items())


@dataclass(frozen=True)
class LimbPair:
    """A limb and its mirror limb.

    Attributes:
        name: for people, such as ``leg``.
        joints: indices of the joints of both, from the trunk outwards.
        ends: indices of those among them that nothing lies beyond, such as the ankles.
    """

    name: str
    joints: tuple[int, ...]
    ends: tuple[int, ...]


def limb_pairs(skeleton: Skeleton) -> tuple[LimbPair, ...]:
    """The limbs that hang from the trunk, by the rule above. None for a skeleton without flip pairs."""
    pairs = [(skeleton.index(a), skeleton.index(b)) for a, b in skeleton.flip_pairs]
    parents = _parents(skeleton, pairs)
    found = []
    for root in (pair for pair, parent in enumerate(parents) if parent is None):
        members = _beyond(parents, root)
        joints = tuple(joint for member in members for joint in pairs[member])
        ends = tuple(joint for member in members if member not in parents for joint in pairs[member])
        found.append(LimbPair(_name(skeleton, members), joints, ends))
    return tuple(found)


def coordinate_orders(exchanges: Sequence[Exchange]) -> np.ndarray:
    """(K, 2J) orders of the coordinates: P_k y = y[orders[k]]. It cannot be written to."""
    return _coordinate_orders(tuple(exchanges))


@lru_cache(maxsize=32)
def _coordinate_orders(exchanges: tuple[Exchange, ...]) -> np.ndarray:
    orders = np.stack([coordinates.rows(exchange.permutation) for exchange in exchanges])
    orders.flags.writeable = False
    return orders


def exchanges_to_plain(exchanges: Sequence[Exchange]) -> list[dict[str, Any]]:
    """Plain types for JSON."""
    return [{"name": exchange.name, "permutation": list(exchange.permutation)} for exchange in exchanges]


def exchanges_from_plain(rows: Any, joints: int, source: str = "'exchanges'") -> tuple[Exchange, ...]:
    """The inverse of `exchanges_to_plain`, checked; an empty list is a law without exchanges.

    Raises:
        PosecovError: names ``source`` and what is wrong.
    """
    if not isinstance(rows, list | tuple):
        raise PosecovError(f"{source} must be a list of names and permutations")
    found = []
    for row in rows:
        name = row.get("name") if isinstance(row, dict) else None
        order = row.get("permutation") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name or not isinstance(order, list) or set(row) != {"name", "permutation"}:
            raise PosecovError(f"{source} must be objects with a 'name' and a 'permutation'")
        whole = all(isinstance(index, int) and not isinstance(index, bool) for index in order)
        if not whole or sorted(order) != list(range(joints)) or any(order[order[i]] != i for i in range(joints)):
            raise PosecovError(f"{source} must exchange pairs among the {joints} joints, which {name!r} does not")
        found.append(Exchange(name, tuple(order)))
    if found and found[0].permutation != tuple(range(joints)):
        raise PosecovError(f"{source} must begin with one that exchanges nothing")
    if len({exchange.permutation for exchange in found}) != len(found):
        raise PosecovError(f"{source} must not hold a permutation twice")
    return tuple(found)


def _parents(skeleton: Skeleton, pairs: Sequence[tuple[int, int]]) -> list[int | None]:
    """For every pair the next one towards the trunk, None for those that a limb hangs from."""
    place = {joint: pair for pair, both in enumerate(pairs) for joint in both}
    links: list[set[int]] = [set() for _ in pairs]
    trunk = set()
    for a, b in skeleton.limb_indices:
        if a in place and b in place:
            if place[a] == place[b]:
                trunk.add(place[a])
            else:
                links[place[a]].add(place[b])
                links[place[b]].add(place[a])
        else:
            trunk |= {place[joint] for joint in (a, b) if joint in place}
    parents: dict[int, int | None] = dict.fromkeys(sorted(trunk))
    _hang(links, parents, list(parents))
    for pair in range(len(pairs)):
        if pair not in parents:
            parents[pair] = None
            _hang(links, parents, [pair])
    return [parents[pair] for pair in range(len(pairs))]


def _hang(links: Sequence[set[int]], parents: dict[int, int | None], reached: list[int]) -> None:
    """Add to ``parents`` what can be reached from some pairs, by the shortest way."""
    for pair in reached:  # Breadth first: the list grows while it is read.
        for beyond in sorted(links[pair] - set(parents)):
            parents[beyond] = pair
            reached.append(beyond)


def _beyond(parents: Sequence[int | None], pair: int) -> list[int]:
    """The pair and every pair whose way to the trunk leads through it, nearest first."""
    found = [pair]
    for member in found:
        found += [child for child, parent in enumerate(parents) if parent == member]
    return found


def _swap(joints: int, pairs: Sequence[tuple[int, int]], members: Sequence[int]) -> tuple[int, ...]:
    permutation = list(range(joints))
    for member in members:
        a, b = pairs[member]
        permutation[a], permutation[b] = b, a
    return tuple(permutation)


def _name(skeleton: Skeleton, members: Sequence[int]) -> str:
    """The limb's name where it has one, else its joints' names without their side."""
    bare = [_without_side(*skeleton.flip_pairs[member]) for member in members]
    return _LIMBS.get(bare[0], "-".join(bare)) if len(bare) > 1 else bare[0]


def _without_side(first: str, second: str) -> str:
    """What the names of two mirror joints share: ``r_knee`` and ``l_knee`` are a ``knee``."""
    for cut in ("r_", "l_", "right_", "left_"):
        if first.startswith(cut):
            bare = first.removeprefix(cut)
            return bare if second.endswith(bare) else f"{first}/{second}"
    return f"{first}/{second}"
