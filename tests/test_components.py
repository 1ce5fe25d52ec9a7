import numpy as np
import pytest

from posecov.components import plain


@pytest.mark.parametrize("scale", [1e-38, 1e-14, 1e-12, 1e-3, 1.0, 250.0, 1e5, 1e6, 1e30])
def test_numbers_have_the_fewest_digits_that_give_the_same_float32(scale):
    values = np.append(np.random.default_rng(0).standard_normal(5000) * scale, [0, scale, -scale, 2 * scale]).astype(np.float32)
    as_text = [float(str(value)) for value in values]
    assert plain(values) == as_text
    assert plain(values.reshape(-1, 3)[:2]) == [as_text[:3], as_text[3:6]]


def test_zeros_keep_their_sign():
    assert np.signbit(plain(np.float32([-0.0, 0.0]))).tolist() == [True, False]
