import cv2
import numpy as np
import pytest

from posecov.geometry import box_around
from posecov.learn.datasets import Record
from posecov.learn.presence import places
from posecov.learn.presence.places import Place

PERSON = np.array([100.0, 60.0, 40.0, 80.0])
PICTURE = np.array([60.0, 40.0, 120.0, 120.0])


def place():
    return Place(np.zeros((300, 400, 3), np.uint8), PERSON[None], PICTURE[None])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (PERSON, 1),
        ([80, 60, 80, 80], 1),  # The square around it: the same crop.
        ([76, 64, 88, 88], 1),
        ([100, 90, 40, 40], 0),  # A leg.
        ([0, 0, 240, 240], 0),  # Three times as large.
        ([250, 150, 90, 90], 0),  # The scene beside.
        ([70, 150, 20, 8], np.nan),  # In the person's picture, where others may be.
        ([110, 60, 65, 65], np.nan),  # Neither near nor off.
    ],
)
def test_what_crops_show(box, expected):
    np.testing.assert_equal(places.shown(place(), np.array([box], dtype=float)), [expected])


def test_near_boxes_are_two_that_show_the_person_and_two_that_do_not():
    rng = np.random.default_rng(0)
    answers = np.array([places.shown(place(), places.near(PERSON[None], rng)) for _ in range(200)])
    assert answers.shape == (200, 4)
    assert (answers[:, :2] == 1).mean() > 0.9
    assert (answers[:, 2:] == 1).mean() < 0.2
    assert (answers[:, 2:] == 0).mean() > 0.5
    assert places.near(np.zeros((0, 4)), rng).shape == (0, 4)


@pytest.fixture
def files(tmp_path):
    """A person of one bright rectangle, and a dark scene."""
    image = np.full((240, 160, 3), 90, np.uint8)
    image[60:200, 50:110] = 255
    cv2.imwrite(str(tmp_path / "person.png"), image)
    cv2.imwrite(str(tmp_path / "scene.png"), np.zeros((300, 500, 3), np.uint8))
    x, y = np.meshgrid(np.linspace(50, 109, 4), np.linspace(60, 199, 3))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    seen = np.ones(len(points), bool)
    return Record("made/1", tmp_path / "person.png", points, seen, ~seen, box_around(points, 0.0)), tmp_path / "scene.png"


@pytest.mark.parametrize("seed", range(12))
def test_people_are_where_their_places_say(files, seed, monkeypatch):
    monkeypatch.setattr(places, "_coloured", lambda image, rng: image)
    record, scene = files
    made = places.with_people([record], scene, np.random.default_rng(seed))
    bright = np.argwhere(made.image[..., 0] > 200)
    assert len(bright)
    low, high = bright.min(axis=0)[::-1], bright.max(axis=0)[::-1]
    box = made.people[0]
    # The box may end within the person, where it was cut.
    assert (box[:2] >= low - 2).all()
    assert (box[:2] + box[2:] <= high + 2).all()
    (x, y, width, height) = made.unsure[0].astype(int)
    part = made.image[y : y + height, x : x + width]
    assert (part >= 80).all()
    assert made.alone == (part.shape == made.image.shape)


def test_both_alone_and_on_scenes(files, monkeypatch):
    monkeypatch.setattr(places, "_coloured", lambda image, rng: image)
    record, scene = files
    alone = [places.with_people([record], scene, np.random.default_rng(seed)).alone for seed in range(40)]
    assert 2 < sum(alone) < 25
    assert places.with_people([record], None, np.random.default_rng(0)).alone


def test_nobody_is_in_a_scene_and_a_person_to_judge_by_is_left_as_it_is(files):
    record, scene = files
    rng = np.random.default_rng(0)
    assert len(places.scene_alone(scene, rng).people) == 0
    made = places.on_scene(record, scene, 3.0, rng)
    x, y, width, height = made.people[0].round().astype(int)
    assert made.image.shape[:2] == (720, 480)
    assert (made.image[y + 1 : y + height, x + 1 : x + width] == 255).all()


@pytest.mark.parametrize("seed", range(8))
def test_beside_everybody_in_an_everyday_picture_is_nobody(files, seed, monkeypatch):
    monkeypatch.setattr(places, "_coloured", lambda image, rng: np.ascontiguousarray(image))
    record, _ = files
    person, crowd = np.array([[50.0, 60.0, 60.0, 140.0]]), np.array([[0.0, 0.0, 20.0, 20.0]])
    made = places.everyday(record.image, person, crowd, np.random.default_rng(seed))
    bright = np.argwhere(made.image[..., 0] > 200)
    boxes = np.concatenate([made.people, made.unsure])
    if len(bright):
        low, high = bright.min(axis=0)[::-1], bright.max(axis=0)[::-1] + 1
        assert any(np.abs([*(box[:2] - low), *(box[:2] + box[2:] - high)]).max() <= 1 for box in boxes)
    # A person of whom less than half is left is not to be found, nor to be taken for nobody.
    assert all(box[2:].prod() > 0.5 * person[0, 2:].prod() for box in made.people)
    height, width = made.image.shape[:2]
    places_of = np.array([[x, y, 12.0, 12.0] for x in range(0, width - 12, 9) for y in range(0, height - 12, 9)])
    assert (places.shown(made, places_of) == 0).any()
