"""Fixtures shared by the tests."""

from pathlib import Path

import numpy as np
import pytest
from tiny_model import POINTS, picture, write_model

from posecov.estimator import PoseEstimator


@pytest.fixture(scope="session")
def model_path(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def estimator(model_path) -> PoseEstimator:
    return PoseEstimator(model_path, threads=1)


@pytest.fixture
def dots() -> np.ndarray:
    return picture(POINTS, 320, 240)
