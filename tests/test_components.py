from dataclasses import replace

import numpy as np
import pytest
from test_mixture import make

from posecov.components import checked, plain
from posecov.errors import PosecovError


@pytest.mark.parametrize("scale", [1e-38, 1e-14, 1e-12, 1e-3, 1.0, 250.0, 1e5, 1e6, 1e30])
def test_numbers_have_the_fewest_digits_that_give_the_same_float32(scale):
    values = np.append(np.random.default_rng(0).standard_normal(5000) * scale, [0, scale, -scale, 2 * scale]).astype(np.float32)
    as_text = [float(str(value)) for value in values]
    assert plain(values) == as_text
    assert plain(values.reshape(-1, 3)[:2]) == [as_text[:3], as_text[3:6]]


def test_zeros_keep_their_sign():
    assert np.signbit(plain(np.float32([-0.0, 0.0]))).tolist() == [True, False]


def test_what_was_checked_is_taken_as_it_is_and_cannot_be_written_to():
    found = checked(make(dof=4.5), 4.5)
    assert checked(found, 4.5) is found
    for array in (found.weights, found.means, found.scatter):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_what_was_made_of_it_is_checked_and_so_is_another_law():
    found = checked(make(dof=4.5), 4.5)
    with pytest.raises(PosecovError, match="sum to 1"):
        checked(replace(found, weights=2 * found.weights), 4.5)
    with pytest.raises(PosecovError, match="not positive definite"):
        checked(replace(found, scatter=-found.scatter), 4.5)
    with pytest.raises(PosecovError, match="degrees of freedom"):
        checked(found, 5.5)


def test_digits_beyond_float32_are_dropped():
    found = checked(make(dof=4.5), 4.5)
    np.testing.assert_array_equal(found.means, found.means.astype(np.float32))
    np.testing.assert_array_equal(found.scatter, found.scatter.astype(np.float32))
