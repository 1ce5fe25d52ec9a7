"""Discs, ellipses and contours of a joint with two centres, against quadrature and samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_law import random_scatter

from posecov import density, law, regions
from posecov.errors import PosecovError
from posecov.mixture import Mixture


def two(apart=(60.0, 10.0), weight=0.8, dof=4.5, seed=0, sizes=(9.0, 4.0)):
    scatters = random_scatter(np.random.default_rng(seed), 2, (2,)) * np.array(sizes)[:, None, None]
    return Mixture(np.array([weight, 1 - weight]), np.array([[100.0, 50.0], np.add([100.0, 50.0], apart)]), scatters, dof)


def holds(polygons, points):
    """Which points (n, 2) lie inside by the even-odd rule."""
    inside = np.zeros(len(points), dtype=bool)
    x, y = points.T
    for polygon in polygons:
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y0 != y1:
                crossing = (y0 > y) != (y1 > y)
                inside ^= crossing & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return inside


def quadrature(offset, scatter, radius, dof):
    """The density over the disc on a polar grid."""
    turn = (np.arange(2000) + 0.5) * 2 * np.pi / 2000
    node, weight = np.polynomial.legendre.leggauss(300)
    r = radius * (node + 1) / 2
    places = offset + r[:, None, None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    heights = np.exp(-law.negative_log_likelihood(places, scatter, dof))
    return float((heights.mean(axis=1) * r) @ weight * np.pi * radius)


@pytest.mark.parametrize("dof", [math.inf, 3.0])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (3.0, -1.0), (20.0, 5.0), (0.0, 9.99)])
@pytest.mark.parametrize("radius", [0.1, 5.0, 10.0, 30.0])
def test_the_probability_of_a_disc_anywhere(dof, offset, radius):
    scatter = random_scatter(np.random.default_rng(1), 2)
    expected = quadrature(np.array(offset), scatter, radius, dof)
    found = regions.disc_probability(np.array(offset), scatter, radius, dof)
    assert found == pytest.approx(expected, abs=1e-6)
    if offset == (0.0, 0.0):
        assert found == pytest.approx(law.probability_within(scatter, radius, dof), abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 2 * np.pi), st.floats(0.0, 2.0), st.floats(1.0, 40.0), st.floats(0.5, 500.0))
def test_a_large_disc_whose_rim_passes_a_narrow_point_is_a_half_plane(angle, distance, ratio, radius):
    # Beside a rim much longer than the point is wide, the disc is the half plane on this side of its tangent.
    direction = np.array([np.cos(angle), np.sin(angle)])
    axes = np.diag([ratio, 1.0])
    scatter = axes @ axes
    far = radius * 1e3
    along = math.sqrt(direction @ scatter @ direction)
    found = regions.disc_probability((far - distance * along) * direction, scatter, far, math.inf)
    if far < 4000:
        assert found == pytest.approx(0.5 * (1 + math.erf(distance / math.sqrt(2))), abs=2 * ratio**2 / far + 1e-6)
    assert 0 <= found <= 1


@pytest.mark.parametrize("dof", [math.inf, 3.0])
def test_a_disc_s_probability_grows_by_the_density_on_its_rim(dof):
    rng = np.random.default_rng(2)
    scatters = np.stack([random_scatter(rng, 2) for _ in range(5)])
    discs = regions._Discs(rng.normal(0, 3, (5, 2)), scatters, dof)
    radius, step = rng.uniform(0.5, 8.0, 5), 1e-4
    slope = (discs(radius + step)[0] - discs(radius - step)[0]) / (2 * step)
    np.testing.assert_allclose(discs(radius)[1], slope, rtol=1e-5)


def test_roots_are_found_over_plateaus_steps_and_beyond_the_start():
    places = np.array([-3.0, 0.0, 0.4, 7.3, 20.0])

    def plateau(x):  # Flat for long on both sides, steep where it passes 0.
        return np.tanh(20 * (x - places)), 20 / np.cosh(np.clip(20 * (x - places), -300, 300)) ** 2

    np.testing.assert_allclose(regions._root(plateau, np.zeros(5)), places, atol=1e-6)
    # Where there is none, what is given is far out.
    far = regions._root(lambda x: (np.full(x.shape, -1.0), np.zeros(x.shape)), np.zeros(2))
    assert far == pytest.approx([regions._WIDEST] * 2)


def test_a_rim_across_a_needle_is_seen():
    # A needle 200 times as long as wide, cut by a rim one of its lengths from its middle.
    found = regions.disc_probability(np.array([8.0, 0.0]), np.diag([4.0, 1e-4]), 10.0, math.inf)
    assert found == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=1e-5)


def test_every_disc_has_its_own_degrees_of_freedom():
    offsets, dofs = np.array([[3.0, 1.0], [0.0, 2.0], [7.0, 0.0]]), np.array([3.0, 8.0, math.inf])
    scatters = random_scatter(np.random.default_rng(7), 2, (3,))
    found = regions.disc_probability(offsets, scatters, 4.0, dofs)
    each = [regions.disc_probability(*one, 4.0, dof) for *one, dof in zip(offsets, scatters, dofs, strict=True)]
    np.testing.assert_allclose(found, each, rtol=1e-12)


def test_a_second_centre_one_pixel_away_is_another_centre():
    point = two(apart=(-1.0, -1.0), sizes=(2.0, 2.0))
    each = [regions.disc_probability(point.mean - m, s, 1.5, 4.5) for m, s in zip(point.means, point.scatters, strict=True)]
    assert regions.probability_within(point, 1.5) == pytest.approx(point.weights @ each, abs=1e-9)


def test_negative_radii_are_an_error():
    with pytest.raises(PosecovError, match="radius"):
        regions.probability_within(two(), -1.0)
    assert regions.probability_within(two(), 0.0) == 0


@pytest.mark.parametrize("dof", [math.inf, 4.5])
def test_probability_within_a_radius_is_that_of_samples(dof):
    point = two(dof=dof)
    away = np.linalg.norm(point.sample(np.random.default_rng(2), 400_000) - point.mean, axis=1)
    for radius in (1.0, 10.0, 60.0, 70.0):
        assert regions.probability_within(point, radius) == pytest.approx((away < radius).mean(), abs=0.004)


@pytest.mark.parametrize("mass", [0.5, 0.79, 0.85, 0.99])
def test_the_ellipse_holds_its_mass_though_there_is_another_centre(mass):
    point = two()
    axes, angle = regions.ellipse_axes(point, mass)
    samples = point.sample(np.random.default_rng(3), 200_000) - point.mean
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    inside = (samples @ along / axes[0]) ** 2 + (samples @ across / axes[1]) ** 2 < 1
    assert inside.mean() == pytest.approx(mass, abs=0.004)
    alone = law.ellipse_axes(point.scatters[0], 0.9, 4.5)
    assert angle == alone[1]
    assert axes[0] / axes[1] == pytest.approx(alone[0][0] / alone[0][1])


@pytest.mark.parametrize("mass", [0.3, 0.68, 0.95])
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({}, {0.3: 1, 0.68: 2, 0.95: 2}),
        ({"apart": (0.3, 0.2)}, {0.3: 1, 0.68: 1, 0.95: 1}),
        ({"apart": (500.0, 0.0), "sizes": (900.0, 1.0), "dof": 6.5}, {0.3: 2, 0.68: 2, 0.95: 2}),
        ({"dof": math.inf, "weight": 0.5}, {0.3: 2, 0.68: 2, 0.95: 2}),
    ],
)
def test_contours_hold_their_mass_in_as_many_parts_as_there_are(mass, change, parts):
    point = two(**change)
    polygons = regions.contours(point, mass)
    assert len(polygons) == parts[mass]
    samples = point.sample(np.random.default_rng(4), 100_000)
    assert holds(polygons, samples).mean() == pytest.approx(mass, abs=0.01)
    threshold = density.level(point, mass)
    for polygon in polygons:
        np.testing.assert_allclose(point.log_density(polygon), threshold, atol=1e-4)
        # Between vertices the outline strays by less than a tenth of a pixel from the level: one step of Newton's method.
        middle = (polygon + np.roll(polygon, -1, axis=0)) / 2
        step = 1e-4
        slope = np.stack(
            [(point.log_density(middle + d) - point.log_density(middle - d)) / (2 * step) for d in step * np.eye(2)], axis=-1
        )
        away = np.abs(point.log_density(middle) - threshold) / np.linalg.norm(slope, axis=-1)
        assert away.max() < 0.5


def test_a_single_component_has_its_ellipse():
    point = Mixture(np.ones(1), np.array([[3.0, 4.0]]), np.diag([9.0, 4.0])[None], 4.5)
    (polygon,) = regions.contours(point, 0.8)
    axes, _ = regions.ellipse_axes(point, 0.8)
    np.testing.assert_allclose(np.linalg.norm((polygon - [3, 4]) / axes, axis=1), 1)
    assert holds([polygon], point.sample(np.random.default_rng(5), 50_000)).mean() == pytest.approx(0.8, abs=0.01)


def test_a_hole_is_an_outline_inside_another():
    # A ring of components leaves the middle empty.
    turn = np.arange(8) * np.pi / 4
    ring = Mixture(
        np.full(8, 1 / 8), 20 * np.stack([np.cos(turn), np.sin(turn)], axis=1), np.tile(25 * np.eye(2), (8, 1, 1)), 9.0
    )
    polygons = regions.contours(ring, 0.8)
    assert len(polygons) == 2
    samples = ring.sample(np.random.default_rng(6), 50_000)
    assert holds(polygons, samples).mean() == pytest.approx(0.8, abs=0.01)
    assert not holds(polygons, np.zeros((1, 2)))[0]
    # The larger is the outer one; the hole turns the other way.
    outer, hole = map(regions.area, polygons)
    assert -outer > hole > 0


def test_areas_of_polygons_anywhere():
    triangle = np.array([[10.0, 20.0], [13.0, 20.0], [10.0, 24.0]])
    assert regions.area(triangle) == pytest.approx(6.0)
    assert regions.area(triangle[::-1]) == pytest.approx(-6.0)
    assert regions.area(np.array([[1.0, 1.0], [5.0, 2.0], [6.0, 7.0], [2.0, 5.0]])) == pytest.approx(16.5)


@pytest.mark.parametrize("turned", [False, True])
def test_corners_that_touch_are_two_parts(turned):
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 1] = mask[2, 2] = True
    outlines = regions._outlines(mask[:, ::-1] if turned else mask)
    assert sorted(len(outline) for outline in outlines) == [4, 4]
    for outline in outlines:
        # All pairs share the grid point that they enclose.
        assert len(set.intersection(*(set(pair.tolist()) for pair in outline))) == 1
