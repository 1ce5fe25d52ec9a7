"""One tiny run on drawn people: what it writes, that it resumes bit for bit, and that it learns."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from stick_figures import write_data_root
from tiny_recipe import tiny_config

from posecov.errors import PosecovError
from posecov.learn import covariance_training, mean_step
from posecov.learn.augment import AugmentConfig
from posecov.learn.checkpoint import flatten_state, load_checkpoint, part, save_checkpoint
from posecov.learn.datasets import read_lsp
from posecov.learn.mean_training import validate_mean
from posecov.learn.model import ModelConfig, PoseModel, normalise
from posecov.learn.run import COLUMNS
from posecov.learn.training import load_people, start_from, train
from posecov.skeleton import load_skeleton

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_leaves_settings_history_curves_and_checkpoints(tiny_run):
    names = {path.name for path in tiny_run.folder.iterdir()}
    assert {"config.yaml", "metrics.csv", "curves.png", "last.safetensors", "best.safetensors"} <= names
    with (tiny_run.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == set(COLUMNS)
    assert [row["part"] for row in rows] == ["mean"] * 2 + ["phase 1"] + ["phase 2"] * 2
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    best = load_checkpoint(tiny_run.best)[1]
    assert best["validation_nll"] == pytest.approx(min(r["validation_nll"] for r in tiny_run.history if r["part"] == "phase 2"))
    assert best["config"] == tiny_run.config.to_dict()


class _StopError(Exception):
    pass


def _stop_after(monkeypatch, module, name, calls):
    """Let a function of a module run ``calls`` times, then stop the run as a kill would."""
    original, left = getattr(module, name), [calls]

    def wrapped(*arguments, **named):
        if left[0] == 0:
            raise _StopError
        left[0] -= 1
        return original(*arguments, **named)

    monkeypatch.setattr(module, name, wrapped)


@pytest.mark.parametrize("steps", [2, 5])
def test_resumes_bit_for_bit_from_the_middle_of_an_epoch(tiny, tiny_run, monkeypatch, steps):
    config = dataclasses.replace(tiny, checkpoint_minutes=0.0)
    _stop_after(monkeypatch, mean_step, "mean_loss", steps)
    with pytest.raises(_StopError):
        train(config)
    monkeypatch.undo()
    resumed = train(config)
    mine, whole = load_checkpoint(resumed.last)[0], load_checkpoint(tiny_run.last)[0]
    assert set(mine) == set(whole)
    assert all(torch.equal(mine[name], whole[name]) for name in whole)


def test_killed_by_the_system_it_goes_on_bit_for_bit(tiny, tiny_run):
    """Once within an epoch of the mean; the rest of the run is in this process."""
    import os
    import signal
    import time

    config, parent = dataclasses.replace(tiny, checkpoint_minutes=0.0), os.getpid()
    last = Path(tiny.out) / "last.safetensors"
    child = os.fork()
    if child == 0:
        try:
            train(config)
        finally:
            os._exit(0)
    assert os.getpid() == parent
    while not last.exists() and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert load_checkpoint(last)[1]["part"] == "mean"
    (last.parent / ".posecov-0123456789ab.part").write_bytes(b"what it was writing")
    resumed = train(config)
    assert not list(last.parent.glob(".posecov-*"))
    mine, whole = load_checkpoint(resumed.last)[0], load_checkpoint(tiny_run.last)[0]
    assert all(torch.equal(mine[name], whole[name]) for name in whole)


def test_a_full_disk_leaves_the_last_checkpoint_to_go_on_from(tiny, tiny_run, monkeypatch):
    import errno
    import os

    from posecov import files

    sync, left = os.fsync, [3]

    def fills_up(number):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(number)

    config = dataclasses.replace(tiny, checkpoint_minutes=0.0)
    monkeypatch.setattr(files.os, "fsync", fills_up)
    with pytest.raises(PosecovError, match=r"last\.safetensors: cannot be written \(No space left on device\)$"):
        train(config)
    monkeypatch.undo()
    assert load_checkpoint(Path(tiny.out) / "last.safetensors")[1]["step"] == 2
    mine, whole = load_checkpoint(train(config).last)[0], load_checkpoint(tiny_run.last)[0]
    assert all(torch.equal(mine[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channels": 24}, r"model\.channels \(16, now 24\)"),
        ({"backbone": "resnet18"}, r"model\.backbone \('test_efficientnet'"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_by_what_differs(tiny, tiny_run, changes, says):
    """Also where the settings beside it say otherwise: those in the checkpoint count."""
    folder = Path(tiny.out)
    folder.mkdir()
    (folder / "last.safetensors").write_bytes(tiny_run.last.read_bytes())
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, **changes))
    with pytest.raises(PosecovError, match=r"last\.safetensors: this folder holds a run with another setting " + says):
        train(config)


def test_resumes_bit_for_bit_between_the_phases(tiny, tiny_run, monkeypatch):
    _stop_after(monkeypatch, covariance_training, "losses_of", 4)
    with pytest.raises(_StopError):
        train(tiny)
    monkeypatch.undo()
    resumed = train(tiny)
    mine, whole = load_checkpoint(resumed.best)[0], load_checkpoint(tiny_run.best)[0]
    assert all(torch.equal(mine[name], whole[name]) for name in whole)


def test_another_run_in_the_same_folder_is_refused(tiny_run):
    other = dataclasses.replace(tiny_run.config, mean=dataclasses.replace(tiny_run.config.mean, lr=0.5))
    with pytest.raises(PosecovError, match=r"another setting mean.lr \(0\.002, now 0\.5\)"):
        train(other)


def test_the_mean_learns(tiny, data_root):
    """It finds the joints of drawn people that it was not trained on better than an untrained network does."""
    skeleton = load_skeleton("lsp14")
    settings = dataclasses.replace(tiny.mean, epochs=25, lr=6e-3, backbone_lr=1.0)
    tiny = dataclasses.replace(tiny, augment=AugmentConfig(rotation=5.0, misplaced=0.0, colour=0.0, occlude=0.0))
    covariance = dataclasses.replace(tiny.covariance, phase1_epochs=0, phase2_epochs=0)
    run = train(dataclasses.replace(tiny, mean=settings, covariance=covariance))
    validation = load_people(tiny).validation
    torch.manual_seed(0)
    untrained = PoseModel(tiny.model, 14, pretrained=False).state_dict()
    start = validate_mean(untrained, tiny, skeleton, validation, torch.device("cpu"))["validation_error_px"]
    assert run.history[-1]["validation_error_px"] < 0.5 * start


def test_the_mean_is_frozen_while_the_covariance_learns(tiny_run):
    tensors = part("model", load_checkpoint(tiny_run.best)[0])
    moved = {
        name
        for name, value in part("model", load_checkpoint(tiny_run.last)[0]).items()
        if not torch.equal(value, tensors[name])
    }
    assert moved
    assert all(name.startswith("covariance_head.") for name in moved)


def test_frozen_stages_stay(tmp_path):
    model = PoseModel(dataclasses.replace(_model_config(), frozen_stages=2), 14, pretrained=False).train()
    frozen = {name for name, p in model.backbone.named_parameters() if not p.requires_grad}
    assert any(name.startswith("conv_stem") for name in frozen)
    assert any(name.startswith("blocks.1.") for name in frozen)
    assert not any(name.startswith("blocks.2.") for name in frozen)
    before = model.backbone.bn1.running_mean.clone()
    model.mean(torch.randn(2, 3, 64, 64))
    assert torch.equal(model.backbone.bn1.running_mean, before)
    assert model.backbone.blocks[2].training


def test_normalise_gives_rgb():
    crops = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    crops[..., 0] = 255  # blue
    image = normalise(crops, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
    np.testing.assert_allclose(image[0, :, 0, 0], [-127 / 128, -127 / 128, 1.0])


def test_packaged_weights_are_the_network_they_claim_to_be():
    """ImageNet weights matched by order: a wrong order would still load, so look at what the network does with a photo."""
    import timm

    from posecov.learn.backbone import build_backbone

    backbone = build_backbone("tf_efficientnet_lite0", pretrained=True).eval()
    plain = timm.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False, out_indices=(2, 3, 4)).eval()
    # BatchNorm statistics that belong to their convolutions give activations of order one; shuffled ones do not.
    image = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0)) * 0.5
    with torch.inference_mode():
        loaded, other = backbone(image)[-1], plain(image)[-1]
    assert 0.05 < loaded.std() < 20
    assert (loaded - other).abs().max() > 1e-3
    assert backbone.state_dict()["bn1.running_var"].std() > 0


def _model_config():
    return ModelConfig(
        backbone="test_efficientnet", pretrained=False, input_size=64, channels=16, latent=6, basis=4, hidden=16, rank=2
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["configs/lsp14-small.yaml", "--data.root", "{tmp}/nowhere"], "nowhere/lsp/joints.mat: not found"),
        (["{tmp}/none.yaml"], "none.yaml: cannot read"),
        ([], "usage"),
    ],
)
def test_command_line_says_what_is_wrong_in_one_line(tmp_path, arguments, says):
    command = [
        sys.executable,
        str(ROOT / "tools" / "train.py"),
        *(a.format(tmp=tmp_path) for a in arguments),
    ]
    if arguments and "--data.root" in arguments:
        command += ["--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=_environment(), check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def _environment():
    import os

    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    environment.pop("POSECOV_DATA", None)
    return environment


def test_unreadable_training_picture_names_the_file(tmp_path, data_root):
    config = tiny_config(data_root, tmp_path / "run")
    train_people = load_people(config).mean
    from posecov.learn.samples import CropDataset, batches

    broken = dataclasses.replace(train_people[0], image=tmp_path / "broken.jpg")
    broken.image.write_text("no picture")
    dataset = CropDataset([broken], load_skeleton("lsp14"), 64, 1.1)
    with pytest.raises(PosecovError, match=r"broken\.jpg") as caught:
        next(batches(dataset, [0], 1, workers=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "changes", "says"),
    [
        ("mean", {"batch": 0}, "mean.batch: 0 must be at least 2"),
        ("data", {"repeat": (1, 2, 3)}, "data.repeat"),
        ("data", {"validation_count": -5}, "data.validation_count"),
        ("data", {"validation_count": 5000}, "there are 1000"),
        ("pseudo_labels", {"source": "guesses"}, "residuals or targets"),
        ("covariance", {"views": -1}, "covariance.views"),
        ("covariance", {"gradient_share": 0.7}, "covariance.gradient_share"),
        ("covariance", {"degrees_of_freedom": 2.0}, "above 2"),
        ("covariance", {"phase2_loss": "nonesuch"}, "wasserstein-procrustes"),
        ("covariance", {"degrees_of_freedom": float("inf")}, "student-t-mixture has finite degrees of freedom"),
        ("covariance", {"phase2_loss": "beta-nll"}, "needs --model.scatter diagonal"),
        ("covariance", {"phase1_loss": "wasserstein-bound"}, "needs --model.scatter factor"),
        ("covariance", {"phase2_loss": "likelihood"}, "covariance.phase2_loss: there is no loss 'likelihood'"),
        ("covariance", {"own_share": 1.5}, "covariance.own_share"),
        ("covariance", {"mean_head": "thawed"}, "frozen or trained or fresh"),
        ("model", {"scatter": "diagonal"}, "no Taylor terms"),
        ("model", {"scatter": "round"}, "correlation or factor"),
        ("data", {"mean_share": 0.0}, "data.mean_share"),
        ("model", {"backbone": "nonesuch"}, "timm knows no such model"),
        ("model", {"input_size": 100}, "multiple of 32"),
        ("model", {"backbone": "test_vit"}, "strides 8, 16 and 32"),
    ],
)
def test_wrong_settings_are_refused_at_once(tiny, part, changes, says):
    wrong = dataclasses.replace(tiny, **{part: dataclasses.replace(getattr(tiny, part), **changes)})
    with pytest.raises(PosecovError) as caught:
        train(wrong)
    assert says in str(caught.value)
    # A first start that failed does not lock the folder.
    settings = Path(tiny.out) / "config.yaml"
    assert not settings.exists() or not (Path(tiny.out) / "last.safetensors").exists()


def test_a_device_that_is_not_there(tiny):
    with pytest.raises(PosecovError, match="not to be had here"):
        train(dataclasses.replace(tiny, device="xpu:7"))


def test_a_foreign_checkpoint_is_refused(tiny):
    from posecov.learn.checkpoint import save_checkpoint

    folder = Path(tiny.out)
    folder.mkdir(parents=True)
    facts = {"part": "mean", "finished": False, "epoch": 0, "history": []}
    save_checkpoint(folder / "last.safetensors", {"model/w": torch.ones(1)}, facts)
    with pytest.raises(PosecovError, match="not a checkpoint of this recipe"):
        train(tiny)


def test_a_gaussian_run_from_end_to_end(tiny):
    covariance = dataclasses.replace(tiny.covariance, phase2_loss="nll")
    run = train(dataclasses.replace(tiny, covariance=covariance))
    tensors, _ = load_checkpoint(run.best)
    assert all(torch.isfinite(value).all() for value in tensors.values())
    assert run.history[-1]["degrees_of_freedom"] == float("inf")


@pytest.mark.parametrize("mean_head", ["trained", "fresh"])
def test_the_mean_head_can_learn_on_while_the_backbone_is_frozen(tiny, tiny_run, mean_head, monkeypatch):
    covariance = dataclasses.replace(tiny.covariance, mean_head=mean_head, phase1_loss="wasserstein-bound", phase2_loss="nll")
    covariance = dataclasses.replace(covariance, gradient_share=0.1, curvature_share=0.05)
    model = dataclasses.replace(tiny.model, scatter="factor")
    config = dataclasses.replace(tiny, covariance=covariance, model=model)
    run = train(config)
    trained, before = part("model", load_checkpoint(run.best)[0]), part("model", load_checkpoint(tiny_run.best)[0])
    assert not torch.equal(trained["mean_head.steering"], before["mean_head.steering"])
    # The two runs trained the same mean before; what lies below its head stayed.
    assert torch.equal(trained["lateral.0.weight"], before["lateral.0.weight"])
    assert run.history[-1]["degrees_of_freedom"] == float("inf")
    # Stopped between the phases it goes on with the features and pseudo-labels of the mean from before.
    config = dataclasses.replace(config, out=tiny.out + "-stopped")
    _stop_after(monkeypatch, covariance_training, "losses_of", 4)
    with pytest.raises(_StopError):
        train(config)
    monkeypatch.undo()
    resumed = load_checkpoint(train(config).last)[0]
    assert all(torch.equal(resumed[name], value) for name, value in load_checkpoint(run.last)[0].items())


def test_the_covariance_learns_from_the_people_that_the_mean_left(tiny, tmp_path):
    people = load_people(dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, mean_share=0.6)))
    mean, rest = ({record.name for record in group} for group in (people.mean, people.covariance))
    assert not mean & rest
    assert len(mean) == 24
    assert len(mean | rest) == 40
    assert not (mean | rest) & {record.name for record in people.validation}
    everybody = load_people(tiny)
    assert [record.name for record in everybody.mean] == [record.name for record in everybody.covariance]


def test_normalise_stays_on_its_device():
    image = normalise(torch.zeros(1, 4, 4, 3, dtype=torch.uint8, device="meta"), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    assert image.device.type == "meta"


def test_a_run_starts_from_another_ones_mean_at_another_size(tiny, tiny_run, data_root):
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, input_size=96))
    model = PoseModel(config.model, 14, pretrained=False)
    start_from(model, tiny_run.last)
    trained = part("model", load_checkpoint(tiny_run.last)[0])
    assert torch.equal(model.state_dict()["mean_head.steering"], trained["mean_head.steering"])
    assert model.mean(torch.zeros(1, 3, 96, 96)).mean.shape == (1, 28)
    with pytest.raises(PosecovError, match=r"not the mean of such a network: its model\.latent is 6, here 7"):
        start_from(PoseModel(dataclasses.replace(config.model, latent=7), 14, pretrained=False), tiny_run.last)
    with pytest.raises(PosecovError, match="its skeleton has 14 joints, here 16"):
        start_from(PoseModel(config.model, 16, pretrained=False), tiny_run.last)
    with pytest.raises(PosecovError, match="no such checkpoint"):
        train(dataclasses.replace(config, start_from=str(data_root / "none.safetensors")))


def test_a_smaller_network_starts_from_another_ones_backbone(tiny_run, tmp_path):
    config = dataclasses.replace(_model_config(), backbone="tf_efficientnet_lite0")
    large = PoseModel(config, 14)
    path = tmp_path / "large.safetensors"
    facts = {"part": "covariance", "config": {"model": dataclasses.asdict(config)}}
    save_checkpoint(path, flatten_state("model", large.state_dict()), facts)

    model = PoseModel(dataclasses.replace(config, dropped_stages=1, channels=8), 14)
    with pytest.raises(PosecovError, match=r"not the mean of such a network: its model\.dropped_stages is 0, here 1"):
        start_from(model, path)
    heads = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("backbone.")}
    start_from(model, path, "backbone")
    for name, value in model.state_dict().items():
        assert torch.equal(value, large.state_dict()[name] if name.startswith("backbone.") else heads[name]), name
    with pytest.raises(PosecovError, match=r"not the backbone of such a network: its model\.backbone is 'test_efficientnet'"):
        start_from(model, tiny_run.last, "backbone")


def test_stages_are_left_out_at_the_end():
    config = dataclasses.replace(_model_config(), backbone="tf_efficientnet_lite0")
    whole, short = (PoseModel(dataclasses.replace(config, dropped_stages=dropped), 14).eval() for dropped in (0, 1))
    assert len(short.backbone.blocks) == len(whole.backbone.blocks) - 1
    short.backbone.load_state_dict({name: whole.backbone.state_dict()[name] for name in short.backbone.state_dict()})
    image = torch.randn(1, 3, 64, 64)
    for mine, theirs in zip(short.backbone(image)[:2], whole.backbone(image)[:2], strict=True):
        torch.testing.assert_close(mine, theirs)
    assert short.mean(image).mean.shape == (1, 28)
    for dropped in (3, 9):
        with pytest.raises(PosecovError, match=rf"dropped_stages {dropped}: what is left of .* no features at stride 32"):
            PoseModel(dataclasses.replace(config, dropped_stages=dropped), 14)
    with pytest.raises(PosecovError, match="no EfficientNet"):
        PoseModel(dataclasses.replace(config, backbone="resnet18", dropped_stages=1), 14)


def _own(root: Path, name: str, pictures: list[int], joints: list[str]) -> None:
    """A COCO file of some of the drawn LSP people."""
    from annotation_files import coco, write_coco

    people = read_lsp(root / "lsp", "train")
    chosen = [people[i] for i in pictures]
    index = [load_skeleton("lsp14").index(joint) for joint in joints]
    document = coco(np.stack([p.keypoints[index] for p in chosen]), [f"drawing{i}.jpg" for i in pictures], joints)
    for image in document["images"]:
        image |= {"width": 160, "height": 240}
    for annotation in document["annotations"]:
        del annotation["bbox"]
    document["images"].append({"id": 9999, "file_name": "gone.jpg"})
    document["annotations"].append(document["annotations"][0] | {"id": 9999, "image_id": 9999})
    write_coco(root / name, document)


@pytest.fixture
def own_data(tmp_path) -> Path:
    root = write_data_root(tmp_path / "own")
    _own(root, "train.json", list(range(30)), list(load_skeleton("lsp14").keypoints))
    _own(root, "arms.json", list(range(30)), ["l_wrist", "l_elbow", "l_shoulder"])
    _own(root, "val.json", list(range(25, 40)), list(load_skeleton("lsp14").keypoints))
    return root


def _with(config, **data):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, limit=0, repeat=(1,), **data))


def test_validation_may_be_a_data_set_of_its_own(tiny, own_data):
    tiny = _with(tiny, root=str(own_data), datasets=("train.json",), validation_from="val.json")
    with pytest.raises(PosecovError, match=r"val\.json, annotation 9999: picture .*gone\.jpg is missing \(and 1 more"):
        load_people(tiny)
    people = load_people(_with(tiny, skip_bad=True))
    assert len(people.mean) == 25
    assert len(people.validation) == 15
    assert {r.image for r in people.mean}.isdisjoint(r.image for r in people.validation)
    assert len(people.skipped) == 2


def test_a_joint_that_nobody_labels_is_said_before_training(tiny, own_data):
    tiny = _with(tiny, root=str(own_data), datasets=("arms.json",), validation_from="lsp", skip_bad=True)
    with pytest.raises(PosecovError, match=r"training part has joint r_ankle, .* labelled"):
        load_people(tiny)


def test_a_run_on_several_data_sets_lists_what_it_skipped(tiny, own_data):
    sets = ("lspet", "train.json", "arms.json")
    config = _with(tiny, root=str(own_data), datasets=sets, validation_from="lsp", skip_bad=True)
    mean = dataclasses.replace(config.mean, epochs=1)
    covariance = dataclasses.replace(config.covariance, phase1_epochs=0, phase2_epochs=1)
    run = train(dataclasses.replace(config, mean=mean, covariance=covariance))
    assert (run.folder / "skipped.txt").read_text().count("gone.jpg is missing") == 2
    assert all(np.isfinite(row["loss"]) for row in run.history)
