"""Fixtures of the learning side: drawn data, a tiny recipe, one tiny run."""

from pathlib import Path

import pytest
import torch
from stick_figures import write_data_root
from tiny_recipe import tiny_config

from posecov.learn.config import TrainConfig
from posecov.learn.run import Run
from posecov.learn.training import train


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_drawn_data():
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        # It would be taken before the drawn data root that a tiny run remembers.
        patch.delenv("POSECOV_DATA", raising=False)
        yield


@pytest.fixture(autouse=True)
def _denormals_after_training():
    """Training flushes them to zero for the whole process; tests after it must not."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    return write_data_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tiny_run(data_root, tmp_path_factory) -> Run:
    return train(tiny_config(data_root, tmp_path_factory.mktemp("run") / "tiny"))


@pytest.fixture
def tiny(data_root, tmp_path) -> TrainConfig:
    return tiny_config(data_root, tmp_path / "run")
