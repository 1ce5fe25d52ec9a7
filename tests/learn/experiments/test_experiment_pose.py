"""The pose experiment on a tiny run of drawn people."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.learn.checkpoint import save_checkpoint
from posecov.learn.config import check
from posecov.learn.experiments import pose
from posecov.learn.experiments.pose import VARIANTS, PoseOptions, configure, prepare_setting, run
from posecov.learn.experiments.pose_report import PAIRS, compare, report, verdict

NAMES = ("MSE", "Faithful", "hybrid", "hybrid, shuffled neighbours", "hybrid without J J^T", "ours", "ours without phase 1")


@pytest.fixture(scope="module")
def options(tiny_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("pose")
    return PoseOptions(quick=True, seeds=(0, 1), out=str(out), run=str(tiny_run.folder), variants=NAMES, views=1, batch=16)


@pytest.fixture(scope="module")
def results(options):
    return run(options)


def test_every_variant_is_judged_with_every_seed(results):
    assert list(results) == list(NAMES)
    for seeds in results.values():
        assert set(seeds) == {"0", "1"}
        for found in seeds.values():
            assert np.isfinite([found[key] for key in ("nll", "nll_calibrated", "tac", "mse")]).all()
            assert np.mean(found["nll_people"]) == pytest.approx(found["nll"], abs=1e-3)
            assert len(found["nll_people"]) == len(found["tac_people"]) == 200


def test_variants_differ_in_what_they_leave_out(results):
    first = {name: seeds["0"] for name, seeds in results.items()}
    assert first["hybrid without J J^T"]["k1_share"] == 0.0
    assert first["hybrid without J J^T"]["k2_share"] > 0.0
    assert first["hybrid"]["k1_share"] > 0.0
    assert first["MSE"]["k1_share"] == first["Faithful"]["k2_share"] == 0.0
    assert len({found["nll"] for found in first.values()}) == len(first)


def test_what_is_finished_is_not_trained_again(options, results, monkeypatch):
    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(pose, "train_covariance", never)
    assert run(options) == results
    with pytest.raises(AssertionError, match="trained again"):
        run(dataclasses.replace(options, lr=2e-3))


def test_report_writes_table_pairs_picture_and_figures(options, results, tmp_path):
    with_json = dataclasses.replace(options, json=str(tmp_path / "figures.json"))
    text = report(with_json, results)
    folder = options.folder("pose")
    assert text == (folder / "pose.md").read_text()
    assert (folder / "pose.png").read_bytes().startswith(b"\x89PNG")
    assert all(f"| {name} |" in text for name in NAMES)
    assert "hybrid − hybrid, shuffled neighbours" in text
    rows = list(csv.DictReader((folder / "pose.csv").open()))
    assert len(rows) == 2 * len(NAMES)
    figures = json.loads((tmp_path / "figures.json").read_text())["variants"]["ours"]["0"]
    assert figures["nll"] == results["ours"]["0"]["nll"]


def test_paired_comparison_knows_better_from_worse():
    rng = np.random.default_rng(0)
    base = rng.normal(100, 20, 400)

    def found(shift):
        people = list(base + shift + rng.normal(0, 0.5, 400))
        return {"nll_people": people, "nll_calibrated_people": people, "tac_people": people}

    results = {"hybrid": {"0": found(-0.3), "1": found(-0.3)}, "Faithful": {"0": found(0.0), "1": found(0.0)}}
    (pair,) = compare(results)
    assert pair["first"] == "hybrid"
    for difference, low, high in pair["nll"]:
        assert low < difference < high < 0
        assert difference == pytest.approx(-0.3, abs=0.1)
    assert verdict(pair["nll"]) == "better in every seed"
    assert verdict([(0.1, 0.05, 0.2), (0.0, -0.1, 0.1)]) == "better in 0, worse in 1 of 2"


def test_all_variants_have_the_same_epochs_and_settings_that_hold(options, tiny_run):
    for name, variant in VARIANTS.items():
        config = configure(tiny_run.config, variant, 3, options)
        check(config)
        assert config.covariance.phase1_epochs + config.covariance.phase2_epochs == 2, name
    for first, second in PAIRS:
        assert first in VARIANTS
        assert second in VARIANTS


def test_fewer_people_train_and_no_more_than_there_are(options):
    everybody = prepare_setting(options).cached
    count = len(everybody.views[0].labelled) - 5
    some = prepare_setting(dataclasses.replace(options, people=count)).cached
    assert [len(view.labelled) for view in some.views] == [count] * len(everybody.views)
    assert len(some.validation.labelled) == len(everybody.validation.labelled)
    with pytest.raises(PosecovError, match="--people: 1000000, but there are"):
        prepare_setting(dataclasses.replace(options, people=1_000_000))


def test_unknown_variants_and_unfinished_means_are_refused(options, tmp_path):
    import torch

    with pytest.raises(PosecovError, match="--variants: 'magic'"):
        run(dataclasses.replace(options, variants=("magic",)))
    save_checkpoint(tmp_path / "last.safetensors", {"average/w": torch.ones(1)}, {"part": "mean", "finished": False})
    with pytest.raises(PosecovError, match="mean is not finished"):
        run(dataclasses.replace(options, run=str(tmp_path)))
