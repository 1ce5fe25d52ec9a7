"""Identities over frames."""

import math

import numpy as np
import pytest
from small_people import LEGS, STANDING, exchanged, standing, walking_two

from posecov.errors import PosecovError
from posecov.geometry import Similarity
from posecov.tracking.synthetic import Errors, make_film, skeleton
from posecov.tracking.tracker import Tracker


def crossing(seconds=4.0, seed=0):
    """Two people who walk towards each other and past each other; poses of each by frame, and the middles of their truth."""
    films = [make_film("walk", Errors(), seconds=seconds, covered=False, seed=seed + n) for n in (0, 1)]
    times = films[0].times_s
    # The second one is mirrored and walks the other way.
    mirror = Similarity(np.diag([-1.0, 1.0]), np.array([700.0, 6.0]))
    poses = [list(films[0].poses), [pose.mapped(mirror) for pose in films[1].poses]]
    return times, poses, [films[0].truth.mean(axis=1), mirror.points(films[1].truth).mean(axis=1)]


@pytest.mark.parametrize("hidden", [False, True])
def test_two_people_who_cross_keep_their_identities(hidden):
    times, (first, second), middles = crossing()
    apart = np.abs(middles[0][:, 0] - middles[1][:, 0])
    assert apart.min() < 5
    assert apart[[0, -1]].min() > 150
    tracker, rng = Tracker(skeleton()), np.random.default_rng(1)
    for index, time in enumerate(times):
        # While one covers the other, both boxes show the one in front.
        poses = [first[index], first[index] if hidden and apart[index] < 40 else second[index]]
        people = tracker.update([poses[k] for k in rng.permutation(2)], time)
        if index == 0:
            owner = {person.id: int(person.measured is poses[1]) for person in people}
    assert [person.id for person in people] == [1, 2]
    for person in people:
        middle = middles[owner[person.id]][-1]
        np.testing.assert_allclose(person.pose.keypoints.mean(axis=0), middle, atol=10)
        assert person.missing_s == 0


def test_a_lost_person_is_kept_predicted_and_found_again():
    tracker = Tracker(LEGS, keep_s=1.0)
    for index in range(10):
        tracker.update([standing(STANDING + [3 * index, 0])], index / 30)
    lost = [tracker.update([], 0.4 + index / 10)[0] for index in range(4)]
    assert [person.id for person in lost] == [1] * 4
    assert [person.measured for person in lost] == [None] * 4
    np.testing.assert_allclose([person.missing_s for person in lost], np.arange(4) / 10 + 0.1)
    assert (np.diff([person.pose.sigma.mean() for person in lost]) > 0).all()
    assert lost[-1].pose.keypoints[0, 0] > STANDING[0, 0] + 40
    again = tracker.update([standing(STANDING + [60, 0])], 0.9)
    assert [(person.id, person.missing_s) for person in again] == [(1, 0)]


def test_who_is_lost_for_too_long_comes_back_as_somebody_new():
    tracker = Tracker(LEGS, keep_s=0.3)
    tracker.update([standing()], 0.0)
    assert [person.id for person in tracker.update([], 0.3)] == [1]
    assert tracker.update([], 0.31) == []
    assert len(tracker.boxes(0.35)) == 0
    assert [person.id for person in tracker.update([standing()], 0.4)] == [2]


def test_somebody_who_is_lost_and_may_be_anywhere_does_not_take_a_seen_person_s_pose():
    tracker = Tracker(LEGS)
    tracker.update([standing(), standing(STANDING + [40, 0])], 0.0)
    for index in range(1, 28):
        tracker.update([standing()], index / 30)
    # Nearer to the seen one in pixels, nearer to the lost one in standard deviations.
    people = tracker.update([standing(STANDING + [4, 0])], 28 / 30)
    assert [(person.id, person.measured is None) for person in people] == [(1, False), (2, True)]


def test_somebody_elsewhere_is_not_the_person_who_was_there():
    tracker = Tracker(LEGS)
    for index in range(5):
        tracker.update([standing()], index / 30)
    people = tracker.update([standing(STANDING + 80)], 0.2)
    assert [(person.id, person.measured is None) for person in people] == [(1, True), (2, False)]


def test_the_gate_is_the_stated_probability():
    """Of a person who stands still, a third of the joints left out, so that fewer are lost than the gate says; but not all."""
    rng = np.random.default_rng(0)
    taken = {}
    for gate in (0.05, 0.9):
        tracker = Tracker(LEGS, gate=gate)
        for index in range(10):
            tracker.update([standing()], index / 30)
        tried = [tracker._associate([standing(STANDING + 2.5 * rng.standard_normal((5, 2)))], 0.34) for _ in range(60)]
        taken[gate] = np.mean([bool(pairs) for pairs in tried])
    assert taken[0.05] < 0.6 < 0.9 < taken[0.9]


def test_one_joint_that_jumps_and_exchanged_legs_do_not_end_a_track():
    tracker = Tracker(LEGS)
    for index in range(10):
        tracker.update([standing()], index / 30)
    jumped = STANDING.copy()
    jumped[3] += 90
    assert [person.id for person in tracker.update([standing(jumped)], 0.4)] == [1]
    known = Tracker(LEGS)
    weights = [0.9, 0.06, 0.04]
    for index in range(10):
        known.update([standing(nu=5.0, weights=weights)], index / 30)
    person = known.update([standing(exchanged(), nu=5.0, weights=weights)], 0.4)
    assert [person.id for person in person] == [1]
    np.testing.assert_allclose(person[0].pose.keypoints, STANDING, atol=1)


def test_a_birth_takes_as_many_frames_in_a_row_as_asked():
    tracker = Tracker(LEGS, births=3)
    seen = [True, True, False, True, True, True]
    found = [len(tracker.update([standing()] if here else [], index / 30)) for index, here in enumerate(seen)]
    assert found == [0, 0, 0, 0, 0, 1]


def test_a_person_seen_twice_is_one_and_the_surer_pose_counts():
    unsure, sure = standing(STANDING + 0.5, sigma=4.0), standing()
    people = Tracker(LEGS).update([unsure, sure], 0.0)
    assert len(people) == 1
    assert people[0].measured is sure
    assert len(Tracker(LEGS).update([standing(), standing(STANDING + 60)], 0.0)) == 2


def test_a_pose_that_knows_nothing_is_nobody():
    assert Tracker(LEGS).update([standing(sigma=40.0)], 0.0) == []
    assert len(Tracker(LEGS, widest=1.0).update([standing(sigma=40.0)], 0.0)) == 1


def test_boxes_go_where_people_go_and_do_not_swell_while_they_are_lost():
    tracker = Tracker(LEGS)
    assert tracker.boxes(0.0).shape == (0, 4)
    for index in range(20):
        tracker.update([standing(STANDING + [4 * index, 0])], index / 30)
    box = tracker.boxes(20 / 30)[0]
    low, high = (STANDING + [80, 0]).min(axis=0), (STANDING + [80, 0]).max(axis=0)
    assert (box[:2] < low).all()
    assert (box[:2] + box[2:] > high).all()
    assert (box[2:] < (high - low) + 25).all()
    tracker.update([], 20 / 30)
    np.testing.assert_allclose(tracker.boxes(0.8)[0, 2:], box[2:], rtol=0.3)


def test_bad_input_is_one_line():
    tracker = Tracker(LEGS)
    tracker.update([], 1.0)
    with pytest.raises(PosecovError, match=r"0.9 s, must be later than that of the one before, 1 s"):
        tracker.update([], 0.9)
    with pytest.raises(PosecovError, match="follows skeleton legs, not two"):
        tracker.update([walking_two()[1][0]], 2.0)
    with pytest.raises(PosecovError, match=r"gate .* probability"):
        Tracker(LEGS, gate=1.0)
    with pytest.raises(PosecovError, match="keep_s"):
        Tracker(LEGS, keep_s=-math.inf)
