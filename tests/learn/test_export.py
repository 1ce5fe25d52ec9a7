import copy
import dataclasses
import math

import numpy as np
import onnx
import pytest
import torch

from posecov import PoseEstimator, doctor
from posecov.errors import PosecovError
from posecov.learn import export as exporting
from posecov.learn.build import build_model
from posecov.learn.calibration import calibrate, shrink
from posecov.learn.calibration.checkpoint import calibrate_checkpoint
from posecov.learn.checkpoint import load_checkpoint, part, save_checkpoint
from posecov.learn.covariance_training import law_of
from posecov.learn.export import Exported, degrees_of_freedom, export, load_model
from posecov.learn.parity_crops import parity_crops
from posecov.model import PoseModel as OnnxModel
from posecov.skeleton import load_skeleton


@pytest.fixture(scope="module")
def trained(tiny_run):
    return load_model(tiny_run.best)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    model, config, _ = trained
    crops, _ = parity_crops(config, "", 15)
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    return path, export(model, config, crops, path, {"data": ["drawn"]})


def test_parity_and_metadata(trained, exported):
    path, measured = exported
    assert measured.crops == 15
    assert measured.keypoints < exporting.KEYPOINT_TOLERANCE
    assert measured.covariance < exporting.COVARIANCE_TOLERANCE
    assert measured.weights < exporting.WEIGHT_TOLERANCE
    assert measured.agrees
    assert not dataclasses.replace(measured, weights=math.nan).agrees
    metadata = OnnxModel(path, threads=1).metadata
    assert metadata.degrees_of_freedom == pytest.approx(degrees_of_freedom(trained[0], trained[1]))
    assert metadata.skeleton.name == "lsp14"
    assert [exchange.name for exchange in metadata.exchanges][:3] == ["none", "leg", "lower leg"]
    assert metadata.input_size == 64
    assert metadata.description["data"] == ["drawn"]
    # `posecov doctor` finds what torch had got for its drawn person, and agrees.
    assert [finding.verdict for finding in doctor.parity(path)] == [True, True]


def test_the_file_is_self_contained_and_names_no_machine(exported):
    proto = onnx.load(str(exported[0]), load_external_data=False)
    assert not any(init.data_location == onnx.TensorProto.EXTERNAL for init in proto.graph.initializer)
    assert b"site-packages" not in exported[0].read_bytes()


def test_covariance_is_the_laws_second_moment(trained):
    model, config, _ = trained
    nu = degrees_of_freedom(model, config)
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        keypoints, covariance, scatter, weights = Exported(model, nu)(image)
        mean, predicted = model(image)
    people = law_of(model, mean.double().numpy(), predicted, config.covariance)
    np.testing.assert_allclose(covariance, people.covariance, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(scatter, people.scatter[:, 0], rtol=1e-6)
    np.testing.assert_allclose(weights, people.weights, rtol=1e-5)
    np.testing.assert_allclose(keypoints.flatten(1), people.mean, rtol=1e-6)


def test_second_moments_of_exchanges_far_apart_are_a_covariance_in_float32(trained):
    model = copy.deepcopy(trained[0])
    head = model.covariance_head
    with torch.no_grad():
        head.ellipse_bias.fill_(-1e3)
        head.calibration.fill_(0.05)
        head.start_taylor.zero_()
        model.mean_head.maps.weight.mul_(1e3)
        _, covariance, scatter, weights = Exported(model, 6.0)(torch.randn(6, 3, 64, 64))
    assert (weights.max(dim=1).values < 0.99).all()
    for matrix in (*covariance.numpy(), *scatter.numpy()):
        np.linalg.cholesky((matrix + matrix.T) / 2)


def test_a_single_law_has_two_outputs(trained, tmp_path):
    covariance = dataclasses.replace(trained[1].covariance, phase2_loss="student-t")
    config = dataclasses.replace(trained[1], covariance=covariance)
    torch.manual_seed(0)
    model = build_model(config, load_skeleton("lsp14")).eval()
    out = tmp_path / "single.onnx"
    export(model, config, parity_crops(config, "", 2)[0], out, {})
    deployed = OnnxModel(out, threads=1)
    assert deployed.metadata.exchanges == ()
    nu = degrees_of_freedom(model, config)
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, spread = Exported(model, nu)(image)
        torch.testing.assert_close(spread, model(image)[1].scatter * nu / (nu - 2))


def test_runs_through_the_estimator(exported, data_root):
    pose = PoseEstimator(exported[0], threads=1)(data_root / "drawing0.jpg", boxes=[[20, 20, 120, 200]])[0]
    assert pose.components is not None
    assert pose.components.components == 8
    assert pose.covariance.shape == (28, 28)
    assert (np.linalg.eigvalsh(pose.covariance.astype(np.float64)) > 0).all()


def test_a_model_that_disagrees_is_not_written(trained, tmp_path, monkeypatch):
    model, config, _ = trained
    out = tmp_path / "model.onnx"
    out.write_text("what was there")
    original = exporting.Exported.forward
    honest = exporting.to_onnx(model, config, {})
    monkeypatch.setattr(exporting, "to_onnx", lambda *_: honest)

    def moved(self, image):
        keypoints, *rest = original(self, image)
        return keypoints + 0.01, *rest

    monkeypatch.setattr(exporting.Exported, "forward", moved)
    with pytest.raises(PosecovError, match=r"disagree by 0\.01"):
        export(model, config, parity_crops(config, "", 2)[0], out, {})
    assert out.read_text() == "what was there"


def test_untrained_and_foreign_checkpoints_are_refused(tmp_path):
    save_checkpoint(tmp_path / "mean.safetensors", {"model/w": torch.ones(1)}, {"part": "mean"})
    with pytest.raises(PosecovError, match="holds no trained covariance"):
        load_model(tmp_path / "mean.safetensors")
    with pytest.raises(PosecovError, match="no such checkpoint"):
        load_model(tmp_path / "nothing.safetensors")


def _people(count, factor, nu, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(count, 6, 6))
    scatter = root @ np.swapaxes(root, 1, 2) + np.eye(6)
    draws = np.einsum("nij,nj->ni", np.linalg.cholesky(scatter), rng.normal(size=(count, 6)))
    if not math.isinf(nu):
        draws /= np.sqrt(rng.chisquare(nu, size=(count, 1)) / nu)
    return draws * np.repeat(factor, 2), scatter


@pytest.mark.parametrize("nu", [5.0, math.inf])
def test_calibration_recovers_scale_and_degrees_of_freedom(nu):
    residuals, scatter = _people(3000, np.array([2.0, 2.0, 2.0]), nu)
    found = calibrate(residuals, scatter, 9.0 if math.isfinite(nu) else nu)
    np.testing.assert_allclose(found.factor, 2.0, rtol=0.06)
    assert math.isinf(found.degrees_of_freedom) if math.isinf(nu) else found.degrees_of_freedom == pytest.approx(5.0, rel=0.2)
    assert found.after < found.before


def test_calibration_tells_joints_apart_and_ignores_missing_labels():
    residuals, scatter = _people(3000, np.array([0.8, 1.0, 1.25]), 6.0)
    residuals[::3, :2] = np.nan
    found = calibrate(residuals, scatter, 6.0)
    np.testing.assert_allclose(found.factor, [0.8, 1.0, 1.25], rtol=0.06)


def test_calibration_shrinks_correlations_that_are_too_strong():
    rng = np.random.default_rng(0)
    truth = np.eye(8) + 0.5 * (1 - np.kron(np.eye(4), np.ones((2, 2))))
    claimed = np.repeat((np.eye(8) + 0.8 * (1 - np.kron(np.eye(4), np.ones((2, 2)))))[None], 2000, axis=0)
    values, vectors = np.linalg.eigh(claimed)
    claimed = (vectors * np.maximum(values, 0.1)[:, None]) @ np.swapaxes(vectors, 1, 2)
    values, vectors = np.linalg.eigh(truth)
    residuals = rng.normal(size=(2000, 8)) * np.sqrt(np.maximum(values, 0.1)) @ vectors.T
    found = calibrate(residuals, claimed, math.inf)
    assert found.shrinkage > 0
    assert calibrate(*_people(2000, np.ones(3), math.inf), math.inf).shrinkage <= 0.1
    shrunk = shrink(claimed, found.shrinkage)
    np.testing.assert_allclose(shrunk[:, :2, :2], claimed[:, :2, :2])
    np.testing.assert_allclose(shrunk[:, :2, 2:], (1 - found.shrinkage) * claimed[:, :2, 2:])


def test_calibration_needs_people():
    with pytest.raises(PosecovError, match="at least 50"):
        calibrate(*_people(20, np.ones(3), 6.0), 6.0)


def test_calibrated_checkpoint_exports_what_was_found(tiny_run, tmp_path):
    out = tmp_path / "calibrated.safetensors"
    adapted, found = calibrate_checkpoint(tiny_run.best, out, "", epochs=2)
    assert len(adapted.nll) == 3
    assert adapted.nll[adapted.epochs] == min(adapted.nll)
    trained = part("model", load_checkpoint(tiny_run.best)[0])
    model, config, facts = load_model(out)
    np.testing.assert_allclose(model.covariance_head.calibration.numpy(), found.factor, rtol=1e-6)
    exchange = model.covariance_head.exchange
    assert (exchange.temperature.item(), exchange.shift.item()) == pytest.approx((found.temperature, found.shift), rel=1e-5)
    assert degrees_of_freedom(model, config) == pytest.approx(found.degrees_of_freedom, rel=1e-5)
    for name, value in model.state_dict().items():
        assert name.startswith("covariance_head.") or torch.equal(value, trained[name]), name
    assert facts["description"]["adapted_epochs"] == adapted.epochs
    assert facts["description"]["validation_nll"]["after"] <= facts["description"]["validation_nll"]["before"]
    with pytest.raises(PosecovError, match="calibrated already"):
        calibrate_checkpoint(out, tmp_path / "again.safetensors", "")
    assert load_checkpoint(tiny_run.best)[1]["part"] == "covariance"


def test_a_gaussian_run_stays_gaussian(trained):
    model, config, _ = trained
    gaussian = dataclasses.replace(config, covariance=dataclasses.replace(config.covariance, degrees_of_freedom=math.inf))
    assert math.isinf(degrees_of_freedom(model, gaussian))
