import json

import numpy as np
import pytest
from tiny_model import picture

from posecov.errors import PosecovError
from posecov.evaluation import searching
from posecov.evaluation.searching import Scene
from posecov.geometry import box_around
from posecov.search import EVEN, SLOPE

POINTS = np.array([[120.0, 90.0], [180.0, 100.0], [150.0, 160.0]])


def scene(points=POINTS):
    keypoints = np.array([*points, points.mean(axis=0)])
    return Scene(picture(points, 320, 240, radius=7), keypoints[None], box_around(keypoints)[None], np.array([70.0]))


def test_a_person_found_counts_as_the_boxed_one_and_one_elsewhere_does_not(estimator):
    here = scene()
    elsewhere = Scene(here.image, here.keypoints + 90, here.boxes + [90, 90, 0, 0], here.scale)
    found = searching.search_one(estimator, [here, elsewhere])
    assert found.found.all()
    assert list(found.right) == [4, 0]
    assert found.boxed[0] == 4
    assert list(found.placed) == [True, False]
    assert (found.probability >= 0.5).all()


def test_no_pictures_are_an_error_in_one_line(estimator):
    with pytest.raises(PosecovError, match="no picture with one"):
        searching.search_one(estimator, [])


def test_nobody_is_found_in_an_empty_picture_and_the_share_says_so(estimator, tmp_path):
    import cv2

    files = [tmp_path / "empty.png", tmp_path / "dots.png"]
    cv2.imwrite(str(files[0]), np.full((240, 320, 3), 40, np.uint8))
    cv2.imwrite(str(files[1]), scene().image)
    probability = searching.search_nobody(estimator, files)
    assert probability[0] < 0.5 <= probability[1]


def test_of_several_people_the_found_ones_are_told_from_places_where_nobody_is(estimator):
    one = scene()
    both = Scene(
        one.image, np.repeat(one.keypoints, 2, axis=0), np.concatenate([one.boxes, one.boxes + [150, 60, 0, 0]]), one.scale
    )
    ((found, extra),) = searching.search_several(estimator, [both], 3)
    assert list(found) == [True, False]
    assert extra == 0
    nobody_labelled = Scene(one.image, one.keypoints[:0], one.boxes[:0], one.scale[:0])
    ((found, extra),) = searching.search_several(estimator, [nobody_labelled], 3)
    assert found.shape == (0,)
    assert extra == 1


@pytest.mark.parametrize("shape", [(40, 30), (90, 400), (700, 500)])
def test_a_picture_lies_unchanged_where_it_is_said_to(shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 50, 3), dtype=np.uint8)
    canvas, (left, top) = searching.padded(image, np.zeros((*shape, 3), np.uint8), 3.0, rng)
    assert canvas.shape == (180, 150, 3)
    np.testing.assert_array_equal(canvas[top : top + 60, left : left + 50], image)
    assert canvas.astype(int).sum() == image.astype(int).sum()


def test_the_curve_that_made_the_answers_is_found_again():
    rng = np.random.default_rng(0)
    consistency = rng.uniform(0, 1, 40_000)
    somebody = rng.random(len(consistency)) < 1 / (1 + np.exp(-12 * (consistency - 0.5)))
    stated = 1 / (1 + np.exp(-SLOPE * (consistency - EVEN)))
    even, slope = searching.fit_probability(stated[somebody], stated[~somebody], EVEN, SLOPE)
    assert even == pytest.approx(0.5, abs=0.01)
    assert slope == pytest.approx(12, rel=0.05)


def test_pictures_without_annotations_are_those_without_people(tmp_path):
    (tmp_path / "annotations").mkdir()
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 2, "num_keypoints": 3}],
    }
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text(json.dumps(content))
    empty, people = searching.coco_scenes(tmp_path, "val2017")
    assert empty == [tmp_path / "val2017" / "a.jpg"]
    assert list(people) == [tmp_path / "val2017" / "b.jpg"]
    assert not searching.labelled_enough(people[tmp_path / "val2017" / "b.jpg"])
    with pytest.raises(PosecovError, match="train2017"):
        searching.coco_scenes(tmp_path, "train2017")


def test_area_under_roc_is_the_share_of_pairs_in_order():
    score = np.array([0.1, 0.4, 0.35, 0.8, 0.8])
    positive = np.array([False, False, True, True, False])
    # (0.35 over 0.1), (0.8 over 0.1 and 0.4), half of (0.8, 0.8): 3.5 of 6.
    assert searching.area_under_roc(score, positive) == pytest.approx(3.5 / 6)
    assert np.isnan(searching.area_under_roc(score, np.ones(5, bool)))


def test_reliability_weighs_pictures():
    table = searching.reliability(np.array([0.1, 0.15, 1.0]), np.array([False, True, True]), np.array([3.0, 1.0, 1.0]))
    assert [(row["from"], row["pictures"]) for row in table] == [(0.05, 2), (0.95, 1)]
    assert table[0]["share"] == pytest.approx(0.25)
    assert table[0]["probability"] == pytest.approx((0.3 + 0.15) / 4)


def test_both_kinds_of_pictures_are_half_of_all_and_the_loss_is_in_nats():
    weight = searching.even_weights(np.array([True, False, False, False]))
    np.testing.assert_allclose(weight, [0.5, 1 / 6, 1 / 6, 1 / 6])
    loss = searching.log_loss(np.array([0.8, 0.1, 0.1, 0.1]), np.array([True, False, False, False]), weight)
    assert loss == pytest.approx(-(np.log(0.8) + np.log(0.9)) / 2)
