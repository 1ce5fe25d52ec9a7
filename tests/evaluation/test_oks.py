"""OKS and COCO's average precision against hand calculations and pycocotools' own formula."""

import math

import numpy as np
import pytest

from posecov.errors import PosecovError
from posecov.evaluation import oks
from posecov.law import Law
from posecov.skeleton import Skeleton, load_skeleton


def test_joints_have_cocos_sigmas_by_name():
    coco = load_skeleton("coco17")
    np.testing.assert_array_equal(oks.joint_sigmas(coco), coco.oks_sigmas)
    # CrowdPose's 14 joints are LSP's: shoulders, elbows, wrists, hips, knees, ankles, head, neck.
    lsp = dict(zip(load_skeleton("lsp14").keypoints, oks.joint_sigmas(load_skeleton("lsp14")), strict=True))
    assert {name: lsp[name] for name in ("l_wrist", "r_hip", "neck")} == {"l_wrist": 0.062, "r_hip": 0.107, "neck": 0.079}
    assert lsp["head_top"] == 0.079
    own = Skeleton("tail", ("tail", "l_hip"), oks_sigmas=(0.2, 0.3))
    np.testing.assert_array_equal(oks.joint_sigmas(own), [0.2, 0.3])
    assert np.isnan(oks.joint_sigmas(Skeleton("tail", ("tail", "l_hip")))).tolist() == [True, False]


def test_oks_by_hand():
    # One joint right, one off by d with d^2 = 2 area (2 sigma)^2, one without a label, one without a sigma.
    area, sigmas = 1000.0, np.array([0.05, 0.05, 0.05, np.nan])
    off = math.sqrt(2 * area) * 0.1
    errors = np.array([[0.0, off, np.nan, 3.0], [np.nan, np.nan, np.nan, 3.0]])
    np.testing.assert_allclose(oks.similarity(errors, np.full(2, area), sigmas), [(1 + math.exp(-1)) / 2, np.nan])


def test_expected_oks_of_a_round_gaussian():
    # E exp(-|x|^2 / 2c) of two dimensions with variance s^2 is c / (c + s^2), c = area (2 sigma)^2.
    area, sigma, spread = 900.0, 0.1, 4.0
    people = Law(np.zeros((2, 4)), np.broadcast_to(spread**2 * np.eye(4), (2, 4, 4)), math.inf)
    labelled = np.array([[True, False], [True, True]])
    found = oks.expected_similarity(people, labelled, np.full(2, area), np.full(2, sigma), draws=20_000)
    c = area * (2 * sigma) ** 2
    np.testing.assert_allclose(found, c / (c + spread**2), rtol=0.01)


def displaced(similarity, area, sigma):
    return math.sqrt(-2 * area * (2 * sigma) ** 2 * math.log(similarity))


@pytest.fixture
def cocotools():
    return pytest.importorskip("pycocotools", reason="pycocotools is not installed")


@pytest.mark.parametrize("surest_is_best", [True, False])
def test_average_precision_by_hand(cocotools, surest_is_best):
    # Two people in two pictures, all joints off by so much that their OKS are 0.91 and 0.61. Up to the threshold 0.60 both
    # are found: AP 1. From 0.65 to 0.90 one is: its precision of 1 holds for recalls up to a half, 51 of COCO's 101, if it
    # is the surest, else a precision of 1/2 does. At 0.95 none is.
    area, sigmas = 5000.0, np.array([0.05, 0.1, np.nan])
    truth = np.random.default_rng(0).uniform(50, 150, (2, 3, 2))
    means = truth.copy()
    for person, similarity in enumerate((0.91, 0.61)):
        for joint in (0, 1):
            means[person, joint, 0] += displaced(similarity, area, sigmas[joint])
    means[:, 2] += 1000
    labelled = np.ones((2, 3), dtype=bool)
    labelled[1, 0] = False
    scores = np.array([0.9, 0.8]) if surest_is_best else np.array([0.8, 0.9])
    found = oks.average_precision(means, scores, truth, labelled, np.full(2, area), ["a", "b"], sigmas)
    half = 51 / 101 * (1 if surest_is_best else 0.5)
    assert found["ap"] == pytest.approx((3 + 6 * half) / 10)
    assert found["ap50"] == pytest.approx(1)
    assert found["ap75"] == pytest.approx(half)
    assert found["ar"] == pytest.approx((3 + 6 * 0.5) / 10)
    # Nobody is large. Beyond that, COCO leaves out wrong predictions whose own extent is of another size.
    assert found["ap_large"] is None
    assert found["people"] == 2


def test_people_of_one_picture_compete_and_those_without_a_sigma_do_not_count(cocotools, capsys):
    skeleton = Skeleton("three", ("l_hip", "r_hip", "tail"))
    truth = np.array([[[10.0, 10.0], [40.0, 10.0], [0, 0]], [[100.0, 90.0], [130.0, 95.0], [0, 0]], [[5.0, 5.0]] * 3])
    labelled = np.array([[True, True, False], [True, True, True], [False, False, True]])
    boxes = np.array([[0.0, 0, 60, 40], [90, 80, 50, 60], [0, 0, 50, 50]])
    # The two predictions are each other's: matched within the picture, both are found.
    people = Law(truth[[1, 0, 2]].reshape(3, 6), np.broadcast_to(np.eye(6), (3, 6, 6)), 5.0)
    found = oks.figures(people, skeleton, truth, labelled, boxes, ["a", "a", "b"])["oks"]
    assert found["ap"] == pytest.approx(1)
    assert found["people"] == 2
    assert found["mean"] < 0.01
    assert found["expected"] > 0.9
    assert found["without_sigma"] == ["tail"]
    apart = oks.figures(people, skeleton, truth, labelled, boxes, ["a", "c", "b"], np.array([900.0, np.nan, np.nan]))["oks"]
    assert apart["ap"] == pytest.approx(0)
    assert "annotated" in apart["areas"]
    assert capsys.readouterr().out == ""


def test_areas_without_an_outline_are_a_part_of_the_box(cocotools):
    skeleton = Skeleton("two", ("l_hip", "r_hip"))
    truth, boxes = np.full((2, 2, 2), 50.0), np.array([[0.0, 0, 120, 40], [0, 0, 30, 90]])
    people = Law((truth + 3.0).reshape(2, 4), np.broadcast_to(np.eye(4), (2, 4, 4)), 5.0)
    for given, areas in ((None, 0.53 * np.array([4800, 2700])), (np.array([1000.0, np.nan]), np.array([1000.0, 0.53 * 2700]))):
        found = oks.figures(people, skeleton, truth, np.ones((2, 2), dtype=bool), boxes, ["a", "b"], given)["oks"]
        assert found["mean"] == pytest.approx(np.exp(-18 / (2 * areas * (2 * 0.107) ** 2)).mean())


def test_what_is_missing_is_said(monkeypatch):
    people = Law(np.zeros((1, 4)), np.eye(4)[None], 5.0)
    rest = (np.zeros((1, 2, 2)), np.ones((1, 2), dtype=bool), np.array([[0.0, 0, 9, 9]]), ["a"])
    if oks.available():
        nothing = oks.figures(people, Skeleton("odd", ("tail", "fin")), *rest)
        assert nothing == {"oks": None, "oks_missing": "no labelled joint of skeleton odd has a COCO sigma"}
    monkeypatch.setattr(oks, "available", lambda: False)
    found = oks.figures(people, Skeleton("two", ("l_hip", "r_hip")), *rest)
    assert found == {"oks": None, "oks_missing": "pycocotools is not installed"}
    with pytest.raises(PosecovError, match=r"pip install -e \"\.\[evaluate\]\""):
        oks.average_precision(np.zeros((1, 2, 2)), np.zeros(1), *rest[:2], np.ones(1), ["a"], np.ones(2))
