import numpy as np
import pytest
from tiny_model import picture

from posecov.geometry import box_around
from posecov.search import BOTH, EVEN, WINDOWS, Seen, consistency_of, find_people, person_boxes, together, windows

SIZES = [(500, 500), (640, 427), (427, 640), (1920, 1080), (1000, 300), (300, 4000), (9, 9), (8, 12_000)]


@pytest.mark.parametrize("size", SIZES)
def test_windows_are_few_and_begin_with_the_whole(size):
    boxes = windows(*size, padding=1.25)
    assert 1 <= len(boxes) <= WINDOWS
    side = 1.25 * boxes[:, 2]
    low, high = boxes[:, :2] + boxes[:, 2:] / 2 - side[:, None] / 2, boxes[:, :2] + boxes[:, 2:] / 2 + side[:, None] / 2
    # The first crop holds the whole picture, the others lie within it. Pixels reach half a pixel around their centres.
    assert (low[0] <= -0.5 + 1e-6).all()
    assert (high[0] >= np.array(size) - 0.5 - 1e-6).all()
    assert (low[1:] >= -0.5 - 1e-6).all()
    assert (high[1:] <= np.array(size) - 0.5 + 1e-6).all()


@pytest.mark.parametrize("size", [s for s in SIZES if max(s) < 10 * min(s)])
def test_the_windows_of_each_size_leave_no_gap(size):
    boxes = windows(*size)[1:]
    for side in np.unique(boxes[:, 2].round(6)):
        same = boxes[boxes[:, 2].round(6) == side]
        for axis in (0, 1):
            starts = np.unique(same[:, axis].round(6))
            assert starts[0] == pytest.approx(-0.5, abs=1e-5)
            assert starts[-1] + side == pytest.approx(size[axis] - 0.5, abs=1e-5)
            assert (np.diff(starts) < side).all()


PLACES = [
    ((640, 480), [[120.0, 90.0], [180.0, 100.0], [150.0, 160.0]]),
    ((640, 480), [[520.0, 330.0], [590.0, 350.0], [560.0, 420.0]]),
    ((900, 300), [[700.0, 90.0], [770.0, 110.0], [740.0, 220.0]]),
    ((300, 300), [[60.0, 70.0], [240.0, 90.0], [140.0, 260.0]]),
]


@pytest.mark.parametrize(("size", "points"), PLACES)
def test_it_finds_the_dots_wherever_they_are(estimator, size, points):
    image = picture(np.array(points), *size, radius=7)
    found = find_people(lambda boxes: estimator.predict(image, boxes), *size, padding=1.25)
    assert len(found) == 1
    truth = box_around(np.array([*points, np.mean(points, axis=0)]))
    np.testing.assert_allclose(found[0].box, truth, atol=0.06 * truth[2:].max())
    assert 0.5 < found[0].probability <= 1


@pytest.mark.parametrize("size", [(320, 240), (8, 8), (100, 900)])
def test_nobody_is_found_where_nothing_is(estimator, size):
    image = np.full((size[1], size[0], 3), 40, np.uint8)
    assert find_people(lambda boxes: estimator.predict(image, boxes), *size, padding=1.25) == []


def follower(pinned, spread, centre=(100.0, 100.0), size=50.0):
    """A network of which a share of the answer is pinned to the picture and the rest follows the crop."""
    shape = np.array([[-0.4, -0.4], [0.4, -0.4], [0.4, 0.4], [-0.4, 0.4]])

    def predict(boxes):
        centres = boxes[:, None, :2] + boxes[:, None, 2:] / 2
        follows = centres + shape * boxes[:, None, 2:]
        stays = np.array(centre) + shape * size
        sides = boxes[:, 2:].max(axis=1)
        covariance = np.eye(8) / 2 * np.square(spread * sides)[:, None, None]
        return pinned * stays + (1 - pinned) * follows, covariance

    return predict


def test_consistency_is_one_for_what_stays_and_nothing_for_what_follows():
    box = np.array([[75.0, 75.0, 50.0, 50.0]])
    assert consistency_of(follower(1.0, 0.0), box)[0] == pytest.approx(1)
    assert consistency_of(follower(0.0, 0.0), box)[0] == pytest.approx(0, abs=1e-6)
    assert consistency_of(follower(0.7, 0.0), box)[0] == pytest.approx(0.7**0.25)
    # The joints' own box is 1.2 times their extent of 40, so that a standard deviation of 2 pixels is 2 / 48 of it.
    assert consistency_of(follower(1.0, 0.04 * np.sqrt(2)), box)[0] == pytest.approx(1 - 2 / 48 / 0.1)
    assert consistency_of(follower(1.0, 0.2), box)[0] == 0


def test_a_person_half_hidden_is_as_certain_as_the_half_that_is_seen():
    def predict(boxes):
        keypoints, covariance = follower(1.0, 0.0)(boxes)
        covariance[:, 4:, 4:] += 900 * np.eye(4)
        return keypoints, covariance

    assert consistency_of(predict, np.array([[75.0, 75.0, 50.0, 50.0]]))[0] == pytest.approx(1)


def test_who_is_found_comes_with_a_probability_that_decides():
    (found,) = find_people(follower(1.0, 0.04, size=100.0), 200, 200)
    assert 0.5 < found.probability < 1
    assert find_people(follower(1.0, 0.04, size=100.0), 200, 200, least=found.probability + 1e-6) == []
    doubtful = find_people(follower(0.1, 0.04, size=100.0), 200, 200, least=0.0)[0]
    assert doubtful.probability < 0.5


def test_several_people_are_found_each_once():
    found = find_people(two_people(0.03, 0.03), 400, 240)
    assert sorted(round(float(one.box[0] + one.box[2] / 2), -1) for one in found) == [100, 320]
    assert len(find_people(two_people(0.03, 0.03), 400, 240, most=1)) == 1


def test_one_joint_that_goes_astray_does_not_make_a_person_inconsistent():
    def predict(boxes):
        keypoints, covariance = follower(1.0, 0.0)(boxes)
        keypoints[:, 0, 0] += 3 * (boxes[:, 0] - 75)
        return keypoints, covariance

    assert consistency_of(predict, np.array([[75.0, 75.0, 50.0, 50.0]]))[0] == pytest.approx(1)


def test_boxes_hold_the_joints_and_their_uncertainty():
    keypoints = np.array([[[10.0, 20.0], [50.0, 60.0], [30.0, 100.0]]])
    sigma = np.array([5.0, 0, 0, 0, 0, 10.0])
    (box,) = person_boxes(keypoints, np.diag(sigma**2)[None])
    # From (5, 20) to (50, 110), and 5 % of 90 on every side.
    np.testing.assert_allclose(box, [0.5, 15.5, 54, 99])


def test_it_crops_again_until_the_box_settles():
    (found,) = find_people(follower(0.6, 0.02), 200, 200)
    # Where re-cropping stands still: s = 1.1 (0.6 40 + 0.4 0.8 s + 2 sigma), sigma = 0.02 s / sqrt 2, around the pinned centre.
    side = 1.1 * 0.6 * 40 / (1 - 1.1 * (0.4 * 0.8 + 0.02 * np.sqrt(2)))
    np.testing.assert_allclose(found.box, [100 - side / 2, 100 - side / 2, side, side], atol=0.05 * side)


def two_people(near, far):
    """A network that sees a person of 120 pixels at (100, 120) and one of 60 at (320, 120), whichever its crop is nearer to."""

    def predict(boxes):
        left = boxes[:, 0] + boxes[:, 2] / 2 < 230
        first = follower(1.0, near, (100.0, 120.0), 150.0)(boxes)
        second = follower(1.0, far, (320.0, 120.0), 75.0)(boxes)
        return tuple(np.where(left.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(first, second, strict=True))

    return predict


def test_the_larger_person_is_taken_unless_the_smaller_is_far_more_certain():
    assert find_people(two_people(0.03, 0.03), 400, 240)[0].box[0] < 200
    assert find_people(two_people(0.035, 0.03), 400, 240)[0].box[0] < 200
    assert find_people(two_people(0.14, 0.01), 400, 240)[0].box[0] > 200


def test_nobody_is_where_the_pose_is_unsure_or_follows_the_crop():
    assert len(find_people(follower(1.0, 0.04, size=100.0), 200, 200)) == 1
    assert find_people(follower(1.0, 0.2, size=100.0), 200, 200) == []
    assert find_people(follower(0.1, 0.04, size=100.0), 200, 200) == []


def test_what_is_a_speck_in_the_picture_is_no_person():
    assert len(find_people(follower(1.0, 0.02, (200.0, 200.0), 75.0), 300, 300)) == 1
    assert find_people(follower(1.0, 0.02, (200.0, 200.0), 40.0), 300, 300) == []


def test_few_calls_are_made(estimator, dots):
    sizes = []

    def predict(boxes):
        sizes.append(len(boxes))
        return estimator.predict(dots, boxes)

    find_people(predict, 320, 240, 1.25)
    assert len(sizes) <= 7
    assert sum(sizes) <= 78


def believing(predict, presence):
    """The same network, which also says how likely somebody is in each box."""
    return lambda boxes: Seen(*predict(boxes), presence(boxes))


def test_a_model_that_tells_who_is_there_is_believed():
    unsure = follower(0.1, 0.04, size=100.0)  # Inconsistent, so that without the model's word nobody is there.
    found = find_people(believing(unsure, lambda boxes: np.full(len(boxes), 0.99)), 200, 200)[0]
    assert found.probability == pytest.approx(together(np.array([0.99]), consistency_of(unsure, found.box[None]))[0], abs=0.02)
    sure = follower(1.0, 0.055, size=100.0)
    assert len(find_people(sure, 200, 200)) == 1
    assert find_people(believing(sure, lambda boxes: np.full(len(boxes), 0.01)), 200, 200) == []
    assert find_people(believing(sure, lambda boxes: np.full(len(boxes), 0.01)), 200, 200, least=0.0)


def test_word_and_steadiness_count_together():
    presence, consistency = np.array([0.5, 0.9, 0.9, 0.0, 1.0]), np.array([EVEN, EVEN, 0.3, 0.0, 1.0])
    found = together(presence, consistency)
    logit = np.log(found / (1 - found))
    assert logit[0] == pytest.approx(BOTH[0])
    assert logit[1] - logit[0] == pytest.approx(BOTH[1] * np.log(9))
    assert logit[2] - logit[1] == pytest.approx(BOTH[2] * (0.3 - EVEN))
    np.testing.assert_allclose(found[3:], [0.01, 0.99])


def test_of_two_the_likelier_one_is_taken_and_both_are_found():
    def presence(boxes):
        return np.where(boxes[:, 0] + boxes[:, 2] / 2 < 230, 0.6, 0.95)

    predict = believing(two_people(0.06, 0.06), presence)
    both = find_people(predict, 400, 240, most=2)
    assert both[0].box[0] > 200
    assert both[0].probability > both[1].probability > 0.3
