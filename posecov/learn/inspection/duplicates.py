"""Pictures that are there more than once, also scaled or compressed anew."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from posecov.errors import PosecovError

# Of the 256 bits of two pictures, how many may differ.
_NEAR = 20
# A picture whose neighbouring cells hardly differ has no bits that mean anything: this much of them must, by grey levels.
_CONTRAST = 4
_BLOCK = 2048


def difference_hash(path: Path) -> np.ndarray | None:
    """(256,) bool: whether each of 16 x 16 cells of the grey picture is brighter than the one left of it. None: a flat picture.

    Raises:
        PosecovError: the picture cannot be read.
    """
    try:
        with Image.open(path) as picture:
            picture.draft("L", (136, 128))
            cells = np.asarray(picture.convert("L").resize((17, 16), Image.Resampling.BOX), dtype=np.int16)
    except Exception as error:  # Pillow raises many kinds on a damaged file
        raise PosecovError(f"{path}: cannot be read ({str(error).splitlines()[0][:120]})") from None
    steps = np.diff(cells, axis=1)
    return None if (np.abs(steps) >= _CONTRAST).mean() < 0.3 else (steps > 0).ravel()


def find_duplicates(pictures: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of different files that show the same picture, as far as their `difference_hash` tells.

    Raises:
        PosecovError: a picture cannot be read.
    """
    hashed = [(path, bits) for path in pictures if (bits := difference_hash(path)) is not None]
    if not hashed:
        return []
    signs = np.array([bits for _, bits in hashed], dtype=np.float32) * 2 - 1
    pairs = []
    for start in range(0, len(signs), _BLOCK):
        differing = (signs.shape[1] - signs[start : start + _BLOCK] @ signs[start:].T) / 2
        first, second = np.nonzero(np.triu(differing <= _NEAR, 1))
        pairs += [(hashed[start + i][0], hashed[start + j][0]) for i, j in zip(first.tolist(), second.tolist(), strict=True)]
    return pairs
