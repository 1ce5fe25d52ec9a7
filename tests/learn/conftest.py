"""Fixtures of the learning side: drawn data, a tiny recipe, one tiny run."""

import dataclasses
from pathlib import Path

import pytest
import torch
from stick_figures import write_data_root

from posecov.learn.config import CovarianceConfig, DataConfig, MeanConfig, PseudoLabelConfig, TrainConfig
from posecov.learn.model import ModelConfig
from posecov.learn.run import Run
from posecov.learn.training import train


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    return write_data_root(tmp_path_factory.mktemp("data"))


def tiny_config(root: Path, out: Path) -> TrainConfig:
    """Seconds instead of hours: a toy backbone, 64 px, 40 people."""
    return TrainConfig(
        name="tiny",
        out=str(out),
        threads=1,
        device="cpu",
        data=DataConfig(root=str(root), datasets=("lsp", "lspet"), repeat=(1, 2), validation_count=60, limit=40),
        model=ModelConfig(
            backbone="test_efficientnet", pretrained=False, input_size=64, frozen_stages=-1, channels=16, latent=6, basis=4,
            hidden=16, rank=2,
        ),
        mean=MeanConfig(epochs=2, batch=16, warmup=2),
        pseudo_labels=PseudoLabelConfig(neighbours=20, dimensions=4),
        covariance=CovarianceConfig(views=1, wasserstein_epochs=1, nll_epochs=2, batch=16, warmup=2),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_run(data_root, tmp_path_factory) -> Run:
    return train(tiny_config(data_root, tmp_path_factory.mktemp("run") / "tiny"))


@pytest.fixture
def tiny(data_root, tmp_path) -> TrainConfig:
    return tiny_config(data_root, tmp_path / "run")


def shortened(config: TrainConfig, **mean: int) -> TrainConfig:
    """The same recipe with other settings of the mean."""
    return dataclasses.replace(config, mean=dataclasses.replace(config.mean, **mean))
