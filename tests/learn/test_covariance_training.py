import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_covariance_head import JOINTS, ORDERS, SIZE, _constant, _head, _seen

from posecov import law
from posecov.learn.config import CovarianceConfig
from posecov.learn.covariance_head import FORMS, CovarianceHead
from posecov.learn.covariance_training import Cached, law_of, losses_of, pick_views, predict, term_shares
from posecov.learn.features import FeatureSet, follow
from posecov.learn.losses import LOSSES
from posecov.learn.schedule import warm_cosine

PERMUTATION = torch.tensor([1, 0, 2, 3])


def _people(seed, count=6):
    generator = torch.Generator().manual_seed(seed)
    angle = torch.rand(count, generator=generator)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], 1)
    mirrored = torch.arange(count) % 2 == 1
    turn[mirrored] = turn[mirrored] @ torch.diag(torch.tensor([-1.0, 1.0]))
    points = torch.randn(count, JOINTS, 2, generator=generator)
    labelled, maps = torch.ones(count, JOINTS, dtype=torch.bool), torch.zeros(count, 0)
    return FeatureSet(_seen(count, seed=seed), points, labelled, 1.3 * turn, mirrored, maps, maps, maps)


def _model(head):
    """What `losses_of` needs of a model whose mean is frozen."""
    return SimpleNamespace(covariance_head=head)


def test_pick_keeps_people_and_views_together():
    views = [_people(0), _people(1), _people(2)]
    index, drawn = np.array([4, 0, 5, 2]), np.array([2, 0, 1, 0])
    picked = pick_views(views, drawn, index)
    for place, (person, view) in enumerate(zip(index, drawn, strict=True)):
        assert torch.equal(picked.points[place], views[view].points[person])
        assert torch.equal(picked.features.latent[place], views[view].features.latent[person])


def test_phase_1_is_zero_when_the_covariance_is_the_pseudo_label_carried_along():
    """The root follows rotation, scale and mirror of the view, and is of the covariance, not of the scatter."""
    head, view = _head(), _people(3)
    # The mean is right: what is left is the covariance's part.
    view = dataclasses.replace(view, points=view.features.mean.unflatten(1, (JOINTS, 2)))
    settings = CovarianceConfig(degrees_of_freedom=5.0, correlation_decay=0.0, deviation_decay=0.0)
    covariance = head(view.features).scatter.detach().double() * 5.0 / 3.0
    # Carry the prediction back into plain crops: the inverse map, mirrored joints exchanged back.
    joints = covariance.unflatten(2, (JOINTS, 2)).unflatten(1, (JOINTS, 2))
    swapped = joints[:, PERMUTATION][:, :, :, PERMUTATION]
    joints = torch.where(view.mirrored[:, None, None, None, None], swapped, joints)
    back = torch.linalg.inv(view.linear.double())
    plain = torch.einsum("nab,nibjc,ndc->niajd", back, joints, back).flatten(3, 4).flatten(1, 2)
    roots = torch.from_numpy(law.symmetric_root(plain.numpy())).float()
    cached = Cached([view], view, roots, PERMUTATION)
    criterion, loss = losses_of(_model(head), view, cached, torch.arange(6), "phase 1", settings)
    # Squared distances are in units of the typical sigma.
    trace = covariance.diagonal(dim1=1, dim2=2).sum(-1).mean() / head.start_sigma.square().mean()
    assert criterion.item() < 1e-5 * trace.item()
    assert loss.item() < 1e-4
    wrong = dataclasses.replace(cached, permutation=torch.arange(JOINTS))
    assert losses_of(_model(head), view, wrong, torch.arange(6), "phase 1", settings)[0].item() > 1e-3 * trace.item()


def test_a_likelihood_is_reported_in_crop_pixels():
    head, view = _head(), _people(3)
    settings = CovarianceConfig(phase2_loss="nll", correlation_decay=0.0, deviation_decay=0.0)
    criterion, loss = losses_of(
        _model(head), view, Cached([view], view, None, PERMUTATION), torch.arange(6), "phase 2", settings
    )
    scatter = head(view.features).scatter.detach().double().numpy()
    expected = law.negative_log_likelihood(view.residuals(), scatter, np.inf).mean()
    assert criterion.item() == pytest.approx(expected, rel=1e-5)
    unit = head.start_sigma.square().mean().sqrt().log().item()
    assert loss.item() == pytest.approx(expected / SIZE - unit, rel=1e-4)


def test_every_loss_that_fits_the_form_has_a_finite_gradient():
    for form in FORMS:
        for name, chosen in LOSSES.items():
            fits = chosen.form in ("none", form) or (chosen.form == "covariance" and form != "precision")
            if not fits or (name == "wasserstein-bound" and form != "factor"):
                continue
            head, view = _head(form=form, share=0.0, orders=ORDERS), _people(3)
            view.labelled[0, 1] = False
            roots = torch.from_numpy(law.symmetric_root(_constant().double().numpy())).float().expand(6, -1, -1)
            settings = CovarianceConfig(phase2_loss=name)
            cached = Cached([view], view, roots, PERMUTATION)
            _, loss = losses_of(_model(head), view, cached, torch.arange(6), "phase 2", settings)
            if name != "mse":
                loss.backward()
                assert all(p.grad is None or torch.isfinite(p.grad).all() for p in head.parameters()), (form, name)
                assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters()), (form, name)


def test_a_mixture_is_reported_in_crop_pixels_and_judged_as_numpys_law():
    head, view = _head(orders=ORDERS), _people(3)
    view.labelled[0, 1] = False
    settings = CovarianceConfig(phase2_loss="student-t-mixture", correlation_decay=0.0, deviation_decay=0.0)
    model = SimpleNamespace(covariance_head=head)
    criterion, _ = losses_of(model, view, Cached([view], view, None, PERMUTATION), torch.arange(6), "phase 2", settings)
    mean, predicted = predict(model, view, settings)
    people = law_of(model, mean, predicted, settings)
    assert people.components == 2
    assert criterion.item() == pytest.approx(people.negative_log_likelihood(view.values()).mean(), rel=1e-5)


def test_decays_pull_towards_the_constant_law():
    head, view = _head(), _people(3)
    with torch.no_grad():
        head.root += 0.1
    settings = CovarianceConfig(phase2_loss="student-t", correlation_decay=0.0, deviation_decay=0.0)
    cached = Cached([view], view, None, PERMUTATION)

    def loss(**named):
        return losses_of(_model(head), view, cached, torch.arange(6), "phase 2", dataclasses.replace(settings, **named))[
            1
        ].item()

    assert loss(correlation_decay=2.0) - loss() == pytest.approx(2.0 * 0.01 * SIZE, rel=1e-3)
    deviation = head(view.features).deviation.square().sum((1, 2)).mean().item() / SIZE
    assert loss(deviation_decay=3.0) - loss() == pytest.approx(3.0 * deviation, rel=1e-3)


def test_a_reset_head_is_a_fresh_one():
    used = _head()
    with torch.no_grad():
        for tensor in [*used.parameters(), *used.buffers()]:
            tensor.fill_(3.0)
    torch.manual_seed(0)
    used.reset()
    used.start_from(_seen(), _constant(), 5.0, (0.1, 0.1))
    torch.manual_seed(0)
    fresh = CovarianceHead(used.channels, JOINTS, used.latent, used.hidden, used.rank)
    torch.manual_seed(0)
    fresh.reset()
    fresh.start_from(_seen(), _constant(), 5.0, (0.1, 0.1))
    assert all(torch.equal(a, b) for a, b in zip(used.state_dict().values(), fresh.state_dict().values(), strict=True))


def test_factor_by_hand():
    """sigma_x, sigma_y and slope of one joint give the ellipse [[sx^2, r sx sy], [., sy^2]] with r = s / sqrt(1 + s^2)."""
    head = _head(share=0.0, rank=0)
    with torch.no_grad():
        head.root.copy_(torch.eye(SIZE))
        head.start_sigma.fill_(2.0)
        head.ellipse.weight.zero_()
        head.ellipse_bias[1] = torch.tensor([0.5, -0.3, 0.8])
    k3 = head(_seen()).k3[0]
    sx, sy = (2.0 * torch.exp(6 * torch.tanh(torch.tensor(v) / 6)) for v in (0.5, -0.3))
    slope = 2 * torch.tanh(torch.tensor(0.4))
    block = torch.stack([torch.stack([sx**2, slope / (1 + slope**2).sqrt() * sx * sy]), torch.zeros(2)])
    torch.testing.assert_close(k3[2, 2:4], block[0], rtol=1e-2, atol=0.01)
    torch.testing.assert_close(k3[3, 3], sy**2, rtol=1e-2, atol=0.01)
    torch.testing.assert_close(k3[0, 0], torch.tensor(4.0), rtol=1e-2, atol=0.01)


def test_shares_add_up_to_less_than_the_whole():
    head, view = _head(), _people(0)
    shares = term_shares(head(view.features))
    k3 = head(view.features).k3.diagonal(dim1=1, dim2=2).sum(-1)
    whole = head(view.features).scatter.diagonal(dim1=1, dim2=2).sum(-1)
    assert sum(shares.values()) + (k3 / whole).mean().item() == pytest.approx(1.0, rel=1e-5)


def test_schedule_warms_up_and_ends_at_zero():
    rates = [warm_cosine(step, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert np.all(np.diff(rates[10:]) <= 0)


def test_follow_is_undone_by_the_inverse_map():
    root = torch.from_numpy(law.symmetric_root(_constant().double().numpy()))[None]
    view = _people(1, 1)
    there = follow(root, view.linear.double(), view.mirrored, PERMUTATION)
    back = follow(there, torch.linalg.inv(view.linear.double()), view.mirrored, PERMUTATION)
    torch.testing.assert_close(back, root)
