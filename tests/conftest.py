"""Fixtures shared by the tests."""

from pathlib import Path

import numpy as np
import pytest
from tiny_model import picture, write_model

from posecov.estimator import PoseEstimator

POINTS = np.array([[120.0, 90.0], [170.0, 100.0], [140.0, 150.0]])
"""Red, green and blue dot of the standard test picture."""


@pytest.fixture(scope="session")
def model_path(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def estimator(model_path) -> PoseEstimator:
    return PoseEstimator(model_path, threads=1)


@pytest.fixture
def dots() -> np.ndarray:
    return picture(POINTS, 320, 240)
