"""Several people in a film, found, followed, lost and found again, and the same when a run is resumed."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from tiny_model import POINTS, picture

from posecov.estimator import PoseEstimator
from posecov.geometry import box_around
from posecov.tracking.tracker import Tracker, uncertainty
from posecov.video.people import KEEP, Tracks, Watcher
from posecov.video.results import read_results
from posecov.video.run import Settings, run_film
from posecov.video.writing import FilmWriter

SIZE = (640, 240)
RATE = 10
SHIFT = np.array([320.0, 0.0])


class Searching(PoseEstimator):
    """The tiny model, whose centroids would mix two people, with a search that takes the half of the picture with red in it."""

    looks = 0

    def __call__(self, image, boxes=None, *, most=1):
        assert most == 1
        if boxes is not None:
            return super().__call__(image, boxes)
        self.looks += 1
        for half in range(2):
            part = image[:, 320 * half : 320 * (half + 1)]
            if (part[..., 2] > 200).sum() > 20:
                y, x = (part.max(axis=2) > 150).nonzero()
                low, high = [x.min() + 320 * half, y.min()], [x.max() + 320 * half, y.max()]
                return super().__call__(image, [[*low, *np.subtract(high, low)]])
        return []


@pytest.fixture
def searching(model_path):
    return Searching(model_path, threads=1)


def frame_of(index, left=True, right=True):
    """A frame with somebody on the left who walks, and somebody on the right who stands."""
    places = ([POINTS + [1.5 * index, 0]] if left else []) + ([POINTS + SHIFT] if right else [])
    return np.maximum.reduce([picture(place, *SIZE) for place in places] or [picture(POINTS - 500, *SIZE)])


def film_of(path, frames, left=(), right=()):
    """A film without the left and the right one in these frames."""
    writer = FilmWriter(path, Fraction(1, RATE), Fraction(RATE), 1)
    for index in range(frames):
        writer.write(frame_of(index, index not in left, index not in right), index)
    writer.close()
    return path


def watched(estimator, frames, left=(), right=(), **options):
    """Ids of every frame, and where each id was last."""
    watcher, ids, places = Watcher(estimator, **options), [], {}
    for index in range(frames):
        people = watcher(frame_of(index, index not in left, index not in right), index / RATE)
        ids.append([person.id for person in people])
        places |= {person.id: person.measured.keypoints[0] for person in people}
    return ids, places


def test_two_people_are_found_in_the_first_two_frames_and_keep_their_numbers(searching):
    ids, places = watched(searching, 15, look_again=100)
    assert [sorted(frame) for frame in ids] == [[1]] + [[1, 2]] * 14
    np.testing.assert_allclose(sorted(places.values(), key=lambda p: p[0]), [POINTS[0] + [21, 0], POINTS[0] + SHIFT], atol=1)


@pytest.mark.parametrize("period", [0.5, 2.0])
def test_who_comes_later_is_found_by_the_next_look(searching, period):
    ids, _ = watched(searching, 25, right=range(3), look_again=period)
    assert [frame for frame, people in enumerate(ids) if people == [1]] == list(range(round(period * RATE)))
    assert ids[-1] == [1, 2]


def test_while_nobody_is_missing_the_frame_is_searched_no_more_often_than_asked(searching):
    watched(searching, 21, look_every=0.0, look_again=1.0)
    # The first looks find one each, the next one that there is nobody else, as do the two later ones.
    assert searching.looks == 3 + 2


def test_a_detector_is_asked_instead_of_the_search_and_only_new_people_are_added(searching):
    asked = []

    def detector(image):
        asked.append(image)
        boxes = np.array([box_around(POINTS + [len(asked), 0]), box_around(POINTS + SHIFT)])
        return boxes, np.ones(2)

    ids, places = watched(searching, 15, look_again=0.5, detector=detector)
    assert [sorted(frame) for frame in ids] == [[1, 2]] * 15
    assert searching.looks == 0
    assert 2 <= len(asked) <= 4
    np.testing.assert_allclose(sorted(places.values(), key=lambda p: p[0])[0], POINTS[0] + [21, 0], atol=1)


def test_who_was_lost_for_a_moment_is_the_same_and_for_long_is_somebody_new(searching):
    gone = range(10, 10 + round((KEEP - 0.5) * RATE))
    ids, _ = watched(searching, gone.stop + 8, right=gone)
    assert ids[1] == ids[-1] == [1, 2]
    assert [len(people) for people in ids[gone.start : gone.stop]] == [1] * len(gone)
    gone = range(10, 10 + round((KEEP + 1.5) * RATE))
    ids, _ = watched(searching, gone.stop + 25, right=gone)
    (other,) = ids[gone.start]
    assert ids[-1] == [other, 3]


@pytest.mark.parametrize(("presence", "followed"), [(0.5, True), (0.001, False)])
def test_a_model_that_tells_whether_somebody_is_there_is_asked_once_a_second(searching, monkeypatch, presence, followed):
    asked = []

    def told(image, boxes):
        asked.append(len(boxes))
        return np.full(len(boxes), presence)

    monkeypatch.setattr(searching, "presence", told)
    ids, _ = watched(searching, 15, right=range(15), look_every=100)
    assert ids[9] == [1]
    assert bool(ids[10]) == bool(ids[14]) == followed
    assert asked[0] == 1
    assert set(asked) <= {1}


def test_who_has_gone_is_shown_for_a_moment_but_not_with_ellipses_that_say_nothing(searching):
    (sure,) = searching(frame_of(0, right=False), [box_around(POINTS)])
    for share, least, most in ((0.2, 12, 15), (0.9, 1, 11)):
        tracks = Tracks(searching.metadata.skeleton, live=True)
        widest = Tracker(searching.metadata.skeleton).widest
        pose = replace(sure, covariance=sure.covariance * (share * widest / uncertainty(sure)) ** 2)
        for index in range(10):
            assert len(tracks.update([pose], index / 30)) == 1
        unseen = [person.pose for index in range(10, 40) for person in tracks.update([], index / 30)]
        assert least <= len(unseen) <= most
        assert max(map(uncertainty, unseen)) <= widest


@pytest.mark.parametrize("smooth", ["none", "live", "offline"])
def test_a_run_that_goes_on_anywhere_gives_the_same_results(searching, tmp_path, smooth):
    """Also where somebody is just being waited for."""
    film = film_of(tmp_path / "a.mp4", 40, right=range(12, 20))
    settings = {"save": ("jsonl",), "smooth": smooth, "threads": 1}
    (whole,) = run_film(searching, str(film), tmp_path, "whole", Settings(**settings)).files
    lines = whole.read_bytes().splitlines(keepends=True)
    assert {person.id for frame in read_results(whole)[1] for person in frame.people} == {1, 2}
    if smooth == "offline":  # What a stopped run leaves is not smoothed yet.
        (measured,) = run_film(searching, str(film), tmp_path, "m", Settings(**settings | {"smooth": "none"})).files
        lines = measured.read_bytes().splitlines(keepends=True)
    for done in (1, 11, 17, 30, 40):
        part = tmp_path / "a.part.jsonl"
        part.write_bytes(b"".join(lines[: 1 + done]) + b'{"frame":')
        (again,) = run_film(searching, str(film), tmp_path, "a", Settings(**settings, resume=True)).files
        assert again.read_bytes() == whole.read_bytes()
        again.unlink()
