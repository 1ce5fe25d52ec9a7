"""Every figure of a law is its metric, of the right arrays in the right unit."""

import math

import numpy as np
import pytest
from scipy import stats
from test_law import random_scatter

from posecov import law, metrics
from posecov.evaluation.uncertainty import LEVELS, MASSES, Noise, People, band, differences, law_figures, percent
from posecov.law import Law

COUNT, JOINTS, LIMBS = 30, ("hip", "knee", "ankle"), ((0, 1), (1, 2))


@pytest.fixture(scope="module")
def one():
    rng = np.random.default_rng(0)
    scale = rng.uniform(1, 4, (COUNT, 1, 1))
    return Law(50 * rng.standard_normal((COUNT, 6)), scale * random_scatter(rng, 6, (COUNT,)), 6.0)


@pytest.fixture(scope="module")
def people(one):
    rng = np.random.default_rng(1)
    values = one.sample(rng, 1)[0]
    values[3, 2:4] = np.nan
    errors = np.linalg.norm((values - one.mean).reshape(COUNT, 3, 2), axis=-1)
    sizes, torso = rng.uniform(20, 200, COUNT), rng.uniform(5, 50, COUNT)
    return People(values, errors, sizes, torso, rng.uniform(0.2, 2, COUNT), JOINTS, LIMBS)


@pytest.fixture(scope="module")
def scores(one, people):
    return metrics.energy_scores(one, people.values, draws=96)


@pytest.fixture(scope="module")
def figures(one, people, scores):
    return law_figures(one, people, scores)


def test_likelihoods_and_predicted_joints_in_their_units(figures, one, people):
    nll, dimension = one.negative_log_likelihood(people.values), (~np.isnan(people.values)).sum(axis=1)
    assert figures["nll"]["pixels"] == pytest.approx(nll.mean())
    assert figures["nll"]["person_sizes"] == pytest.approx((nll - dimension * np.log(people.sizes)).mean())
    assert figures["nll"]["frame"] == pytest.approx((nll + dimension * np.log(people.frame)).mean())
    hidden = np.linalg.norm(one.hidden_joint_residuals(people.values), axis=-1)
    assert figures["tac"]["pixels"] == pytest.approx(np.nanmean(hidden))
    assert figures["tac"]["person_sizes"] == pytest.approx(np.nanmean(hidden / people.sizes[:, None]))
    assert figures["sharpness"] == pytest.approx(metrics.sharpness(one, people.values))
    assert figures["degrees_of_freedom"].tolist() == [6]


def test_energy_scores_and_what_the_draws_matter(figures, people, scores):
    energy, (person, joint, chunks) = figures["energy_score"], scores
    assert energy["pixels"] == pytest.approx(person.mean())
    assert energy["person_sizes"] == pytest.approx((person / people.sizes).mean())
    assert energy["per_joint"]["pixels"] == pytest.approx(np.nanmean(joint))
    assert energy["per_joint"]["person_sizes"] == pytest.approx(np.nanmean(joint / people.sizes[:, None]))
    assert (energy["draws"], chunks.shape) == (96, (3, COUNT))
    assert energy["standard_error_of_draws"] == pytest.approx(stats.sem(chunks.mean(axis=1)))


def test_coverage_of_what_and_of_whom(figures, one, people):
    joint, single = one.mass(people.values), one.joint_masses(people.values)
    limbs = metrics.limb_masses(one, people.values, LIMBS)
    sigmas = law.joint_sigma(one.covariance) / people.sizes[:, None]
    for mass in MASSES:
        share = {name: table[percent(mass)] for name, table in figures["coverage"].items()}
        assert share["joint"] == pytest.approx((joint <= mass).mean())
        for name, masses, each, names in (
            ("per_joint", single, "coverage_of_joints", JOINTS),
            ("limbs", limbs, "coverage_of_limbs", ["hip - knee", "knee - ankle"]),
        ):
            held = [np.mean(column[~np.isnan(column)] <= mass) for column in masses.T]
            assert share[name] == pytest.approx(np.mean(held))
            assert share[f"{name}_deviation"] == pytest.approx(np.mean([abs(part - mass) for part in held]))
            assert {key: table[percent(mass)] for key, table in figures[each].items()} == pytest.approx(
                dict(zip(names, held, strict=True))
            )
        np.testing.assert_allclose(share["by_sigma"], metrics.coverage_by_sigma(single, sigmas, mass, 4))
        np.testing.assert_allclose(share["by_sigma_thirds"], metrics.coverage_by_sigma(single, sigmas, mass, 3))
    curve = figures["reliability"]
    assert curve["nominal"] == LEVELS == pytest.approx(np.arange(1, 20) / 20)
    for place, level in enumerate(LEVELS):
        assert curve["joint"][place] == pytest.approx((joint <= level).mean(), abs=1e-5)
        for name, masses in (("of_joints", single), ("of_limbs", limbs)):
            np.testing.assert_allclose(curve[name][:, place], metrics.coverage_per_joint(masses, level), atol=1e-5)


def test_ranks_and_risks_are_of_errors_by_expectation(figures, one, people):
    expected, sigmas = one.expected_errors(), law.joint_sigma(one.covariance)
    for name, guess, unit in (
        ("torsos", expected, people.torso),
        ("person_sizes", expected, people.sizes),
        ("of_sigma", sigmas, people.sizes),
    ):
        pairs = zip((guess / unit[:, None]).T, (people.errors / unit[:, None]).T, strict=True)
        ranks = [stats.spearmanr(*pair, nan_policy="omit").statistic for pair in pairs]
        assert figures["rank_correlation"][name] == pytest.approx(np.mean(ranks))
    counted = ~np.isnan(people.errors)
    guess, error = ((values / people.sizes[:, None])[counted] for values in (expected, people.errors))
    risk = figures["risk_coverage"]
    assert risk["mean_error"] == pytest.approx(error.mean())
    assert risk["kept"] == (*LEVELS, 1.0)
    kept = np.arange(1, len(error) + 1)
    for prefix, name, order in (("", "risk", np.argsort(guess)), ("perfect_", "perfect", np.argsort(error))):
        curve = np.cumsum(error[order]) / kept / error.mean()
        assert risk[f"{prefix}relative_area"] == pytest.approx(curve.mean())
        assert risk[f"{prefix}left_at_80"] == pytest.approx(curve[round(0.8 * len(error)) - 1])
        np.testing.assert_allclose(risk[name], [curve[round(part * len(error)) - 1] for part in risk["kept"]], atol=1e-5)
    assert risk["area"] == pytest.approx(risk["relative_area"] * error.mean())
    bins = metrics.sigma_bins(sigmas / people.sizes[:, None], people.errors / people.sizes[:, None])
    np.testing.assert_allclose([figures["sigma_bins"][key] for key in ("sigma", "error")], bins, atol=1e-5)


def test_differences_are_model_minus_rival_over_the_same_people(one, people):
    rival = Law(one.mean + 1, np.broadcast_to(2 * np.eye(6), one.scatter.shape) * people.torso[:, None, None] / 9, 6.0)
    energy, noise = np.linspace(-1, 2, COUNT), Noise(resamples=60, draws=32, seed=5)
    found = differences((one, rival), people, energy, noise)
    tac = [metrics.tac_errors(law, people.values) for law in (one, rival)]
    present = ~np.isnan(people.values)
    per_person = {
        "nll": one.negative_log_likelihood(people.values) - rival.negative_log_likelihood(people.values),
        "energy_score": energy,
        "sharpness": law.log_volume(one.covariance, present) - law.log_volume(rival.covariance, present),
    }
    for name, terms in per_person.items():
        assert found[name]["value"] == pytest.approx(terms.mean())
        assert found[name]["interval"] == metrics.bootstrap_interval(terms, np.ones(COUNT), 60, 5)
    assert found["tac"]["value"] == pytest.approx(np.nanmean(tac[0]) - np.nanmean(tac[1]))

    def ranks(index):
        error = people.errors[index] / people.torso[index, None]
        guesses = (each.expected_errors()[index] / people.torso[index, None] for each in (one, rival))
        better, worse = (metrics.rank_correlation(guess, error) for guess in guesses)
        return better - worse

    assert found["rank_correlation"]["value"] == pytest.approx(ranks(np.arange(COUNT)))
    drawn = [ranks(index) for index in metrics.resampled_people(COUNT, 60, 5)]
    assert found["rank_correlation"]["interval"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))


def test_bands_are_for_somebody():
    assert band(1000)["50"] == metrics.binomial_band(1000, 0.5)
    assert band(0) == dict.fromkeys(("50", "68", "90", "95"))
    assert math.isnan(metrics.coverage(np.array([np.nan]), 0.5))


def test_curves_have_the_digits_that_a_plot_needs(figures):
    curves = [figures["reliability"]["of_joints"], figures["risk_coverage"]["risk"], figures["sigma_bins"]["error"]]
    for curve in curves:
        np.testing.assert_array_equal(curve, np.round(curve, 5))
