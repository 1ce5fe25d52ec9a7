"""The ablation on a tiny run of drawn people."""

import math

import pytest

from posecov.errors import PosecovError
from posecov.learn.ablation import VARIANTS, ablate
from posecov.learn.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def report(tiny_run):
    return ablate(tiny_run.folder, "", (0, 1), 1, 1)


def test_every_variant_is_judged_with_every_seed(report):
    assert set(report["variants"]) == set(VARIANTS)
    assert report["test_people"] == 1000
    for seeds in report["variants"].values():
        assert set(seeds) == {"0", "1"}
        assert all(math.isfinite(v) for figures in seeds.values() for v in figures.values())


def test_variants_differ_in_what_they_leave_out(report):
    first = {name: seeds["0"] for name, seeds in report["variants"].items()}
    assert first["without J J^T"]["k1_share"] == 0.0
    assert first["without J J^T"]["k2_share"] > 0.0
    assert first["without J J^T and curvature"]["k2_share"] == 0.0
    assert len({figures["nll"] for figures in first.values()}) == len(first)


def test_what_is_finished_is_not_trained_again_and_gives_the_same(report, tiny_run, monkeypatch):
    from posecov.learn import ablation

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(ablation, "train_covariance", never)
    assert ablate(tiny_run.folder, "", (0, 1), 1, 1) == report
    with pytest.raises(AssertionError, match="trained again"):
        ablate(tiny_run.folder, "", (0,), 1, 2)


def test_the_order_of_variants_does_not_matter(report, tiny_run, tmp_path, monkeypatch):
    from posecov.learn import ablation

    for name in ("last.safetensors", "config.yaml"):
        (tmp_path / name).write_bytes((tiny_run.folder / name).read_bytes())
    monkeypatch.setattr(ablation, "VARIANTS", dict(reversed(VARIANTS.items())))
    assert ablate(tmp_path, "", (0,), 1, 1)["variants"]["shipped recipe"]["0"] == report["variants"]["shipped recipe"]["0"]


def test_a_run_without_covariance_is_refused(tmp_path):
    import torch

    save_checkpoint(tmp_path / "last.safetensors", {"average/w": torch.ones(1)}, {"part": "mean"})
    with pytest.raises(PosecovError, match="no trained covariance"):
        ablate(tmp_path, "", (0,), 1, 1)
