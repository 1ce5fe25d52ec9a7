import math

import pytest
import yaml

from posecov import resources
from posecov.errors import PosecovError
from posecov.learn.config import DataConfig, TrainConfig, check, config_from_command_line, load_config


def test_shipped_recipes_load():
    for path in resources.find("configs").glob("*.yaml"):
        assert load_config(path).name.startswith("posecov-")


def test_round_trip_through_yaml():
    config = TrainConfig()
    text = yaml.safe_dump(config.to_dict())
    assert TrainConfig.from_dict(yaml.safe_load(text), "x") == config


def test_command_line_overrides_the_recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: mine\nmean: {epochs: 7}\ncovariance: {degrees_of_freedom: .inf}\n")
    config = config_from_command_line("train", [str(path), "--mean.batch", "4", "--data.root", "there"])
    assert (config.name, config.mean.epochs, config.mean.batch, config.data.root) == ("mine", 7, 4, "there")
    assert math.isinf(config.covariance.degrees_of_freedom)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mean: {epoch: 7}", "unknown setting mean.epoch; did you mean mean.epochs?"),
        ("data: {skip_bda: true}", "did you mean data.skip_bad?"),
        ("epochs: 7", "did you mean mean.epochs?"),
        ("zzzz: 7", "unknown setting zzzz; there are name, skeleton"),
        ("mean: {epochs: many}", "mean.epochs: 'many' is not a int"),
        ("mean: 3", "mean must be a mapping"),
        ("data: {datasets: [1, 2]}", "data.datasets"),
        ("[1, 2", "not YAML"),
        ("- 1", "must be a mapping"),
    ],
)
def test_wrong_recipes_name_the_setting(tmp_path, text, says):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(PosecovError) as caught:
        load_config(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_recipe(tmp_path):
    with pytest.raises(PosecovError, match=r"nowhere\.yaml: cannot read"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(PosecovError, match="usage"):
        config_from_command_line("train", [])


def test_skip_bad_for_short(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {datasets: [mpii], repeat: [1]}\n")
    assert not config_from_command_line("train", [str(path)]).data.skip_bad
    assert config_from_command_line("train", [str(path), "--skip-bad"]).data.skip_bad
    assert config_from_command_line("train", [str(path), "--data.skip-bad"]).data.skip_bad


def test_one_repeat_holds_for_all():
    data = DataConfig(datasets=("lsp", "mpii", "coco"), repeat=(2,))
    assert data.repeats == (2, 2, 2)
    check(TrainConfig(data=data))
    with pytest.raises(PosecovError, match=r"data\.repeat"):
        check(TrainConfig(data=DataConfig(datasets=("lsp", "mpii", "coco"), repeat=(2, 1))))


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/elsewhere", "..", "a\\b", ""])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(PosecovError, match="setting name"):
        check(TrainConfig(name=name))


def test_numbers_beyond_all_floats(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"mean: {{lr: {10**400}}}")
    with pytest.raises(PosecovError, match=r"mean\.lr"):
        load_config(path)
