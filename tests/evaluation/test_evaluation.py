"""The fit behind the rivals, and the report on made-up people whose law is known."""

import json
import math

import numpy as np
import pytest

from posecov import evaluation, law, metrics, resources
from posecov.errors import PosecovError
from posecov.law import Law
from posecov.skeleton import Skeleton

CHAIN = Skeleton("chain", ("hip", "knee", "ankle"), limbs=(("hip", "knee"), ("knee", "ankle")))


def random_scatter(rng, dimension=6):
    factor = rng.standard_normal((dimension, dimension + 2))
    return factor @ factor.T


def mean_nll(residuals, scatter, dof):
    return float(law.negative_log_likelihood(residuals, scatter, dof).mean())


@pytest.mark.parametrize("missing", [False, True])
def test_the_fit_finds_the_law_of_its_samples(missing):
    rng = np.random.default_rng(0)
    scatter = random_scatter(rng)
    residuals = law.sample(rng, np.zeros(6), scatter, 5.0, 20_000)
    if missing:
        residuals[rng.random(20_000) < 0.4, 2:4] = np.nan
        residuals[rng.random(20_000) < 0.2, 4:] = np.nan
    found, nu = evaluation.fit_student_t(residuals)
    assert nu == pytest.approx(5.0, rel=0.05)
    np.testing.assert_allclose(found, scatter, atol=0.05 * np.diag(scatter).max())


@pytest.mark.parametrize("dof", [None, math.inf, 4.0])
def test_nothing_near_the_fit_is_likelier(dof):
    rng = np.random.default_rng(1)
    residuals = law.sample(rng, np.zeros(6), random_scatter(rng), 3.5, 150)
    residuals[::4, :2] = np.nan
    residuals[1::4, 4:] = np.nan
    scatter, nu = evaluation.fit_student_t(residuals, dof)
    best = mean_nll(residuals, scatter, nu)
    for _ in range(50):
        nudge = np.eye(6) + 0.01 * rng.standard_normal((6, 6))
        assert mean_nll(residuals, nudge @ scatter @ nudge.T, nu) > best
    for scale in (0.99, 1.01):
        assert mean_nll(residuals, scale * scatter, nu) > best
        if dof is None:
            assert mean_nll(residuals, scatter, scale * nu) > best
    assert dof is None or nu == dof


def test_the_gaussian_fit_of_complete_labels_is_the_second_moment():
    residuals = np.random.default_rng(2).standard_normal((50, 4)) + 1
    scatter, nu = evaluation.fit_student_t(residuals, math.inf)
    np.testing.assert_allclose(scatter, residuals.T @ residuals / 50, rtol=1e-9)
    assert math.isinf(nu)


def test_too_few_people_are_an_error():
    with pytest.raises(PosecovError, match="too few"):
        evaluation.fit_student_t(np.ones((6, 6)))
    with pytest.raises(PosecovError, match="never labelled"):
        evaluation.fit_student_t(np.where(np.arange(4) < 2, np.nan, np.random.default_rng(0).standard_normal((50, 4))))


def crowd(count=400, dof=5.0, seed=3, honest=True):
    """People whose sigmas differ around one correlation, and a model that knows them, or takes one round sigma for all."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(50, 400, count)
    sigma = np.exp(0.6 * rng.standard_normal((count, 3))).repeat(2, axis=1) * 0.03 * sizes[:, None]
    scatter = random_scatter(rng)
    scatter /= np.sqrt(np.outer(np.diag(scatter), np.diag(scatter)))
    scatters = sigma[:, :, None] * scatter * sigma[:, None, :]
    mean = rng.uniform(0, 500, (count, 6))
    truth = Law(mean, scatters, dof).sample(rng, 1)[0]
    told = scatters if honest else np.square(sizes)[:, None, None] * np.eye(6) * 0.03**2
    labelled = rng.random((count, 3)) > 0.1
    points = truth.reshape(-1, 3, 2)
    return {
        "people": Law(mean, told, dof),
        "truth": np.where(labelled[..., None], points, np.nan),
        "labelled": labelled,
        "sizes": sizes,
        "torso": sizes / 3,
        "skeleton": CHAIN,
        "resamples": 50,
        "draws": 96,
    }


@pytest.fixture(scope="module")
def report():
    return evaluation.evaluate(**crowd())


def test_a_model_that_knows_the_law_beats_the_constant_covariance_and_meets_its_own_correlation(report):
    model, constant, correlation = (report["laws"][name] for name in ("model", *evaluation.RIVALS))
    assert model["nll"]["pixels"] < constant["nll"]["pixels"] - 0.5
    assert constant["difference"]["nll"]["interval"][1] < 0
    # Its own sigmas with the one true correlation, fitted on the other half: as good but for the noise of the fit.
    assert abs(correlation["difference"]["nll"]["value"]) < 0.3
    assert constant["difference"]["tac"]["value"] < 0
    assert model["rank_correlation"]["person_sizes"] > 0.3
    # One sigma for each half, that is, in units of the person's size.
    assert abs(constant["rank_correlation"]["person_sizes"]) < 0.1
    for name in ("joint", "per_joint"):
        for mass, share in model["coverage"][name].items():
            assert share == pytest.approx(float(mass) / 100, abs=0.08)
    assert report["pck"]["mean"] == pytest.approx(
        np.average(list(report["pck"]["per_joint"].values()), weights=crowd()["labelled"].sum(axis=0))
    )
    assert report["degrees_of_freedom"] == 5
    assert max(model["coverage"]["per_joint_deviation"].values()) < 0.08


def test_differences_are_those_of_the_figures(report):
    def figures(name):
        one = report["laws"][name]
        return {
            "nll": one["nll"]["pixels"],
            "tac": one["tac"]["pixels"],
            "energy_score": one["energy_score"]["pixels"],
            "sharpness": one["sharpness"],
            "rank_correlation": one["rank_correlation"]["torsos"],
        }

    for name in evaluation.RIVALS:
        for key, difference in report["laws"][name]["difference"].items():
            assert difference["value"] == pytest.approx(figures("model")[key] - figures(name)[key], abs=1e-9)
            assert difference["interval"][0] < difference["value"] < difference["interval"][1]


def test_the_nll_as_gaussians_takes_the_second_moments(report):
    people = crowd()
    kept = people["labelled"].any(axis=1)
    residuals = metrics.label_values(people["truth"], people["labelled"]) - people["people"].mean
    expected = law.negative_log_likelihood(residuals[kept], people["people"].covariance[kept], math.inf).mean()
    assert report["gaussian_nll"]["model"] == pytest.approx(expected)
    assert report["gaussian_nll"]["constant_covariance"] > expected


def test_the_rivals_see_only_the_other_half():
    people = crowd(count=200)
    one = people["people"]
    values = metrics.label_values(people["truth"], people["labelled"])
    sigma = np.sqrt(np.diagonal(one.covariance, axis1=1, axis2=2))
    rivals = {
        "constant_covariance": (evaluation.constant_covariance_rival(one, values, people["sizes"]), people["sizes"][:, None]),
        "constant_correlation": (evaluation.constant_correlation_rival(one, values), sigma),
    }
    for rival, unit in rivals.values():
        for fold in (0, 1):
            other = ((values - one.mean) / unit)[1 - fold :: 2]
            scatter, nu = evaluation.fit_student_t(other)
            units = np.broadcast_to(unit, values.shape)[fold::2]
            np.testing.assert_allclose(rival.scatter[fold::2], units[:, :, None] * scatter * units[:, None, :])
            np.testing.assert_allclose(rival.degrees_of_freedom[fold::2], nu)
    scatter = evaluation.fit_student_t(((values - one.mean) / sigma)[np.arange(200) % 5 != 3])[0]
    found = evaluation.constant_correlation_rival(one, values, folds=5).scatter[8]
    np.testing.assert_allclose(found, sigma[8][:, None] * scatter * sigma[8])
    with pytest.raises(PosecovError, match="folds"):
        evaluation.constant_correlation_rival(one, values, folds=1)
    # A Gaussian model gets Gaussian rivals.
    gaussian = Law(one.mean, one.covariance, math.inf)
    assert np.isinf(evaluation.constant_covariance_rival(gaussian, values, people["sizes"]).degrees_of_freedom).all()


def test_a_model_that_knows_nothing_is_told_so():
    report = evaluation.evaluate(**crowd(honest=False))
    constant = report["laws"]["constant_covariance"]
    assert constant["difference"]["nll"]["interval"][0] > 0
    assert constant["difference"]["tac"]["value"] > 0


def test_the_frame_moves_the_nll_but_not_the_differences():
    people = crowd(count=120)
    here = evaluation.evaluate(**people, scale=3.0)["laws"]
    larger = {key: 3 * people[key] for key in ("truth", "sizes", "torso")}
    one = people["people"]
    there = evaluation.evaluate(**people | larger | {"people": Law(3 * one.mean, 9 * one.scatter, 5.0)})["laws"]
    for name in here:
        assert here[name]["nll"]["frame"] == pytest.approx(there[name]["nll"]["pixels"], abs=1e-3)
        assert here[name]["nll"]["person_sizes"] == pytest.approx(there[name]["nll"]["person_sizes"], abs=1e-3)
        assert here[name]["tac"]["person_sizes"] == pytest.approx(there[name]["tac"]["person_sizes"], abs=1e-4)
        assert 3 * here[name]["tac"]["pixels"] == pytest.approx(there[name]["tac"]["pixels"], abs=1e-2)
        assert here[name]["coverage"]["joint"] == there[name]["coverage"]["joint"]
    name = "constant_covariance"
    assert here[name]["difference"]["nll"]["value"] == pytest.approx(
        here["model"]["nll"]["pixels"] - here[name]["nll"]["pixels"]
    )


def test_unlabelled_joints_and_people_do_not_count():
    people = crowd(count=120)
    junk = np.where(people["labelled"][..., None], people["truth"], -1e6)
    empty = np.concatenate([people["labelled"], np.zeros((1, 3), dtype=bool)])
    more = {key: np.concatenate([value, value[:1]]) for key, value in people.items() if isinstance(value, np.ndarray)}
    more["truth"][:-1] = junk
    more["people"] = people["people"][np.append(np.arange(120), 0)]
    assert evaluation.evaluate(**{**people, **more, "labelled": empty}) == evaluation.evaluate(**people)
    with pytest.raises(PosecovError, match="labelled joint"):
        evaluation.evaluate(**{**people, "labelled": np.zeros((120, 3), dtype=bool)})


def test_a_calibrated_law_is_calibrated_by_every_figure(report):
    model = report["laws"]["model"]
    for mass in report["coverage_band"]:
        nominal = float(mass) / 100
        for name in ("limbs", "by_sigma_thirds"):
            np.testing.assert_allclose(model["coverage"][name][mass], nominal, atol=0.08)
        assert len(model["coverage"]["by_sigma_thirds"][mass]) == 3
        assert model["coverage"]["limbs_deviation"][mass] < 0.08
        for kind, facts in (("coverage_of_joints", report["joints"]), ("coverage_of_limbs", report["limbs"])):
            assert model[kind].keys() == facts.keys()
            for name, fact in facts.items():
                assert fact["coverage_band"][mass] == list(metrics.binomial_band(fact["labelled"], nominal))
                assert model[kind][name][mass] == pytest.approx(nominal, abs=0.08)
    for curve in (model["reliability"]["joint"], *model["reliability"]["of_joints"], *model["reliability"]["of_limbs"]):
        np.testing.assert_allclose(curve, evaluation.LEVELS, atol=0.09)
    np.testing.assert_allclose(model["sigma_bins"]["error"], model["sigma_bins"]["sigma"], rtol=0.5)


def test_the_new_figures_tell_the_rivals_from_the_model(report):
    model, constant, correlation = (report["laws"][name] for name in ("model", *evaluation.RIVALS))
    assert constant["difference"]["energy_score"]["interval"][1] < 0
    assert abs(correlation["difference"]["energy_score"]["value"]) < 0.02 * model["energy_score"]["pixels"]
    assert model["energy_score"]["draws"] == 96
    assert model["energy_score"]["standard_error_of_draws"] < 0.05 * model["energy_score"]["pixels"]
    # A constant sigma tells one joint from another at best, our own sigmas tell people apart too.
    for key in ("left_at_80", "relative_area"):
        assert model["risk_coverage"][key] < constant["risk_coverage"][key] - 0.05
        assert model["risk_coverage"][f"perfect_{key}"] < model["risk_coverage"][key]
    risk = model["risk_coverage"]
    assert risk["risk"][-1] == risk["perfect"][-1] == risk["kept"][-1] == 1
    assert risk["risk"][risk["kept"].index(0.8)] == pytest.approx(risk["left_at_80"], abs=1e-5)
    assert risk["area"] == pytest.approx(risk["relative_area"] * report["mean_error"]["person_sizes"])


def test_heads_make_pckh():
    people = crowd(count=60)
    assert evaluation.evaluate(**people)["pckh"] is None
    head = people["sizes"] / 8
    head[::2] = np.nan
    found = evaluation.evaluate(**people, head=head)["pckh"]
    kept = np.flatnonzero(np.isfinite(head) & people["labelled"].any(axis=1))
    assert found["people"] == len(kept)
    errors = metrics.keypoint_errors(people["people"].mean.reshape(-1, 3, 2), people["truth"], people["labelled"])
    for threshold in (0.5, 0.1):
        hits = errors[kept] < threshold * head[kept, None]
        assert found[f"{threshold}"]["mean"] == pytest.approx(hits.sum() / people["labelled"][kept].sum())
        assert found[f"{threshold}"]["per_joint"]["knee"] == pytest.approx(hits[:, 1].sum() / people["labelled"][kept, 1].sum())


def test_a_report_is_strict_json_and_a_table(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    text = evaluation.markdown(report)
    for line in (
        "| 400 people | model | constant covariance | our sigmas, constant correlation |",
        "| hip | 0.",
        "| TAC, picture",
    ):
        assert line in text
    assert f"{report['laws']['model']['nll']['pixels']:.2f}" in text


def test_few_people_or_none_of_a_joint_still_give_a_report():
    people = crowd(count=10, dof=math.inf)
    people["labelled"][:, 2] = False
    people["torso"][:] = np.nan
    people["sizes"] /= 6
    report = evaluation.evaluate(**people)
    assert list(report["laws"]) == ["model"]
    assert report["degrees_of_freedom"] is report["pck"]["per_joint"]["ankle"] is None
    assert "10 people are too few" in report["rivals_missing"]
    json.dumps(report, allow_nan=False)
    assert report["joints"]["ankle"]["labelled"] == report["limbs"]["knee - ankle"]["labelled"] == 0
    assert report["laws"]["model"]["coverage_of_limbs"]["knee - ankle"]["50"] is None
    text = evaluation.markdown(report)
    assert "| degrees of freedom | inf |" in text
    assert "left out: ankle." in text
    assert "\n| ankle" not in text
    # Without a torso the person's box is the unit of PCK.
    errors = np.linalg.norm(people["people"].mean.reshape(-1, 3, 2) - people["truth"], axis=-1)[:, :2]
    kept = people["labelled"][:, :2]
    hits = (errors < 0.1 * people["sizes"][:, None])[kept]
    assert report["pck"]["mean"] == pytest.approx(hits.mean())
    assert 0 < hits.mean() < 1
    assert "| joint | PCK@0.1 of the box |" in text


def test_a_joint_that_nobody_has_or_hardly_anybody_spoils_nothing():
    people = crowd(count=120)
    people["labelled"][:, 2] = False
    report = evaluation.evaluate(**people)
    assert list(report["laws"]) == ["model", *evaluation.RIVALS]
    # As if the skeleton did not have it.
    short = Skeleton("short", ("hip", "knee"), limbs=(("hip", "knee"),))
    fewer = {"skeleton": short, "truth": people["truth"][:, :2], "labelled": people["labelled"][:, :2]}
    alone = evaluation.evaluate(**people | fewer | {"people": people["people"].marginal(np.arange(4))})
    for name in alone["laws"]:
        for key in ("nll", "tac", "coverage_of_limbs"):
            found = report["laws"][name][key]
            for kind, value in alone["laws"][name][key].items():
                assert found[kind] == pytest.approx(value, rel=1e-6), (name, key, kind)
    people["labelled"][:5, 2] = True
    report = evaluation.evaluate(**people)
    assert list(report["laws"]) == ["model"]
    assert "only 5 people have" in report["rivals_missing"]
    assert f"No rivals: {report['rivals_missing']}." in evaluation.markdown(report)


def test_figures_of_an_older_release_still_make_tables():
    old = json.loads(resources.find("weights/figures/posecov-lsp14-small-evaluation.json").read_text())
    for figures in old["laws"].values():
        for new in ("energy_score", "risk_coverage", "reliability", "coverage_of_joints", "coverage_of_limbs", "sigma_bins"):
            figures.pop(new, None)
    for new in ("pckh", "oks", "joints", "limbs"):
        old.pop(new, None)
    text = evaluation.markdown(old)
    assert "| TAC, picture pixels | " in text
    assert "energy" not in text
