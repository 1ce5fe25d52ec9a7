"""Shapes and letters in a picture."""

import numpy as np
import pytest

from posecov.drawing import canvas as shapes


def blank(height=120, width=160):
    return np.full((height, width, 3), 100, dtype=np.uint8)


@pytest.mark.parametrize("size", [40, 400])  # Few covered pixels are mixed one by one, many by a table.
def test_a_fill_mixes_its_colour_in(size):
    image = blank(500, 500)
    corners = 20.0 + size * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    shapes.fill(image, [corners, 30 + (corners - 20) / 4], (200, 0, 100), 0.3)
    np.testing.assert_array_equal(image[20 + size - 5, 20 + size - 5], [130, 70, 100])
    assert (image[32:36, 32:36] == 100).all()  # The hole.
    assert (image[:15] == 100).all()


def test_edges_are_antialiased():
    image = blank()
    shapes.disc(image, np.array([80.0, 60.0]), 20.3, (255, 255, 255))
    values = np.unique(image)
    assert len(values) > 20
    area = (image[:, :, 0].astype(float) - 100).sum() / 155
    assert np.sqrt(area / np.pi) == pytest.approx(20.3, abs=0.8)  # OpenCV's fills are half a pixel wider.


def test_small_discs_are_round():
    image = blank()
    shapes.disc(image, np.array([80.0, 60.0]), 4.0, (255, 255, 255))
    corner, side = image[57, 77, 0], image[60, 76, 0]  # sqrt(18) and 4 pixels from the centre: a diamond has no corners.
    assert corner > 130
    assert side > 180


def test_shapes_beyond_the_picture_are_cut():
    image = blank()
    shapes.fill(image, [np.array([[-1e9, -1e9], [1e9, -1e9], [1e9, 30.0], [-1e9, 30.0]])], (0, 0, 0), 1.0)
    assert (image[:29] == 0).all()
    assert (image[33:] == 100).all()
    shapes.outline(image, np.array([[500.0, 500.0], [600.0, 600.0]]), (0, 0, 0), 1.0, 2.0)
    assert (image[33:] == 100).all()


def test_letters_stand_on_their_line_and_are_cut_at_the_border():
    image = blank()
    shapes.write(image, "H", (20, 60), 30, (255, 255, 255))
    rows = np.flatnonzero((image[:, :, 0] > 180).any(axis=1))
    assert 58 <= rows.max() <= 60
    assert 36 <= rows.min() <= 42
    columns = np.flatnonzero((image[:, :, 0] > 180).any(axis=0))
    assert columns.min() >= 20
    assert columns.max() <= 20 + shapes.text_width("H", 30)
    for pen in ((-10.0, 5.0), (150.0, 118.0), (400.0, 60.0)):
        shapes.write(image, "word", pen, 30, (255, 255, 255), casing=(0, 0, 0))


def test_letters_that_the_font_lacks():
    image, plain = blank(), blank()
    shapes.write(image, "\u00e9\u732b", (20, 60), 30, (255, 255, 255))
    shapes.write(plain, "e?", (20, 60), 30, (255, 255, 255))
    np.testing.assert_array_equal(image, plain)


def test_lengths_as_people_read_them():
    assert [shapes.pixels_text(length) for length in (0.04, 3.14, 9.96, 183.4)] == ["0.0 px", "3.1 px", "10.0 px", "183 px"]


@pytest.mark.parametrize("opacity", [0.3, 1.0])
def test_a_line_mixes_its_colour_in_and_touches_nothing_else(opacity):
    image = np.random.default_rng(0).integers(60, 200, (120, 160, 3), dtype=np.uint8)
    before = image.copy()
    shapes.outline(image, np.array([[20.0, 60.0], [140.0, 60.0]]), (200, 0, 100), opacity, 5.0, closed=False)
    mixed = before[60, 30:130] + opacity * (np.array([200, 0, 100]) - before[60, 30:130])
    np.testing.assert_allclose(image[60, 30:130], mixed, atol=0.51)
    np.testing.assert_array_equal(image[:55], before[:55])
    np.testing.assert_array_equal(image[66:], before[66:])


@pytest.mark.parametrize("pen", [(20.0, 60.0), (-10.0, 5.0), (150.0, 118.0), (60.0, -1.0)])
def test_letters_are_the_same_wherever_the_picture_ends(pen):
    whole, part = blank(300, 400), blank()
    shapes.write(whole, "word", (pen[0] + 100, pen[1] + 100), 30, (255, 255, 255), casing=(0, 0, 0))
    shapes.write(part, "word", pen, 30, (255, 255, 255), casing=(0, 0, 0))
    np.testing.assert_array_equal(part, whole[100:220, 100:260])
