"""Labels that are probably wrong, by what bodies look like: nothing here is certain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecov.learn.datasets import Record
from posecov.learn.datasets.pictures import picture_size
from posecov.learn.datasets.points import bad_joints, person_extent
from posecov.skeleton import Skeleton

# A limb may be this much longer than the person's others let expect, and this many (robust) standard deviations.
_LONG, _DEVIATIONS = 2.0, 3.5
# Limbs a person must have to tell what is long for them.
_LIMBS = 4
# Left-to-right vectors of neighbouring pairs point opposite ways below this cosine, if neither is short.
_OPPOSITE, _WIDE = -0.8, 0.6
_SAME_PERSON = 0.03


@dataclass(frozen=True)
class Suspect:
    """One person whose label is suspicious.

    Attributes:
        index: into the records.
        kind: ``long limb``, ``one place``, ``left and right``, ``outside picture``, ``outside box`` or ``person twice``.
        what: for a reader.
        strength: 1 at the threshold, more beyond; comparable within a kind.
        joints: indices of the joints in question.
    """

    index: int
    kind: str
    what: str
    strength: float
    joints: tuple[int, ...]


def find_suspects(records: Sequence[Record], skeleton: Skeleton) -> list[Suspect]:
    """Suspicious labels, the strongest of each kind first."""
    points = np.stack([record.keypoints for record in records])
    found = [*_limbs(points, skeleton), *_exchanged(points, skeleton)]
    found += [suspect for index, record in enumerate(records) for suspect in _outside(index, record, skeleton)]
    found += _twice(records)
    return sorted(found, key=lambda suspect: (suspect.kind, -suspect.strength))


def limb_norms(points: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """How long each limb of a person should be, judged by the person's other limbs and everybody's proportions.

    Log lengths are a person's size plus a limb's share plus noise, fitted by Tukey's median polish.

    Args:
        points: (N, J, 2), NaN without a label.

    Returns:
        Lengths and expected lengths, (N, L) pixels; NaN where the person has too few limbs.
    """
    first, second = np.array(skeleton.limb_indices).T
    lengths = np.linalg.norm(points[:, first] - points[:, second], axis=-1)
    with np.errstate(divide="ignore"):
        logs = np.where(lengths > 0, np.log(lengths), np.nan)
    logs[np.isfinite(logs).sum(axis=1) < _LIMBS] = np.nan
    size, share = np.zeros(len(points)), np.zeros(len(first))
    for _ in range(5):
        size = _median(logs - share, axis=1)
        share = _median(logs - size[:, None], axis=0)
    return lengths, np.exp(size[:, None] + share)


def _limbs(points: np.ndarray, skeleton: Skeleton) -> list[Suspect]:
    if not skeleton.limbs:
        return []
    lengths, expected = limb_norms(points, skeleton)
    extent = np.array([person_extent(person, np.isfinite(person).all(axis=1)) for person in points])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = lengths / expected
        logs = np.log(ratio)
    spread = 1.4826 * _median(np.abs(np.where(np.isfinite(logs), logs, np.nan)), axis=0)
    # Seen from the side, both hips may well be at one place.
    mirrored = {frozenset((skeleton.index(a), skeleton.index(b))) for a, b in skeleton.flip_pairs}
    found = []
    for index, limb in np.argwhere(np.isfinite(ratio)):
        a, b = skeleton.limb_indices[limb]
        name = f"{skeleton.keypoints[a]} to {skeleton.keypoints[b]}"
        strength = min(ratio[index, limb] / _LONG, logs[index, limb] / max(_DEVIATIONS * spread[limb], 1e-9))
        # Pixels count too: a nose two pixels off its eye says nothing.
        if strength > 1 and lengths[index, limb] - expected[index, limb] > 0.12 * extent[index]:
            what = f"{name} is {ratio[index, limb]:.1f} times as long as the person's other limbs let expect"
            found.append(Suspect(int(index), "long limb", what, float(strength), (a, b)))
        elif frozenset((a, b)) in mirrored:
            continue
        elif lengths[index, limb] < 0.01 * extent[index] and expected[index, limb] > 0.1 * extent[index]:
            found.append(Suspect(int(index), "one place", f"{name}: both at one place", 1.0, (a, b)))
    return found


def _exchanged(points: np.ndarray, skeleton: Skeleton) -> list[Suspect]:
    """Neighbouring mirror pairs, such as shoulders and hips, whose left and right lie the other way round."""
    if not skeleton.limbs:
        return []
    _, expected = limb_norms(points, skeleton)
    scale = _median(expected, axis=1)
    found = []
    for pair, other in neighbouring_pairs(skeleton):
        vectors = [points[:, one] - points[:, two] for one, two in (pair, other)]
        widths = [np.linalg.norm(v, axis=1) / scale for v in vectors]
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = (vectors[0] * vectors[1]).sum(axis=1) / (scale**2 * widths[0] * widths[1])
            wide = np.min([w / max(float(_median(w, axis=0)), 1e-9) for w in widths], axis=0)
        for index in np.flatnonzero((cosine < _OPPOSITE) & (wide > _WIDE)):
            names = [skeleton.keypoints[joint] for joint in (*pair, *other)]
            what = f"{names[0]}, {names[1]} and {names[2]}, {names[3]} lie opposite ways: exchanged?"
            found.append(Suspect(int(index), "left and right", what, float(wide[index] / _WIDE), (*pair, *other)))
    return found


def neighbouring_pairs(skeleton: Skeleton) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of mirror pairs that limbs join on either side; and that of the torso, which not every skeleton draws."""
    flips = [(skeleton.index(a), skeleton.index(b)) for a, b in skeleton.flip_pairs]
    joined = {frozenset(limb) for limb in skeleton.limb_indices}
    torso = set(skeleton.torso_indices) if skeleton.torso else set()
    found = []
    for number, pair in enumerate(flips):
        for other in flips[number + 1 :]:
            sides = all(frozenset((a, b)) in joined for a, b in zip(pair, other, strict=True))
            if sides or (torso & set(pair) and torso & set(other)):
                found.append((pair, other))
    return found


def _outside(index: int, record: Record, skeleton: Skeleton) -> list[Suspect]:
    found = []
    side = float(record.box[2:].max())
    size = picture_size(record.image)
    for joint, wrong in bad_joints(record.keypoints, record.labelled, size, 1.0) if size else []:
        found.append(Suspect(index, "outside picture", f"{skeleton.keypoints[joint]} {wrong}", 1.0, (joint,)))
    if record.annotated_box is not None:
        low, high = record.annotated_box[:2], record.annotated_box[:2] + record.annotated_box[2:]
        beyond = np.maximum(low - record.keypoints, record.keypoints - high).max(axis=1) / (0.1 * side)
        for joint in np.flatnonzero(record.labelled & (beyond > 1)).tolist():
            what = f"{skeleton.keypoints[joint]} lies outside the person's box"
            found.append(Suspect(index, "outside box", what, float(beyond[joint]), (joint,)))
    return found


def _twice(records: Sequence[Record]) -> list[Suspect]:
    """People of one picture whose joints lie at the same places."""
    by_picture: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        by_picture.setdefault(str(record.image), []).append(index)
    found = []
    for people in by_picture.values():
        for number, first in enumerate(people):
            for second in people[number + 1 :]:
                both = records[first].labelled & records[second].labelled
                if both.sum() < 3:
                    continue
                apart = np.linalg.norm(records[first].keypoints[both] - records[second].keypoints[both], axis=1).mean()
                if apart < _SAME_PERSON * records[first].box[2:].max():
                    what = f"the same person as {records[first].name}"
                    found.append(Suspect(second, "person twice", what, 1.0, tuple(np.flatnonzero(both).tolist())))
    return found


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """Median of what is finite, NaN where nothing is, without numpy's warning about it."""
    masked = np.ma.masked_invalid(values)
    return np.ma.filled(np.ma.median(masked, axis=axis), np.nan)
