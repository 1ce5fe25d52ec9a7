"""Detectors as torchvision exports them: untrained and tiny, but with its own scaling, anchors, suppression and outputs."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.ssd import SSD
from torchvision.ops import MultiScaleRoIAlign

from posecov.detectors import PersonDetector

THRESHOLD = 0.06


def backbone(channels):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, stride=8), torch.nn.ReLU())
    layers.out_channels = channels
    return layers


def ssd():
    return SSD(backbone([8]), DefaultBoxGenerator([[2]]), (96, 128), 3, score_thresh=0.05)


def faster_rcnn():
    return FasterRCNN(
        backbone(8),
        min_size=96,
        max_size=160,
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((0.5, 1.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        box_head=TwoMLPHead(72, 16),
        box_predictor=FastRCNNPredictor(16, 3),
    )


@pytest.mark.parametrize("build", [ssd, faster_rcnn])
@pytest.mark.filterwarnings("ignore")
def test_an_export_finds_what_torch_finds(tmp_path, build):
    torch.manual_seed(1)
    network = build().eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):  # Or everything looks the same to it.
            torch.nn.init.normal_(layer.weight, std=0.3 if layer is network.backbone[0] else 0.2)
    path = tmp_path / "detector.onnx"
    axes = {"image": {1: "height", 2: "width"}}
    # The newer exporter does not take these networks.
    torch.onnx.export(
        network, ([torch.rand(3, 120, 160)],), path, dynamo=False, opset_version=17, input_names=["image"], dynamic_axes=axes
    )
    detector = PersonDetector(path, threads=1, threshold=THRESHOLD)
    assert detector.layout == "torchvision"
    for width, height in ((160, 120), (420, 200), (150, 300)):
        noise = np.random.default_rng(width).integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
        image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        with torch.no_grad():
            rgb = torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1).float() / 255
            (expected,) = network([rgb])
        person = (expected["labels"] == 1) & (expected["scores"] >= THRESHOLD)
        theirs = expected["boxes"][person].numpy()
        theirs[:, 2:] -= theirs[:, :2]
        ours, scores = detector(image)
        assert len(theirs) > 20
        assert len(ours) >= 0.9 * len(theirs)
        # Some few of equal score, or that overlap just so much, may be chosen otherwise.
        distance = np.abs(ours[:, None] - theirs[None]).max(axis=2).min(axis=1)
        assert (distance < 0.1).mean() > 0.9
        assert scores[0] == pytest.approx(float(expected["scores"][person].max()), abs=1e-4)
