import copy
import dataclasses
import math

import numpy as np
import torch
from test_covariance_head import JOINTS, _head, _seen
from torch import nn

from posecov.learn.calibration.adapt import FOLDS, adapt
from posecov.learn.config import CovarianceConfig
from posecov.learn.features import FeatureSet

PERMUTATION = torch.tensor([1, 0, 2, 3])
SETTINGS = CovarianceConfig(phase2_loss="student-t", correlation_decay=0.0, deviation_decay=0.0)


class Model(nn.Module):
    """What adapting needs of a network whose mean is frozen."""

    def __init__(self, head):
        super().__init__()
        self.covariance_head = head


def _people(spread, count=100, seed=0):
    """Errors of this standard deviation about the mean, in crop pixels."""
    seen = _seen(count, seed=seed)
    noise = torch.randn(count, JOINTS, 2, generator=torch.Generator().manual_seed(seed + 1)) * spread
    points, labelled = seen.mean.unflatten(1, (JOINTS, 2)) + noise, torch.ones(count, JOINTS, dtype=torch.bool)
    nothing = torch.zeros(count, 0)
    turn = torch.eye(2).expand(count, 2, 2)
    return FeatureSet(seen, points, labelled, turn, torch.zeros(count, dtype=torch.bool), nothing, nothing, nothing)


def test_a_head_that_expects_too_little_learns_better_and_is_judged_by_people_it_has_not_seen():
    model, people = Model(_head().eval()), _people(40.0)
    before = copy.deepcopy(model.state_dict())
    found = adapt(model, [people], SETTINGS, PERMUTATION, epochs=12, lr=1e-2)
    assert found.epochs > 0
    assert len(found.nll) == 13
    assert found.nll[found.epochs] == min(found.nll) < found.nll[0] - 1.0
    np.testing.assert_allclose(found.people.negative_log_likelihood(people.values()).mean(), found.nll[found.epochs])
    # The model given stays, and the new one has degrees of freedom as before: calibration sets them.
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found.model.covariance_head.log_degrees == model.covariance_head.log_degrees
    # New people of the same kind are better off too.
    new = _people(40.0, seed=7)
    old, adapted = (
        adapt(one, [new], SETTINGS, PERMUTATION, epochs=0).people.negative_log_likelihood(new.values()).mean()
        for one in (model, found.model)
    )
    assert adapted < old - 1.0


def test_labels_of_the_people_in_a_fold_do_not_reach_their_own_law():
    """Moving one person's labels must not move the law by which this person is judged, but must move others'."""
    model, people = Model(_head().eval()), _people(40.0)
    points = people.points.clone()
    points[0] += 500.0
    moved = dataclasses.replace(people, points=points)
    first, second = (adapt(model, [one], SETTINGS, PERMUTATION, epochs=1, lr=1e-2) for one in (people, moved))
    assert first.epochs == second.epochs == 1
    np.testing.assert_array_equal(first.people.scatter[0], second.people.scatter[0])
    changed = (first.people.scatter != second.people.scatter).any(axis=(1, 2))
    assert changed.sum() == len(points) - len(points) / FOLDS


def test_it_goes_on_for_no_longer_than_it_pays():
    """Labels that say nothing new: a head that fits already is left alone, or nearly so."""
    head = _head().eval()
    people = _people(1.0)
    scatter = head(people.features).scatter.detach().double().numpy()
    rng = np.random.default_rng(0)
    nu = 2.0 + math.exp(head.log_degrees.item())
    stretch = np.sqrt(nu / rng.chisquare(nu, size=(100, 1)))
    errors = np.einsum("nde,ne->nd", np.linalg.cholesky(scatter), rng.standard_normal((100, 2 * JOINTS))) * stretch
    points = (people.features.mean.double().numpy() + errors).reshape(100, JOINTS, 2)
    fitting = dataclasses.replace(people, points=torch.from_numpy(points).float())
    found = adapt(Model(head), [fitting], SETTINGS, PERMUTATION, epochs=20, lr=3e-2)
    assert found.epochs < 20
    assert found.nll[-1] > found.nll[found.epochs]


def test_without_a_likelihood_or_epochs_nothing_is_learned():
    model, people = Model(_head().eval()), _people(40.0)
    for settings, epochs in ((SETTINGS, 0), (dataclasses.replace(SETTINGS, phase2_epochs=0), 5)):
        found = adapt(model, [people], settings, PERMUTATION, epochs=epochs)
        assert (found.epochs, found.nll) == (0, ())
        assert all(torch.equal(v, model.state_dict()[n]) for n, v in found.model.state_dict().items())
