"""Who trains what, and who trains nothing."""

from collections.abc import Sequence

import numpy as np

from posecov.errors import PosecovError
from posecov.learn.datasets.record import Record


def split_validation(records: Sequence[Record], prefix: str, count: int, seed: int) -> tuple[list[Record], list[Record]]:
    """Carve ``count`` random people whose name starts with ``prefix`` out of the training records.

    Others in the same pictures leave the training part too.

    Returns:
        Training part and validation part.
    """
    candidates = [i for i, record in enumerate(records) if record.name.startswith(prefix)]
    if count >= len(candidates):
        raise PosecovError(
            f"setting data.validation_count: {count} people of {prefix.removesuffix('/')} cannot be held out and leave any to "
            f"train on, there are {len(candidates)}"
        )
    chosen = set(np.random.default_rng(seed).permutation(candidates)[:count].tolist())
    validation = [records[i] for i in sorted(chosen)]
    return without_pictures_of([record for i, record in enumerate(records) if i not in chosen], validation), validation


def pick(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """``count`` random people in their order; all when there are not more."""
    chosen = np.random.default_rng(seed).permutation(len(records))[:count]
    return [records[i] for i in sorted(chosen.tolist())]


def without_pictures_of(records: Sequence[Record], held: Sequence[Record]) -> list[Record]:
    """The records whose pictures show none of the ``held`` people."""
    pictures = {record.image for record in held}
    return [record for record in records if record.image not in pictures]


def split_share(records: Sequence[Record], share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Random people for the mean, and the others for the covariance; both keep their order. A share of 1 gives all to both.

    Raises:
        PosecovError: nobody is left for one of them.
    """
    if share >= 1.0:
        return list(records), list(records)
    chosen = np.random.default_rng((seed, 1)).permutation(len(records)) < round(share * len(records))
    first = [record for record, mine in zip(records, chosen, strict=True) if mine]
    second = [record for record, mine in zip(records, chosen, strict=True) if not mine]
    if not first or not second:
        raise PosecovError(f"setting data.mean_share: {share} of {len(records)} people leaves nobody for one of the two parts")
    return first, second
