import json
from pathlib import Path

import numpy as np

from posecov import PoseEstimator
from posecov.images import read_image

WEB = Path(__file__).parents[2] / "deploy" / "web"


def test_built_in_pose_is_the_shipped_models():
    """Else the page shows what its own model does not say: run tools/web_sample.py."""
    sample = json.loads((WEB / "src" / "sample.json").read_text())
    estimator = PoseEstimator("tiny", threads=1)
    outputs = estimator.outputs(read_image(WEB / "public" / sample["image"]), np.array([sample["box"]]))
    metadata = json.loads(estimator.metadata.to_json())
    del metadata["description"]
    assert sample["model"] == metadata
    np.testing.assert_allclose(sample["keypoints"], outputs["keypoints"][0], atol=0.05)
    np.testing.assert_allclose(sample["weights"], outputs["weights"][0], atol=1e-3)
    np.testing.assert_allclose(sample["scatter"], outputs["scatter"][0], atol=1e-3 * np.max(sample["scatter"]))
