"""The likelihood of a mixture over exchanges of left and right, against NumPy's law."""

import numpy as np
import pytest
import torch
from loss_samples import covariances, masks, normal, numpy, spoil
from torch.autograd import gradcheck

from posecov.errors import PosecovError
from posecov.learn.losses import LOSSES, LossError, Prediction, Target, student_t_mixture_nll, student_t_nll
from posecov.mixture import Mixture

N, D = 20, 8
# Joints 0 and 1 are a pair, 2 and 3 another; both together.
ORDERS = np.array([[0, 1, 2, 3, 4, 5, 6, 7], [2, 3, 0, 1, 4, 5, 6, 7], [0, 1, 2, 3, 6, 7, 4, 5], [2, 3, 0, 1, 6, 7, 4, 5]])
NU = torch.tensor(4.5, dtype=torch.float64)


def _weights(count=N):
    return normal(count, len(ORDERS), seed=9).log_softmax(-1)


def _orders():
    return torch.from_numpy(ORDERS)


@pytest.mark.parametrize("missing", [False, True])
def test_it_agrees_with_the_law(missing):
    values, mean, scatter, weights = normal(N, D, seed=2), normal(N, D, seed=3), covariances(N, D, seed=4), _weights()
    rows = masks(N, D // 2).repeat_interleave(2, dim=1) if missing else None
    labels = numpy(values) if rows is None else np.where(rows, numpy(values), np.nan)
    law = Mixture.of_exchanges(numpy(mean), numpy(scatter), 4.5, numpy(weights.exp()), ORDERS)
    given = values if rows is None else spoil(values, rows, 1)
    found = student_t_mixture_nll(given, mean, scatter, rows, NU, weights, _orders())
    np.testing.assert_allclose(found, law.negative_log_likelihood(labels), rtol=1e-9)


def test_with_all_weight_on_none_it_is_the_single_law():
    values, mean, scatter = normal(N, D, seed=2), normal(N, D, seed=3), covariances(N, D, seed=4)
    weights = torch.full((N, len(ORDERS)), -200.0, dtype=torch.float64)
    weights[:, 0] = 0.0
    found = student_t_mixture_nll(values, mean, scatter, None, NU, weights, _orders())
    torch.testing.assert_close(found, student_t_nll(values - mean, scatter, None, NU))


def test_all_labels_there_or_no_mask_is_the_same():
    values, mean, scatter = normal(N, D, seed=2), normal(N, D, seed=3), covariances(N, D, seed=4)
    one = student_t_mixture_nll(values, mean, scatter, torch.ones(N, D, dtype=torch.bool), NU, _weights(), _orders())
    torch.testing.assert_close(one, student_t_mixture_nll(values, mean, scatter, None, NU, _weights(), _orders()))


def test_gradients_are_right():
    rows = masks(3, D // 2).repeat_interleave(2, dim=1)
    factor = normal(3, D, D, seed=4).requires_grad_()
    weights, nu = normal(3, len(ORDERS), seed=5).requires_grad_(), torch.tensor(4.5, dtype=torch.float64, requires_grad=True)
    values, mean = normal(3, D, seed=2), normal(3, D, seed=3).requires_grad_()

    def loss(mean, factor, weights, nu):
        scatter = factor @ factor.mT + torch.eye(D)
        return student_t_mixture_nll(values, mean, scatter, rows, nu, weights.log_softmax(-1), _orders())

    assert gradcheck(loss, (mean, factor, weights, nu))


def test_a_person_without_labels_counts_for_nothing():
    rows = torch.ones(N, D, dtype=torch.bool)
    rows[3] = False
    mean = normal(N, D, seed=3).requires_grad_()
    values = torch.where(rows, normal(N, D, seed=2), torch.nan)
    loss = student_t_mixture_nll(values, mean, covariances(N, D, seed=4), rows, NU, _weights(), _orders())
    assert loss[3].item() == pytest.approx(0.0, abs=1e-12)
    loss.sum().backward()
    assert (mean.grad[3] == 0).all()


def test_the_entry_of_the_catalogue_says_what_it_needs():
    prediction = Prediction(normal(N, D), covariances(N, D), None, _weights(), _orders())
    loss = LOSSES["student-t-mixture"].function
    expected = student_t_mixture_nll(
        normal(N, D, seed=5), prediction.mean, prediction.covariance, None, NU, _weights(), _orders()
    )
    torch.testing.assert_close(loss(prediction, Target(normal(N, D, seed=5)), NU), expected)
    with pytest.raises(PosecovError, match=r"prediction\.orders: missing; student-t-mixture needs"):
        loss(prediction._replace(orders=None), Target(normal(N, D)), NU)
    with pytest.raises(PosecovError, match="degrees_of_freedom: missing"):
        loss(prediction, Target(normal(N, D)))


def test_weights_that_are_nan_are_an_error_with_their_sample():
    weights = _weights()
    weights[4, 1] = torch.nan
    with pytest.raises(LossError, match=r"^log_weights: not finite .*sample 4"):
        student_t_mixture_nll(normal(N, D), normal(N, D, seed=1), covariances(N, D), None, NU, weights, _orders())
