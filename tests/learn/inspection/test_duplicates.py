import cv2
import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.learn.inspection.duplicates import difference_hash, find_duplicates


def _write(path, image):
    cv2.imwrite(str(path), image)
    return path


def test_scaled_and_compressed_copies_are_found_and_others_are_not(tmp_path):
    rng = np.random.default_rng(0)
    first, other = (cv2.resize(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8), (300, 240)) for _ in range(2))
    pictures = [
        _write(tmp_path / "first.png", first),
        _write(tmp_path / "smaller.jpg", cv2.resize(first, (180, 144), interpolation=cv2.INTER_AREA)),
        _write(tmp_path / "other.png", other),
    ]
    assert find_duplicates(pictures) == [(pictures[0], pictures[1])]


def test_flat_pictures_are_not_all_the_same(tmp_path):
    pictures = [_write(tmp_path / f"{grey}.png", np.full((50, 50, 3), grey, np.uint8)) for grey in (10, 200)]
    assert difference_hash(pictures[0]) is None
    assert find_duplicates(pictures) == []


def test_unreadable_pictures_are_named(tmp_path):
    (tmp_path / "x.jpg").write_text("nothing")
    with pytest.raises(PosecovError, match=r"x\.jpg: cannot be read"):
        find_duplicates([tmp_path / "x.jpg"])
