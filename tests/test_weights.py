"""The shipped models are those that their cards and checksums speak of."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from posecov import PoseEstimator, resources
from posecov.estimator import SHIPPED

NAMES = [Path(file).stem for file in SHIPPED.values()]


@pytest.mark.parametrize("name", NAMES)
def test_checksum_card_and_figures_are_of_this_file(name):
    content = resources.find(f"weights/{name}.onnx").read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    assert len(content) < 20e6
    assert f"{sha}  {name}.onnx" in resources.find("weights/SHA256SUMS").read_text()
    assert sha in resources.find(f"weights/{name}.md").read_text()
    for kind in ("evaluation", "coco"):
        assert json.loads(resources.find(f"weights/figures/{name}-{kind}.json").read_text())["sha256"] == sha


@pytest.mark.parametrize("model", SHIPPED)
@pytest.mark.parametrize("pixels", ["black", "white", "noise"])
def test_a_covariance_for_any_picture(pixels, model):
    rng = np.random.default_rng(0)
    image = {"black": np.zeros, "white": np.ones}.get(pixels, rng.random)((120, 90, 3))
    pose = PoseEstimator(model, threads=1)((255 * image).astype(np.uint8), boxes=[[5, 5, 80, 110]])[0]
    np.linalg.cholesky(pose.covariance)
    assert np.isfinite(pose.keypoints).all()
    assert (pose.sigma > 0).all()
