"""What the README says of a data set of one's own, and data sets that are hardly any."""

import dataclasses
import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from annotation_files import HEIGHT, WIDTH, coco, write_coco, write_pictures
from tiny_recipe import tiny_config

from posecov import PoseEstimator
from posecov.errors import PosecovError
from posecov.law import Law
from posecov.learn.calibration import calibrate_law
from posecov.learn.calibration.checkpoint import calibrate_checkpoint
from posecov.learn.config import TrainConfig, check, load_config
from posecov.learn.covariance_training import _start_scatter
from posecov.learn.datasets import Problems, read_datasets
from posecov.learn.export import export, load_model
from posecov.learn.parity_crops import parity_crops
from posecov.learn.training import load_people, train
from posecov.mixture import Mixture
from posecov.skeleton import Skeleton, load_skeleton

README = Path(__file__).parents[2] / "README.md"


def example() -> dict[str, str]:
    """The three files of the README's example."""
    text = README.read_text(encoding="utf-8").split("### Your own data")[1].split("\n### ")[0]
    blocks = [block.split("```")[0] for block in text.replace("```yaml", "```json").split("```json\n")[1:]]
    return dict(zip(("my/dogs.json", "my/dog.yaml", "my/recipe.yaml"), blocks, strict=True))


def dogs(folder: Path, joints: list[str], count: int = 10, boxes: bool = False) -> Path:
    names = [f"dog{i}.jpg" for i in range(1, count + 1)]
    write_pictures(folder / "photos", names)
    points = np.random.default_rng(2).uniform([20, 20], [WIDTH - 20, HEIGHT - 20], size=(count, len(joints), 2)).round(1)
    document = coco(points, names, joints)
    if not boxes:
        for annotation in document["annotations"]:
            del annotation["bbox"]
    return write_coco(folder / "dogs.json", document)


@pytest.fixture
def own(tmp_path, monkeypatch) -> TrainConfig:
    """The README's example with ten pictures, as a recipe of seconds."""
    monkeypatch.chdir(tmp_path)
    files = example()
    joints = json.loads(files["my/dogs.json"])["categories"][0]["keypoints"]
    dogs(Path("my"), joints)
    for name in ("my/dog.yaml", "my/recipe.yaml"):
        Path(name).write_text(files[name])
    told = load_config("my/recipe.yaml")
    check(told)
    tiny = tiny_config(tmp_path, tmp_path / "run")
    return dataclasses.replace(tiny, name=told.name, skeleton=told.skeleton, data=told.data)


def test_the_readmes_labels_are_read_as_they_stand(tmp_path):
    files = example()
    write_pictures(tmp_path / "photos", ["dog1.jpg"], (320, 240))
    (tmp_path / "dogs.json").write_text(files["my/dogs.json"])
    skeleton = Skeleton.from_dict(yaml.safe_load(files["my/dog.yaml"]))
    (record,) = read_datasets(["dogs.json@photos"], tmp_path, skeleton)
    assert record.labelled.all()
    assert len(skeleton.limbs) == len(skeleton) - 1


def test_ten_pictures_become_a_model(own, caplog):
    """Without a torso, with three people to validate and calibrate on."""
    caplog.set_level(logging.INFO)
    data, mean = dataclasses.replace(own.data, repeat=(1,)), dataclasses.replace(own.mean, epochs=1)
    own = dataclasses.replace(own, data=data, mean=mean)
    run = train(own)
    rows = [row for row in run.history if row["part"] == "mean"]
    assert all(0 <= row["validation_pck"] <= 1 for row in rows)
    assert math.isfinite(run.history[-1]["validation_nll"])
    adapted, found = calibrate_checkpoint(run.best, run.folder / "calibrated.safetensors", "")
    assert "3 validation people tell one factor" in caplog.text
    assert not adapted.nll
    assert np.ptp(found.factor) == 0
    assert found.after <= found.before
    model, config, facts = load_model(run.folder / "calibrated.safetensors")
    assert facts["description"]["calibrated_on"].startswith("3 people of my/dogs.json@my/photos")
    export(model, config, parity_crops(config, "", 4)[0], Path("dogs.onnx"), facts["description"])
    (pose,) = PoseEstimator("dogs.onnx")("my/photos/dog1.jpg", boxes=[[20, 20, 150, 120]])
    assert pose.names == load_skeleton("my/dog.yaml").keypoints
    assert np.isfinite(pose.covariance).all()


def test_the_first_data_set_gives_the_validation_people_unless_told(own):
    assert own.data.validation_from == ""
    people = load_people(own)
    assert (len(people.mean), len(people.validation)) == (7, 3)
    told = dataclasses.replace(own.data, validation_from=own.data.datasets[0])
    assert [r.name for r in load_people(dataclasses.replace(own, data=told)).validation] == [r.name for r in people.validation]


@pytest.mark.parametrize("count", [10, 500])
def test_more_held_out_than_there_are_names_the_setting(own, count):
    own = dataclasses.replace(own, data=dataclasses.replace(own.data, validation_count=count))
    with pytest.raises(PosecovError, match=rf"data\.validation_count: {count} people of my/dogs\.json.*there are 10"):
        load_people(own)


def test_one_joint_needs_a_box(tmp_path):
    dogs(tmp_path, ["nose"], 3)
    skeleton, problems = Skeleton("nose", ("nose",)), Problems()
    with pytest.raises(PosecovError, match="give it a bbox"):
        read_datasets(["dogs.json@photos"], tmp_path, skeleton)
    with pytest.raises(PosecovError, match=r"nobody in it.*give it a bbox"):
        read_datasets(["dogs.json@photos"], tmp_path, skeleton, problems)
    dogs(tmp_path, ["nose"], 3, boxes=True)
    assert len(read_datasets(["dogs.json@photos"], tmp_path, skeleton)) == 3


def test_few_people_tell_one_factor():
    rng = np.random.default_rng(4)
    mean, scatter = np.zeros((40, 6)), np.broadcast_to(np.eye(6) + 0.3, (40, 6, 6))
    law = Law(mean, scatter, 6.0)
    found = calibrate_law(law, 2.0 * law.sample(rng, 1)[0])
    assert np.ptp(found.factor) == 0
    assert found.factor[0] == pytest.approx(2.0, rel=0.2)
    assert (found.degrees_of_freedom, found.shrinkage, found.temperature, found.shift) == (6.0, 0.0, 1.0, 0.0)
    assert found.after < found.before
    orders = np.array([[0, 1, 2, 3, 4, 5], [2, 3, 0, 1, 4, 5]])
    people = Mixture.of_exchanges(rng.normal(size=(40, 6)) * 9, scatter, 6.0, np.full((40, 2), 0.5), orders)
    values = people.means[:, 0] + 0.5 * law.sample(rng, 1)[0]
    values[::3, :2] = np.nan
    assert calibrate_law(people, values).factor[0] == pytest.approx(0.5, rel=0.2)


def test_few_errors_start_the_covariance_without_correlations():
    rng = np.random.default_rng(5)
    errors = rng.normal(size=(6, 10)) * np.arange(1, 11)
    errors[0, :2] = np.nan
    scatter = _start_scatter(errors, 5.0)
    np.testing.assert_allclose(scatter, np.diag(np.nanmean(errors**2, axis=0) * 3 / 5))
    assert np.linalg.eigvalsh(_start_scatter(np.zeros((3, 4)) + [0, 1, 2, 3], math.inf)).min() > 0
    assert np.count_nonzero(_start_scatter(rng.normal(size=(40, 10)), 5.0)) == 100
