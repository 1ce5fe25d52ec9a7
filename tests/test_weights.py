"""The shipped model is the one that its card and checksum speak of."""

import hashlib
import json

import numpy as np
import pytest

from posecov import PoseEstimator, resources

NAME = "posecov-lsp14-small"


def test_checksum_card_and_figures_are_of_this_file():
    content = resources.find(f"weights/{NAME}.onnx").read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    assert len(content) < 20e6
    assert f"{sha}  {NAME}.onnx" in resources.find("weights/SHA256SUMS").read_text()
    assert sha in resources.find(f"weights/{NAME}.md").read_text()
    assert json.loads(resources.find(f"weights/figures/{NAME}-evaluation.json").read_text())["sha256"] == sha


@pytest.mark.parametrize("pixels", ["black", "white", "noise"])
def test_a_covariance_for_any_picture(pixels):
    rng = np.random.default_rng(0)
    image = {"black": np.zeros, "white": np.ones}.get(pixels, rng.random)((120, 90, 3))
    pose = PoseEstimator(threads=1)((255 * image).astype(np.uint8), boxes=[[5, 5, 80, 110]])[0]
    np.linalg.cholesky(pose.covariance)
    assert np.isfinite(pose.keypoints).all()
    assert (pose.sigma > 0).all()
