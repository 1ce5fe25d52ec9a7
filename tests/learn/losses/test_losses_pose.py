import pytest
import torch

from posecov.learn.losses import joint_counts, mean_loss


def _mean_inputs():
    centres = (torch.arange(5) + 0.5) * 8 - 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    positions = torch.stack([x.reshape(-1), y.reshape(-1)], 1)
    logits = torch.randn(2, 3, 25, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    return positions, logits, (logits.exp() @ positions).flatten(1)


def test_mean_loss_marginalises_and_measures_pixels():
    positions, logits, mean = _mean_inputs()
    points = mean.unflatten(1, (3, 2)) + torch.tensor([3.0, 4.0])
    labelled = torch.tensor([[True, True, False], [True, False, True]])
    loss, error = mean_loss(logits, mean, positions, points, labelled, 1.0, 1.0)
    assert error.item() == pytest.approx(5.0, rel=1e-5)
    garbage = torch.where(labelled[..., None], points, torch.tensor(1e4))
    assert mean_loss(logits, mean, positions, garbage, labelled, 1.0, 1.0)[0].item() == pytest.approx(loss.item(), rel=1e-6)
    far = mean_loss(logits, mean, positions, points + torch.tensor([8.0, 0.0]), labelled, 1.0, 1.0)[0]
    assert far > loss


def test_mean_loss_is_its_formula_in_cells():
    positions, logits, mean = _mean_inputs()
    points = torch.tensor([[[12.0, 17.0], [25.0, 8.0], [44.0, 20.0]], [[3.0, 39.0], [18.0, -6.0], [30.0, 31.0]]])
    labelled = torch.tensor([[True, False, True], [True, True, True]])
    entropies, distances, errors = [], [], []
    for n, j in labelled.nonzero().tolist():
        place, own = points[n, j], mean[n, 2 * j : 2 * j + 2]
        heights = torch.exp(-(positions - place).square().sum(-1) / (2 * (1.5 * 8) ** 2))
        if place.min() >= 0 and place.max() <= 39:  # Two labels lie outside of the grid of 40 px.
            entropies.append(-(heights / heights.sum() * logits[n, j]).sum())
        distances.append((own - place).abs().sum() / 8)
        errors.append((own - place).norm())
    assert (len(entropies), len(distances)) == (3, 5)
    loss, error = mean_loss(logits, mean, positions, points, labelled, 1.5, 0.3)
    assert loss.item() == pytest.approx((sum(entropies) / 3 + 0.3 * sum(distances) / 5).item(), rel=1e-5)
    assert error.item() == pytest.approx((sum(errors) / 5).item(), rel=1e-5)
    taught = torch.full((2, 3, 25), 1 / 25)
    assert mean_loss(logits, mean, positions, points, labelled, 1.5, 0.3, taught=taught)[0].item() == pytest.approx(loss.item())


@pytest.mark.parametrize("axis", [0, 1])
def test_the_grid_reaches_to_the_outer_edges_of_its_cells(axis):
    positions, _, _ = _mean_inputs()  # Five cells of 8 px: -0.5 to 39.5.
    places = torch.tensor([-0.5, 39.5, -0.6, 39.6])
    points = torch.full((4, 1, 2), 20.0)
    points[:, 0, axis] = places
    labelled = torch.ones(4, 1, dtype=torch.bool)
    assert [joint_counts(positions, points[n : n + 1], labelled[:1])[0].item() for n in range(4)] == [1, 1, 0, 0]
    assert joint_counts(positions, points, labelled).tolist() == [2, 4, 4]


def test_mean_loss_is_lowest_at_the_label():
    positions, _, _ = _mean_inputs()
    points = torch.tensor([[[15.0, 20.0]]])
    squared = ((positions - points[0]) / 8).square().sum(-1)
    good = (-squared / 2).log_softmax(-1)[None, None]
    bad = torch.full((1, 1, 25), 1 / 25).log()
    labelled = torch.ones(1, 1, dtype=torch.bool)
    losses = [
        mean_loss(log, (log.exp() @ positions).flatten(1), positions, points, labelled, 1.0, 1.0)[0] for log in (good, bad)
    ]
    assert losses[0] < losses[1]


def test_a_teacher_speaks_of_all_joints_for_its_share():
    positions, logits, mean = _mean_inputs()
    points = mean.unflatten(1, (3, 2)) + torch.tensor([3.0, 4.0])
    labelled = torch.tensor([[True, True, False], [True, False, True]])
    taught = torch.randn(2, 3, 25, generator=torch.Generator().manual_seed(1)).softmax(-1)
    told = (positions, points, labelled, 1.0, 1.0)
    alone = mean_loss(logits, mean, *told)[0]
    mixed = mean_loss(logits, mean, *told, taught=taught, share=0.3)[0]
    crossed = torch.stack([-(taught[n, j] * logits[n, j]).sum() for n in range(2) for j in range(3)]).mean()
    assert mixed.item() == pytest.approx(0.7 * alone.item() + 0.3 * crossed.item(), rel=1e-5)
    # The parts of a batch add up to the whole of it.
    counts = joint_counts(positions, points, labelled)
    parts = [
        mean_loss(logits[n], mean[n], positions, points[n], labelled[n], 1.0, 1.0, counts, taught[n], 0.3)[0]
        for n in (slice(0, 1), slice(1, 2))
    ]
    assert sum(parts).item() == pytest.approx(mixed.item(), rel=1e-5)
