"""The accuracy that the module states, against many random draws; and what is exact."""

import math

import numpy as np
import pytest
from test_law import random_scatter
from test_mixture import ORDERS, make

from posecov import density, law
from posecov.errors import PosecovError
from posecov.mixture import Mixture


def worst_error(mixture, seed, count=500_000):
    """Of masses of own samples, against the share of draws that are denser; that share's own error is some 0.002."""
    rng = np.random.default_rng(seed)
    levels = np.sort(mixture.log_density(mixture.sample(rng, count)))
    values = mixture.sample(rng, 2000)
    expected = 1 - np.searchsorted(levels, mixture.log_density(values)) / count
    return np.abs(mixture.mass(values) - expected).max()


@pytest.mark.parametrize("dof", [math.inf, 4.5])
@pytest.mark.parametrize("apart", [0.2, 2.0, 20.0])
def test_masses_of_whole_poses_are_as_accurate_as_stated(dof, apart):
    assert worst_error(make(1, (), dof, ORDERS, apart), 1, 200_000) < 0.007


@pytest.mark.parametrize("dof", [math.inf, 4.5])
@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_masses_in_few_dimensions_with_components_of_different_size(dof, dimension):
    rng = np.random.default_rng(dimension)
    scatters = random_scatter(rng, dimension, (3,)) * np.array([1.0, 30.0, 0.02])[:, None, None]
    mixture = Mixture(np.array([0.5, 0.3, 0.2]), 4 * rng.standard_normal((3, dimension)), scatters, dof)
    assert worst_error(mixture, dimension) < 0.006


def test_the_tail_keeps_its_relative_accuracy():
    mixture = make(3, (), 4.5, ORDERS, 20.0)
    single = law.Law(mixture.mean, mixture.scatter[0], 4.5)
    sure = Mixture.of_exchanges(mixture.mean, mixture.scatter[0], 4.5, np.eye(len(ORDERS))[0], ORDERS)
    values = mixture.mean + np.linspace(2, 40, 60)[:, None] * np.random.default_rng(3).standard_normal((60, 28))
    expected = 1 - single.mass(values)
    chosen = expected > 1e-4
    assert chosen.sum() > 20
    np.testing.assert_allclose(1 - sure.mass(values)[chosen], expected[chosen], rtol=0.15)


def test_a_batch_is_as_one_by_one():
    mixture = make(4, (40,), 4.5, ORDERS)
    values = mixture.sample(np.random.default_rng(4), 1)[0]
    np.testing.assert_allclose(mixture.mass(values), [mixture[n].mass(values[n]) for n in range(40)], atol=1e-12)


@pytest.mark.parametrize("dof", [math.inf, 4.5])
def test_a_level_holds_its_mass(dof):
    rng = np.random.default_rng(5)
    mixture = Mixture(np.array([0.7, 0.3]), 3 * rng.standard_normal((2, 2)), random_scatter(rng, 2, (2,)), dof)
    heights = mixture.log_density(mixture.sample(rng, 400_000))
    for mass in (0.1, 0.5, 0.95):
        assert np.mean(heights > density.level(mixture, mass)) == pytest.approx(mass, abs=0.005)
    single = Mixture(np.ones(1), np.zeros((1, 2)), mixture.scatter[:1], dof)
    heights = single.log_density(single.sample(rng, 400_000))
    assert np.mean(heights > density.level(single, 0.8)) == pytest.approx(0.8, abs=0.003)
    with pytest.raises(PosecovError, match="a mass must lie between 0 and 1"):
        density.level(mixture, 1.0)
