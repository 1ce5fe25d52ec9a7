import numpy as np
import pytest

from posecov.learn.presence.judge import CLIP, FLOOR, Judge, Settings, fit_logistic, probability_of, train


def test_it_learns_what_no_line_divides_and_knows_a_useless_feature():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3000, 4)).astype(np.float32) * [1, 5, 100, 0] + [0, 3, 40, 7]
    present = (features[:, 0] * (features[:, 1] - 3) > 0).astype(float)
    judge = train(features[:2000], present[:2000], np.ones(2000), Settings(dropout=0.0, rate=0.01, epochs=30), seed=0)
    assert ((judge.logits(features[2000:]) > 0) == present[2000:]).mean() > 0.93
    assert np.isfinite(judge.logits(features)).all()


def test_the_same_seed_gives_the_same_judge_and_the_caller_keeps_its_random_numbers():
    import torch

    features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    present, ones = (features[:, 0] > 0).astype(float), np.ones(60)
    before = torch.random.get_rng_state()
    first, second = (train(features, present, ones, Settings(epochs=2), seed=5).logits(features) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_decide_where_the_features_do_not():
    features = np.random.default_rng(0).normal(size=(800, 2)).astype(np.float32)
    present = np.tile([0.0, 1.0], 400)
    weight = np.where(present > 0, 9.0, 1.0)
    judge = train(features, present, weight, Settings(dropout=0.0, decay=1.0, rate=0.01), seed=0)
    assert np.median(judge.logits(features)) == pytest.approx(np.log(9), abs=0.4)


def test_far_out_is_as_far_as_it_is_believed():
    rng = np.random.default_rng(1)
    judge = Judge(np.ones(3), 2 * np.ones(3), rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=5), 0.5)
    edge = 1 + 2 * CLIP * np.ones((1, 3))
    np.testing.assert_allclose(judge.logits(edge), judge.logits(10 * edge))
    assert judge.logits(edge) != pytest.approx(judge.logits(0.9 * edge))


def test_calibration_finds_the_curve_that_made_the_answers_at_even_odds():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    present = rng.random(len(logits)) < probability_of(0.5 * logits - 1)
    slope, offset = fit_logistic(logits, present, np.ones(len(logits)))
    assert (slope, offset) == (pytest.approx(0.5, rel=0.05), pytest.approx(-1, abs=0.05))
    judge = Judge(np.zeros(1), np.ones(1), np.ones((1, 1)), np.zeros(1), np.ones(1), 0.2)
    features = np.array([[0.3], [2.0]])
    np.testing.assert_allclose(judge.calibrated(0.5, -1).logits(features), 0.5 * judge.logits(features) - 1)


def test_nothing_is_certain():
    np.testing.assert_allclose(probability_of(np.array([-1e3, 0.0, 1e3])), [FLOOR, 0.5, 1 - FLOOR])


def test_members_are_averaged():
    features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    present, ones = (features[:, 0] > 0).astype(float), np.ones(60)
    together = train(features, present, ones, Settings(members=2, epochs=2), seed=5)
    alone = [train(features, present, ones, Settings(members=1, epochs=2), seed=seed) for seed in (5, 6)]
    assert together.first.shape == (3, 128)
    np.testing.assert_allclose(together.logits(features), np.mean([one.logits(features) for one in alone], axis=0))
