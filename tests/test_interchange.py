"""Poses for other packages: what their scores mean."""

import math
import sys
import types

import numpy as np
import pytest
from test_law import random_scatter

from posecov import coordinates
from posecov.errors import PosecovError
from posecov.evaluation.oks import BOX_TO_AREA, joint_sigmas
from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.mixture import Mixture
from posecov.pose import Pose
from posecov.skeleton import Skeleton, load_skeleton

LSP = load_skeleton("lsp14")
BOX = np.array([0.0, 0.0, 120.0, 200.0])


def make(kind, dof=5.0):
    rng = np.random.default_rng(0)
    points, scatter = 100 * rng.random((14, 2)), 4 * random_scatter(rng, 28)
    if kind == "student":
        return Pose(points, scatter * (1 if math.isinf(dof) else dof / (dof - 2)), LSP, dof, BOX)
    exchanges = exchanges_of(LSP)
    weights = np.array([0.6] + [0.4 / (len(exchanges) - 1)] * (len(exchanges) - 1))
    law = Mixture.of_exchanges(coordinates.flatten(points), scatter, dof, weights, coordinate_orders(exchanges))
    return Pose.from_mixture(law, LSP, BOX)


@pytest.mark.parametrize("pose", [make("student"), make("student", math.inf), make("mixture")], ids=["t", "gauss", "mixture"])
def test_scores_are_the_similarities_that_the_law_expects(pose):
    result = pose.to_coco(7)
    law = pose.components or Mixture(
        np.ones(1), coordinates.flatten(pose.keypoints.astype(float))[None], pose.scatter[None], pose.degrees_of_freedom
    )
    people = coordinates.unflatten(law.sample(np.random.default_rng(1), 60_000))
    squared = np.square(people - pose.keypoints).sum(axis=-1)
    area = BOX_TO_AREA * BOX[2] * BOX[3]
    expected = np.exp(-squared / (2 * area * (2 * joint_sigmas(LSP)) ** 2)).mean(axis=0)
    found = np.array(result["keypoints"]).reshape(14, 3)
    np.testing.assert_array_equal(found[:, :2], pose.keypoints)
    np.testing.assert_allclose(found[:, 2], expected, atol=0.008)
    assert result["score"] == pytest.approx(found[:, 2].mean())
    assert (result["image_id"], result["category_id"], result["bbox"]) == (7, 1, BOX.tolist())
    assert 0.2 < expected.min() < 0.9


def test_scores_within_a_radius():
    pose = make("student").condition({"neck": (50.0, 60.0)})
    found = np.array(pose.to_coco(1, radius=8.0)["keypoints"]).reshape(14, 3)[:, 2]
    np.testing.assert_allclose(found, [pose.probability_within(name, 8.0) for name in pose.names], rtol=1e-6)
    assert found[pose.names.index("neck")] == 1
    assert np.array(pose.to_coco(1)["keypoints"]).reshape(14, 3)[pose.names.index("neck"), 2] == pytest.approx(1)


def test_joints_that_coco_does_not_know_need_a_radius():
    pose = Pose(np.zeros((2, 2)) + [[0], [9]], np.eye(4), Skeleton("tools", ("tip", "grip")), 5.0)
    with pytest.raises(PosecovError, match=r"'tip'.*radius="):
        pose.to_coco(1)
    result = pose.to_coco(1, radius=2.0)
    assert 0 < result["score"] < 1
    assert result["bbox"] == pytest.approx([-0.9, -0.9, 10.8, 10.8])


def test_pycocotools_reads_what_to_coco_writes():
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    truth = COCO()
    truth.dataset = {"images": [{"id": 7}], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    truth.createIndex()
    (entry,) = truth.loadRes([make("student").to_coco(7)]).loadAnns([1])
    assert len(entry["keypoints"]) == 42


def test_supervision_gets_points_and_scores(monkeypatch):
    taken = {}
    fake = types.ModuleType("supervision")
    fake.KeyPoints = lambda *arguments: taken.update(zip(("xy", "class_id", "confidence"), arguments, strict=True))
    monkeypatch.setitem(sys.modules, "supervision", fake)
    pose = make("student")
    pose.to_supervision()
    np.testing.assert_array_equal(taken["xy"], pose.keypoints[None])
    assert taken["class_id"].shape == (1,)
    np.testing.assert_allclose(taken["confidence"][0], np.array(pose.to_coco(1)["keypoints"])[2::3], rtol=1e-6)


def test_without_supervision_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(PosecovError, match="pip install supervision"):
        make("student").to_supervision()


def test_the_real_supervision():
    supervision = pytest.importorskip("supervision")
    found = make("student").to_supervision()
    assert isinstance(found, supervision.KeyPoints)
    assert found.xy.shape == (1, 14, 2)
    assert found.confidence.shape == (1, 14)
