"""The report on people drawn from a mixture over exchanges, whose law is known."""

import dataclasses
import json
import math

import numpy as np
import pytest

from posecov import evaluation, metrics
from posecov.errors import PosecovError
from posecov.evaluation.conditioning import conditioning_figures
from posecov.evaluation.confusion import confusion_figures
from posecov.evaluation.uncertainty import Noise, People
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.law import Law
from posecov.mixture import Mixture
from posecov.skeleton import Skeleton

LEGS = Skeleton(
    "legs",
    ("r_hip", "l_hip", "r_foot", "l_foot"),
    flip_pairs=(("r_hip", "l_hip"), ("r_foot", "l_foot")),
    limbs=(("r_hip", "l_hip"), ("r_hip", "r_foot"), ("l_hip", "l_foot")),
)
EXCHANGES = exchanges_of(LEGS)
NAMES = [exchange.name for exchange in EXCHANGES]
ORDERS = coordinate_orders(EXCHANGES)
ALL = [*evaluation.RIVALS, *evaluation.MIXTURE_RIVALS]


def crowd(count=600, seed=0, dof=5.0, missing=0.1, varied=True):
    """People drawn from a mixture: feet apart, exchanges between 0 and 0.9 likely, correlations that differ if ``varied``."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(80, 200, count)
    mean = np.array([-0.2, 0.0, 0.2, 0.0, -0.3, 1.0, 0.3, 1.0]) * sizes[:, None] + rng.uniform(0, 400, (count, 1))
    root = np.eye(8) + 0.5 * rng.standard_normal((count if varied else 1, 8, 8))
    correlation = root @ np.swapaxes(root, 1, 2)
    diagonal = np.sqrt(np.diagonal(correlation, axis1=1, axis2=2))
    correlation = correlation / (diagonal[:, :, None] * diagonal[:, None, :])
    sigma = (0.03 * np.exp(0.5 * rng.standard_normal((count, 4)))).repeat(2, axis=1) * sizes[:, None]
    scatter = sigma[:, :, None] * correlation * sigma[:, None, :]
    wrong = rng.beta(0.4, 1.2, count)[:, None]
    weights = np.concatenate([1 - wrong, wrong * [0.3, 0.7]], axis=1)
    people = Mixture.of_exchanges(mean, scatter, dof, weights, ORDERS)
    labelled = rng.random((count, 4)) >= missing
    labelled[:, 2] = True
    truth = np.where(labelled[..., None], people.sample(rng, 1)[0].reshape(count, 4, 2), np.nan)
    return {
        "people": people,
        "truth": truth,
        "labelled": labelled,
        "sizes": sizes,
        "torso": sizes / 3,
        "skeleton": LEGS,
        "exchanges": NAMES,
        "resamples": 100,
        "draws": 96,
    }


@pytest.fixture(scope="module")
def report():
    return evaluation.evaluate(**crowd())


def test_the_law_of_its_own_samples_beats_every_rival(report):
    laws = report["laws"]
    assert list(laws) == ["model", *ALL]
    for name in ALL:
        assert laws[name]["difference"]["nll"]["interval"][1] < 0, name
    assert laws["constant_correlation"]["difference"]["nll"]["value"] < -1
    # A part of each gap is the scatter's, another the weights': each rival lacks only one of them.
    both = laws["constant_correlation"]["difference"]["nll"]["value"]
    for name in evaluation.MIXTURE_RIVALS:
        assert both < laws[name]["difference"]["nll"]["value"] < -0.1
    for name in evaluation.RIVALS:
        assert laws[name]["difference"]["tac"]["value"] < 0
        assert laws[name]["difference"]["energy_score"]["interval"][1] < 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_it_is_calibrated_by_every_figure(report):
    model = report["laws"]["model"]
    for mass in report["coverage_band"]:
        nominal = float(mass) / 100
        low, high = metrics.binomial_band(600, nominal, 0.999)
        assert low <= model["coverage"]["joint"][mass] <= high
        for name in ("per_joint", "limbs", "by_sigma_thirds"):
            np.testing.assert_allclose(model["coverage"][name][mass], nominal, atol=0.06)
    np.testing.assert_allclose(model["reliability"]["joint"], evaluation.LEVELS, atol=0.07)
    # The means are those without exchange; the second moments about them hold the exchanges too.
    np.testing.assert_allclose(model["sigma_bins"]["error"], model["sigma_bins"]["sigma"], rtol=0.5)


def test_probabilities_of_exchanges_are_found_as_predicted(report):
    confusion, people = report["confusion"], crowd()["people"]
    assert list(confusion["exchanges"]) == NAMES == ["none", "leg", "foot"]
    for k, facts in enumerate(confusion["exchanges"].values()):
        assert facts["weight"] == pytest.approx(people.weights[:, k].mean())
        assert facts["responsibility"] == pytest.approx(facts["weight"], abs=0.05)
        assert facts["likeliest"] == pytest.approx(facts["weight"], abs=0.06)
    whole = confusion["exchanged"]
    assert whole["difference"]["interval"][0] < 0 < whole["difference"]["interval"][1]
    assert whole["decided"] > 0.8
    assert whole["rank_correlation"] > 0.5
    assert confusion["calibration_error"] < 0.06
    assert sum(row["people"] for row in confusion["bins"]) == 600
    for row in confusion["bins"]:
        assert abs(row["found"] - row["predicted"]) < 3 * row["standard_error"]
    assert [row["predicted"] for row in confusion["bins"]] == sorted(row["predicted"] for row in confusion["bins"])


def test_probabilities_that_are_wrong_are_told_so():
    crowd_of = crowd()
    people, values = crowd_of["people"], metrics.label_values(crowd_of["truth"], crowd_of["labelled"])
    wrong = dataclasses.replace(people, weights=np.broadcast_to([0.98, 0.01, 0.01], people.weights.shape))
    found = confusion_figures(wrong, values, NAMES, 100, 0)
    assert found["exchanged"]["difference"]["interval"][0] > 0.05
    assert found["calibration_error"] > 0.1
    # A third of people in one bin at least: few people make few bins.
    assert len(confusion_figures(wrong[:30], values[:30], NAMES, 10, 0)["bins"]) == 1


def test_average_weights_are_everybodys():
    people = crowd(50)["people"]
    rival = evaluation.average_weights_rival(people)
    np.testing.assert_allclose(rival.weights, np.broadcast_to(people.weights.mean(axis=0), (50, 3)))
    np.testing.assert_array_equal(rival.scatter, people.scatter)


def log_likelihood(residuals, weights, scatter, nu):
    one = Law(np.zeros(residuals.shape[-1]), scatter, nu)
    densities = np.exp(-one.negative_log_likelihood(residuals))
    return float(np.log((weights * densities).sum(axis=1)).mean())


@pytest.mark.parametrize("dof", [5.0, math.inf])
def test_nothing_near_the_mixtures_fit_is_likelier(dof):
    of = crowd(400, dof=dof, varied=False)
    people, values = of["people"], metrics.label_values(of["truth"], of["labelled"])
    units = np.sqrt(np.diagonal(people.scatter[:, 0], axis1=1, axis2=2))[:, None, :]
    residuals = (values[:, ORDERS] - people.mean[:, None]) / units
    true = people.scatter[0, 0] / (units[0].T * units[0])
    held = None if math.isfinite(dof) else dof
    scatter, nu = evaluation.fit_mixture(residuals, np.log(people.weights), held, (true, 8.0))
    best = log_likelihood(residuals, people.weights, scatter, nu)
    rng = np.random.default_rng(1)
    for _ in range(30):
        nudge = np.eye(8) + 0.01 * rng.standard_normal((8, 8))
        assert log_likelihood(residuals, people.weights, nudge @ scatter @ nudge.T, nu) < best
    if held is None:
        for step in (0.98, 1.02):
            assert log_likelihood(residuals, people.weights, scatter, step * nu) < best
        assert nu == pytest.approx(dof, rel=0.4)
    # It is that of the samples, and the single law's fit, as a start, leads to it as well.
    np.testing.assert_allclose(scatter, true, atol=0.25)
    again, _ = evaluation.fit_mixture(residuals, np.log(people.weights), held, evaluation.fit_student_t(residuals[:, 0], held))
    np.testing.assert_allclose(again, scatter, atol=0.01)


def test_the_single_rival_takes_the_better_of_the_mixtures_sigmas():
    of = crowd(400)
    people, values = of["people"], metrics.label_values(of["truth"], of["labelled"])
    found = evaluation.constant_correlation_rival(people, values).negative_log_likelihood(values).mean()
    # As the rivals of single laws with either sigmas.
    kinds = (Law(people.mean, people.scatter[:, 0], 5.0), Law.from_covariance(people.mean, people.covariance, 5.0))
    either = [evaluation.constant_correlation_rival(one, values).negative_log_likelihood(values).mean() for one in kinds]
    assert abs(either[0] - either[1]) > 0.1
    assert found == pytest.approx(min(either), abs=1e-4)


def test_the_mixture_rival_sees_only_the_other_half_and_the_models_weights():
    of = crowd(300)
    people, values = of["people"], metrics.label_values(of["truth"], of["labelled"])
    rival = evaluation.mixture_constant_correlation_rival(people, values)
    np.testing.assert_array_equal(rival.weights, people.weights)
    units = np.sqrt(np.diagonal(people.scatter[:, 0], axis1=1, axis2=2))
    constant = rival.scatter[:, 0] / (units[:, :, None] * units[:, None, :])
    for fold in (0, 1):
        np.testing.assert_allclose(constant[fold::2], np.broadcast_to(constant[fold], (150, 8, 8)))
    changed = np.where(np.arange(300)[:, None] % 2 == 1, values + 3, values)
    other = evaluation.mixture_constant_correlation_rival(people, changed)
    np.testing.assert_allclose(other.scatter[1::2], rival.scatter[1::2])
    assert not np.allclose(other.scatter[::2], rival.scatter[::2], rtol=0.05)
    with pytest.raises(PosecovError, match="over exchanges"):
        evaluation.mixture_constant_correlation_rival(people.part([0, 1]), values)


def test_a_mixture_of_one_component_reports_what_the_single_law_does():
    of = crowd(200)
    single = Law(of["people"].mean, of["people"].scatter[:, 0], 5.0)
    sure = Mixture.of_exchanges(single.mean, single.scatter, 5.0, np.ones((200, 1)), ORDERS[:1])
    reports = [evaluation.evaluate(**of | {"people": people}) for people in (single, sure)]
    assert [list(found["laws"]) for found in reports] == [["model", *evaluation.RIVALS]] * 2
    assert reports[0]["confusion"] is reports[1]["confusion"] is None
    first, second = (found["laws"]["model"] for found in reports)
    for key in ("nll", "tac", "energy_score", "coverage", "rank_correlation", "sharpness"):
        if isinstance(first[key], dict) and key != "coverage":
            numbers = [[v for v in one[key].values() if isinstance(v, float)] for one in (first, second)]
            np.testing.assert_allclose(*numbers, rtol=1e-6)
    assert first["coverage"] == second["coverage"]
    assert first["energy_score"]["pixels"] == pytest.approx(second["energy_score"]["pixels"])


def test_a_known_foot_moves_the_others_as_the_law_says(report):
    assert list(report["conditioning"]) == ["r_foot", "l_foot"]
    facts = report["conditioning"]["r_foot"]
    assert facts["limbs"] == "leg"
    assert facts["joints"] == ["r_hip", "l_hip", "l_foot"]
    after = facts["after"]
    assert after["model"]["pixels"] < 0.8 * facts["before"]["pixels"]
    for name in evaluation.RIVALS:
        assert after[name]["difference"]["value"] == pytest.approx(after["model"]["pixels"] - after[name]["pixels"])
        assert after[name]["difference"]["interval"][1] < 0
    assert "| r_foot: other leg joints |" in evaluation.markdown(report)


@pytest.mark.parametrize("single", [True, False])
def test_conditioning_is_person_by_person_as_a_pose_does_it(single):
    of = crowd(40, missing=0.3)
    of["labelled"][:10, 2] = False
    values = metrics.label_values(of["truth"], of["labelled"])
    law = Law(of["people"].mean, of["people"].scatter[:, 0], 5.0) if single else of["people"]
    errors = metrics.keypoint_errors(law.mean.reshape(-1, 4, 2), of["truth"], of["labelled"])
    people = People(values, errors, of["sizes"], of["torso"], None, LEGS.keypoints, [])
    found = conditioning_figures({"model": law}, people, LEGS, Noise(10, 10, 0))["r_foot"]
    before, after = [], []
    for n in range(10, 40):
        conditioned = law[n].condition([4, 5], values[n, 4:6])
        mean = np.insert(conditioned.mean, 4, values[n, 4:6]).reshape(4, 2)
        for joint in (0, 1, 3):
            if of["labelled"][n, joint]:
                before.append(errors[n, joint])
                after.append(np.linalg.norm(mean[joint] - of["truth"][n, joint]))
    assert found["before"]["pixels"] == pytest.approx(np.mean(before))
    assert found["after"]["model"]["pixels"] == pytest.approx(np.mean(after))


def test_tables_and_page_hold_the_new_sections(report, tmp_path):
    text = evaluation.markdown(report)
    for line in (
        "| average weights | mixture, constant correlation |",
        "| foot | ",
        "| **any exchange** | ",
        "Exchanges found minus",
    ):
        assert line in text
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    source = {"model": "legs", "weights": "legs.onnx", "sha256": "0", "dataset": "made"}
    page = evaluation.write_report(tmp_path / "page", report, source)
    assert "Left or right?" in page.read_text()
    assert (tmp_path / "page" / "plots" / "confusion.svg").stat().st_size > 1000
