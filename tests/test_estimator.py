import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_model import COVARIANCE, EXCHANGING, METADATA, POINTS, SCATTER, SIZE, WEIGHTS, picture, write_model

from posecov import resources
from posecov.errors import PosecovError
from posecov.estimator import DEFAULT_MODEL, PoseEstimator
from posecov.geometry import crop_map
from posecov.law import Law
from posecov.mixture import Mixture

BOXES = np.array(
    [[100.0, 70.0, 90.0, 100.0], [80.0, 60.0, 130.0, 110.5], [-20.0, -10.0, 300.0, 240.0], [101.5, 80.25, 84.0, 84.0]]
)


def test_joints_come_back_where_the_dots_are_whatever_the_box(estimator, dots):
    for box, pose in zip(BOXES, estimator(dots, boxes=BOXES), strict=True):
        close = 0.1 * METADATA.padding * max(box[2:]) / SIZE  # A tenth of a crop pixel.
        np.testing.assert_allclose(pose.keypoints[:3], POINTS, atol=close)


def test_the_covariance_comes_back_in_picture_pixels(estimator, dots):
    for box, pose in zip(BOXES, estimator(dots, boxes=BOXES), strict=True):
        # Crop pixels are smaller or larger than picture pixels by the side of the crop over that of the padded square box.
        pixel = METADATA.padding * max(box[2:]) / SIZE
        np.testing.assert_allclose(pose.covariance, pixel**2 * COVARIANCE, rtol=1e-5)
        np.testing.assert_array_equal(pose.covariance, pose.covariance.T)


def test_a_pose_carries_what_the_model_knows(estimator, dots):
    poses = estimator(dots, boxes=BOXES)
    assert len(poses) == len(BOXES)
    for pose, box in zip(poses, BOXES, strict=True):
        assert pose.names == METADATA.skeleton.keypoints
        assert pose.degrees_of_freedom == METADATA.degrees_of_freedom
        assert pose.keypoints.dtype == pose.covariance.dtype == np.float32
        np.testing.assert_allclose(pose.box, box)


def test_a_model_with_exchanges_gives_mixtures_in_picture_pixels(tmp_path, estimator, dots):
    exchanging = PoseEstimator(write_model(tmp_path / "m.onnx", EXCHANGING, weights=WEIGHTS), threads=1)
    people = exchanging.law(dots, BOXES)
    assert isinstance(people, Mixture)
    for index, (box, pose, plain) in enumerate(
        zip(BOXES, exchanging(dots, boxes=BOXES), estimator(dots, boxes=BOXES), strict=True)
    ):
        pixel = METADATA.padding * max(box[2:]) / SIZE
        np.testing.assert_array_equal(pose.keypoints, plain.keypoints)
        np.testing.assert_allclose(pose.box, box)
        np.testing.assert_allclose(pose.scatter, pixel**2 * SCATTER, rtol=1e-5)
        np.testing.assert_allclose(pose.components.weights, WEIGHTS, rtol=1e-6)
        hands = pose.components.means[1].reshape(4, 2)[[1, 0, 2, 3]]
        np.testing.assert_array_equal(hands, pose.keypoints)
        np.testing.assert_allclose(people[index].covariance, pose.covariance, rtol=1e-4, atol=1e-3)
        ((other, probability),) = pose.alternatives
        assert probability == pytest.approx(0.3)
        np.testing.assert_array_equal(other.keypoints, pose.keypoints[[1, 0, 2, 3]])
    assert exchanging(dots, boxes=[]) == []
    (found,) = exchanging(dots)
    np.testing.assert_allclose(found.keypoints[:3], POINTS, atol=0.35)
    single = estimator.law(dots, BOXES)
    assert isinstance(single, Law)
    np.testing.assert_allclose(single.covariance[0], estimator(dots, boxes=BOXES)[0].covariance, rtol=1e-5)


def test_without_boxes_it_finds_the_person(estimator, dots):
    (pose,) = estimator(dots)
    np.testing.assert_allclose(pose.keypoints[:3], POINTS, atol=0.35)
    low, high = pose.box[:2], pose.box[:2] + pose.box[2:]
    assert (low < POINTS.min(axis=0)).all()
    assert (high > POINTS.max(axis=0)).all()
    assert pose.box[2:].max() < 100


def test_nobody_gives_an_empty_list(estimator):
    assert estimator(np.full((100, 150, 3), 40, np.uint8)) == []


@pytest.mark.parametrize("boxes", [[], (), np.zeros((0, 4))])
def test_no_boxes_give_no_poses(estimator, dots, boxes):
    assert estimator(dots, boxes=boxes) == []


def test_a_path_is_read(estimator, dots, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), dots)
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(estimator(path, boxes=BOXES)[0].keypoints, estimator(dots, boxes=BOXES)[0].keypoints)


def test_exif_rotation_turns_the_pose_with_the_picture(estimator, dots, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(dots[::-1, ::-1, ::-1]).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(estimator(tmp_path / "a.png", boxes=BOXES)[0].keypoints[:3], POINTS, atol=0.35)


def test_many_boxes_at_once_are_as_one_by_one(estimator, dots):
    boxes = np.random.default_rng(0).uniform(20, 120, size=(37, 4))
    together = estimator(dots, boxes=boxes)
    for index in (0, 15, 16, 36):
        (alone,) = estimator(dots, boxes=boxes[index : index + 1])
        np.testing.assert_allclose(together[index].keypoints, alone.keypoints, rtol=1e-6)
        np.testing.assert_allclose(together[index].covariance, alone.covariance, rtol=1e-6)


def test_views_that_opencv_does_not_take(estimator, dots):
    view = np.ascontiguousarray(dots[:, :, ::-1])[:, :, ::-1]
    np.testing.assert_array_equal(estimator(view, boxes=BOXES)[1].keypoints, estimator(dots, boxes=BOXES)[1].keypoints)


@pytest.mark.parametrize("box", [[500, 500, 50, 50], [-3000, -2000, 40, 90], [-1e6, -1e6, 2e6, 2e6], [100, 100, 1e-3, 1e-3]])
def test_odd_boxes_still_give_one_pose_each(estimator, dots, box):
    (pose,) = estimator(dots, boxes=[box])
    crop = crop_map(np.array(box), SIZE, METADATA.padding)
    assert (crop.points(pose.keypoints.astype(float)) > -1).all()
    assert (crop.points(pose.keypoints.astype(float)) < SIZE).all()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((20, 20), np.uint8), "GRAY2BGR"),
        (np.zeros((20, 20, 4), np.uint8), r"\(20, 20, 4\)"),
        (np.zeros((20, 20, 3), np.float32), "float32"),
        (np.zeros((0, 20, 3), np.uint8), r"\(0, 20, 3\)"),
        ([[1]], "list"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(estimator, image, said):
    with pytest.raises(PosecovError, match=said):
        estimator(image)


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ([1, 2, 3, 4], r"boxes=\[box\]"),
        ([[1, 2, 3]], r"\(1, 3\)"),
        ([[1, 2, 3, 4], [1, 2, 3]], "must be numbers"),
        ("here", "must be numbers"),
        ([[1, 2, 3, float("nan")]], "box 0"),
        ([[1, 2, 3, 4], [1, 2, 0, 4]], "box 1"),
    ],
)
def test_what_are_no_boxes_is_refused(estimator, dots, boxes, said):
    with pytest.raises(PosecovError, match=said):
        estimator(dots, boxes=boxes)


def test_a_model_whose_covariance_is_none_is_named(tmp_path, dots):
    estimator = PoseEstimator(write_model(tmp_path / "bad.onnx", covariance=-COVARIANCE), threads=1)
    with pytest.raises(PosecovError, match=r"bad\.onnx: .*positive definite"):
        estimator(dots, boxes=BOXES)


def test_the_default_is_the_shipped_model(tmp_path, monkeypatch, model_path):
    monkeypatch.setattr(resources, "_PLACES", (tmp_path,))
    with pytest.raises(PosecovError, match=DEFAULT_MODEL):
        PoseEstimator()
    (tmp_path / DEFAULT_MODEL).parent.mkdir()
    shutil.copy(model_path, tmp_path / DEFAULT_MODEL)
    assert PoseEstimator(threads=1).metadata == METADATA


def test_large_pictures_are_averaged_into_the_crop(estimator):
    points = POINTS * 8
    (pose,) = estimator(picture(points, 2560, 1920, radius=48), boxes=BOXES[1:2] * 8)
    np.testing.assert_allclose(pose.keypoints[:3], points, atol=2)
