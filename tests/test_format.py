"""What deploy/FORMAT.md says is so."""

import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tiny_model import EXCHANGING, POINTS, WEIGHTS, picture, write_model

from posecov import PoseEstimator, law, metadata, regions
from posecov.exchanges import Exchange, coordinate_orders
from posecov.geometry import crop_map
from posecov.mixture import Mixture
from posecov.skeleton import Skeleton

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
TEXT = (DEPLOY / "FORMAT.md").read_text()
CONSUMER = DEPLOY / "examples" / "consumer.py"


@pytest.fixture(scope="module")
def worked():
    return json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])


@pytest.fixture(scope="module")
def people(worked):
    exchanges = [Exchange(str(k), tuple(p)) for k, p in enumerate(worked["permutations"])]
    mean, scatter, nu, weights = (worked[key] for key in ("mean", "scatter", "degrees_of_freedom", "weights"))
    return Mixture.of_exchanges(mean, scatter, float(nu), weights, coordinate_orders(exchanges))


@pytest.fixture(scope="module")
def consumer():
    spec = importlib.util.spec_from_file_location("consumer", CONSUMER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_version_is_the_code_s():
    assert f"**Format {metadata.FORMAT}.**" in TEXT
    assert f"key `{metadata.KEY}`" in TEXT


@pytest.mark.parametrize("kind", [metadata.ModelMetadata, Skeleton, Exchange], ids=lambda kind: kind.__name__)
def test_every_field_is_named(kind):
    written = {field.name for field in dataclasses.fields(kind)}
    if kind is metadata.ModelMetadata:
        written |= set(json.loads(EXCHANGING.to_json()))
        rows = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
        assert written <= rows
    for name in written:
        assert f"`{name}`" in TEXT, name


def test_worked_crop_map():
    size, padding, box = 224, 1.1, np.array([40, 20, 120, 300])
    assert "For S = 224, padding 1.1 and the box 40, 20, 120, 300" in TEXT
    similarity = crop_map(box, size, padding)
    said = [f"{similarity.scale:.6f}", "({:.6f}, {:.6f})".format(*similarity.offset)]
    said += ["({:.1f}, {:.1f})".format(*similarity.points(np.array([100, 170])))]
    said += ["({:.6f}, {:.6f})".format(*similarity.points(np.array([40, 20])))]
    for number in said:
        assert number in TEXT


def test_worked_density(worked, people):
    pose = np.array(worked["pose"], dtype=float)
    squared = law.squared_mahalanobis(pose - people.mean, people.scatters[0])
    assert squared == pytest.approx(worked["squared_distance"], abs=1e-6)
    single = law.negative_log_likelihood(pose - people.means, people.scatters, people.degrees_of_freedom)
    np.testing.assert_allclose(single, worked["negative_log_likelihood_of_components"], atol=1e-6)
    assert people.negative_log_likelihood(pose) == pytest.approx(worked["negative_log_likelihood"], abs=1e-6)
    alone = people.marginal([0, 1]).negative_log_likelihood(pose[:2])
    assert alone == pytest.approx(worked["negative_log_likelihood_of_r"], abs=1e-6)
    assert law.central_mass(squared, 4, people.degrees_of_freedom) == pytest.approx(worked["mass_of_component_0"], abs=1e-6)
    assert people.mass(pose) == pytest.approx(worked["mass"], abs=0.005)
    np.testing.assert_allclose(people.covariance, worked["covariance"], atol=1e-9)


def test_worked_conditional(worked, people):
    found = people.condition([0, 1], worked["known"]["r"])
    np.testing.assert_allclose(found.weights, worked["conditional_weights"], atol=1e-6)
    np.testing.assert_allclose(found.means, worked["conditional_means"], atol=1e-6)
    assert found.degrees_of_freedom == worked["conditional_degrees_of_freedom"]
    # After the click the exchanged pose leads.
    np.testing.assert_allclose(found.scatters[1], worked["conditional_scatter_of_component_0"], atol=1e-6)


def test_worked_ellipses(worked, people):
    said = worked["ellipse_of_r_in_component_0"]
    nu, mass = people.degrees_of_freedom, said["mass"]
    assert nu * ((1 - mass) ** (-2 / nu) - 1) == pytest.approx(said["c"], abs=1e-6)
    assert law.central_radius_squared(mass, 2, nu) == pytest.approx(said["c"], abs=1e-6)
    axes, angle = law.ellipse_axes(people.scatters[0][:2, :2], mass, nu)
    np.testing.assert_allclose([*axes, angle], [*said["semi_axes"], said["angle"]], atol=1e-6)
    said = worked["ellipse_of_r"]
    axes, angle = regions.ellipse_axes(people.marginal([0, 1]), mass)
    np.testing.assert_allclose([*axes, angle], [*said["semi_axes"], said["angle"]], atol=1e-6)


@pytest.mark.parametrize("box", [[80, 60, 120, 130], [-40, -30, 400, 260], [100.5, 70.25, 40, 60]], ids=str)
@pytest.mark.parametrize("mixture", [False, True])
def test_the_consumer_gets_posecov_s_numbers(tmp_path, consumer, mixture, box):
    options = {"metadata": EXCHANGING, "weights": WEIGHTS} if mixture else {}
    path = write_model(tmp_path / "m.onnx", **options)
    image = picture(POINTS, 320, 240)
    expected = PoseEstimator(path, threads=1).outputs(image, np.array([box], dtype=float))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts, found = consumer.estimate(session, image[..., ::-1], box)
    assert facts["name"] == "tiny"
    assert set(found) == set(expected)
    np.testing.assert_allclose(found["keypoints"], expected["keypoints"][0], atol=0.01)
    for name in set(found) - {"keypoints"}:
        np.testing.assert_allclose(found[name], expected[name][0], rtol=1e-6)


def test_the_consumer_runs_from_the_command_line(tmp_path, model_path):
    import cv2

    cv2.imwrite(str(tmp_path / "dots.png"), picture(POINTS, 320, 240))
    command = [sys.executable, str(CONSUMER), str(model_path), str(tmp_path / "dots.png"), "80", "60", "120", "130"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    name, x, y, *_ = done.stdout.splitlines()[0].split()
    assert (name, float(x), float(y)) == ("r_hand", pytest.approx(POINTS[0, 0], abs=0.5), pytest.approx(POINTS[0, 1], abs=0.5))


def test_the_consumer_is_short_and_does_without_posecov():
    lines = [line for line in CONSUMER.read_text().splitlines() if line.strip()]
    assert len(lines) <= 40
    assert not [line for line in lines if re.match(r"\s*(from|import)\s.*posecov", line)]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_the_javascript_consumer_is_javascript():
    subprocess.run(["node", "--check", str(DEPLOY / "examples" / "consumer.mjs")], check=True, timeout=60)
