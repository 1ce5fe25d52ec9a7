"""The plate in a corner."""

import numpy as np

from posecov.drawing import canvas as shapes
from posecov.drawing.legend import Entry, dot, draw_legend, line, scale_bar
from posecov.drawing.palette import INK, LEFT, PAPER

NOISE = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
NOWHERE = np.zeros((0, 2))


def plate(canvas, *entries):
    corner, extent = draw_legend(canvas, entries, NOWHERE)
    (x, y), (width, height) = corner.astype(int), extent.astype(int)
    return (slice(y, y + height), slice(x, x + width))


def test_what_is_under_the_plate_shows_through_and_the_rest_stays():
    canvas = NOISE.copy()
    place = plate(canvas, Entry("one"), scale_bar(1.0, canvas.shape))
    top = (slice(place[0].start, place[0].start + 3), place[1])  # Above the letters.
    np.testing.assert_allclose(canvas[top], 0.32 * NOISE[top] + 0.68 * np.array(INK), atol=1.6)
    canvas[place] = NOISE[place]
    np.testing.assert_array_equal(canvas, NOISE)


def test_signs_and_letters_hide_what_is_under_them_on_every_picture():
    dark, middle, light = (np.full_like(NOISE, level) for level in (0, 130, 255))
    parts = [canvas[plate(canvas, dot("left", LEFT), line("before", PAPER))].astype(int) for canvas in (dark, middle, light)]
    for colour in (LEFT, PAPER):
        painted = (abs(parts[0] - np.array(colour)) <= 2).all(axis=2)
        assert painted.sum() > 50
        assert all(abs(part[painted] - np.array(colour)).max() <= 5 for part in parts)


def test_another_legend_is_not_the_one_before():
    first, second, again = (NOISE.copy() for _ in range(3))
    plate(first, Entry("95 % ellipses"))
    plate(second, Entry("50 % ellipses"))
    plate(again, Entry("95 % ellipses"))
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)


def test_a_plate_wider_than_the_picture_is_cut():
    canvas = np.zeros((40, 60, 3), dtype=np.uint8)
    draw_legend(canvas, [Entry("a text that is much too long"), Entry("another")], NOWHERE)
    assert canvas.any()
    assert shapes.text_width("a text that is much too long", shapes.letter_size(canvas.shape)) > 60
