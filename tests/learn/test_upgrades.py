"""Models and checkpoints that earlier code wrote give the numbers that stand beside them, or are refused by name."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from posecov.errors import PosecovError
from posecov.learn.backbone import normalisation
from posecov.learn.checkpoint import load_checkpoint, save_checkpoint
from posecov.learn.config import TrainConfig, load_config
from posecov.learn.export import Exported, degrees_of_freedom, load_model, normalise
from posecov.learn.run import Run
from posecov.learn.teacher import Teacher
from posecov.learn.upgrades import upgraded_settings
from posecov.model import PoseModel as OnnxModel

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
RELEASES = ("first", "mixtures", "present")


@pytest.fixture(params=RELEASES)
def release(request, tmp_path) -> Path:
    """The folder of a release's files, unpacked."""
    for packed in (FIXTURES / request.param).glob("*.xz"):
        (tmp_path / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    (tmp_path / "numbers.npz").write_bytes((FIXTURES / request.param / "numbers.npz").read_bytes())
    return tmp_path


def _numbers(release: Path) -> dict[str, np.ndarray]:
    with np.load(release / "numbers.npz", allow_pickle=False) as numbers:
        return dict(numbers)


def test_a_model_gives_its_releases_numbers(release):
    numbers, model = _numbers(release), OnnxModel(release / "model.onnx", threads=1)
    found = model.outputs(numbers["crops"], batch=2)
    assert set(found) == set(numbers) - {"crops", "degrees_of_freedom"}
    np.testing.assert_allclose(found["keypoints"], numbers["keypoints"], atol=1e-3)
    for name in set(found) - {"keypoints"}:
        np.testing.assert_allclose(found[name], numbers[name], rtol=1e-3, atol=1e-3 * np.abs(numbers[name]).max())
    assert model.metadata.degrees_of_freedom == pytest.approx(float(numbers["degrees_of_freedom"]))


def test_a_checkpoint_gives_its_releases_numbers(release):
    numbers = _numbers(release)
    model, config, _ = load_model(release / "checkpoint.safetensors")
    exported = Exported(model, degrees_of_freedom(model, config))
    with torch.inference_mode():
        found = exported(normalise(torch.from_numpy(numbers["crops"]), *normalisation(config.model.backbone)))
    for name, value in zip(exported.outputs, found, strict=True):
        np.testing.assert_allclose(
            value.numpy(), numbers[name], rtol=1e-4, atol=1e-5 * np.abs(numbers[name]).max(), err_msg=name
        )
    assert degrees_of_freedom(model, config) == pytest.approx(float(numbers["degrees_of_freedom"]))


def test_windows_matter_to_these_numbers(release):
    """Otherwise the tests above could not tell a wrong one."""
    model, config, _ = load_model(release / "checkpoint.safetensors")
    crops = normalise(torch.from_numpy(_numbers(release)["crops"]), *normalisation(config.model.backbone))
    with torch.inference_mode():
        before = model.mean(crops).mean
        model.mean_head.reach = 20.0 if model.mean_head.reach == float("inf") else float("inf")
        assert (model.mean(crops).mean - before).abs().max() > 0.1


def test_a_checkpoint_teaches_with_its_own_window(release):
    path = release / "checkpoint.safetensors"
    with safe_open(str(path), framework="pt") as file:
        said = json.loads(file.metadata()["posecov"])["config"]["model"].get("window", 0)
    teacher = Teacher(path, TrainConfig(model=load_model(path)[1].model), 14, torch.device("cpu"))
    assert teacher.model.config.window == said


def test_a_file_of_a_later_release_is_refused_by_its_version(release):
    path = release / "later.safetensors"
    save_file({"w": torch.ones(1)}, path, metadata={"posecov": json.dumps({"format": 7})})
    with pytest.raises(PosecovError, match=r"later\.safetensors: checkpoint format 7, this posecov reads 1; a newer posecov"):
        load_checkpoint(path)


def test_the_first_releases_settings_are_found_under_their_new_names():
    earlier = {"model": {"latent": 4}, "covariance": {"wasserstein_epochs": 3, "nll_epochs": 4, "taylor_share": 0.2}}
    config = TrainConfig.from_dict(upgraded_settings(earlier), "earlier")
    assert (config.covariance.phase1_epochs, config.covariance.phase2_epochs) == (3, 4)
    assert config.covariance.phase2_loss == "student-t"
    assert config.model.window == 0
    assert earlier["covariance"]["nll_epochs"] == 4
    assert upgraded_settings(TrainConfig().to_dict()) == TrainConfig().to_dict()


@pytest.mark.parametrize("wrong", [None, 7, "covariance", ["wasserstein_epochs"], True])
def test_settings_that_are_no_group_are_refused_by_name(tmp_path, wrong):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {}, {"part": "covariance", "config": TrainConfig().to_dict() | {"covariance": wrong}})
    with pytest.raises(PosecovError, match=r"a\.safetensors: .*covariance"):
        load_model(path)


def test_a_recipe_with_an_earlier_name_is_told_the_new_one(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("covariance: {nll_epochs: 3}")
    with pytest.raises(
        PosecovError, match=r"unknown setting covariance\.nll_epochs; it is called covariance\.phase2_epochs now$"
    ):
        load_config(recipe)


def test_a_run_of_an_earlier_release_names_the_setting_that_has_another_default(tmp_path):
    save_checkpoint(tmp_path / "last.safetensors", {}, {})
    (tmp_path / "config.yaml").write_text("model: {latent: 32}")
    with pytest.raises(PosecovError, match=r"config\.yaml: .* another setting model\.window \(0, now 2\)"):
        Run.open(TrainConfig(out=str(tmp_path)))
