"""What is differentiated. Every reported figure is computed by `posecov.law` instead; parity tests tie the two."""

from posecov.learn.losses.catalogue import LOSSES, Loss, LossFunction, Prediction, Target, loss_named
from posecov.learn.losses.checks import LossError
from posecov.learn.losses.likelihood import (
    beta_nll,
    faithful,
    kl,
    mse,
    nll,
    nll_diagonal,
    nll_precision,
    student_t_mixture_nll,
    student_t_nll,
)
from posecov.learn.losses.pose import joint_counts, mean_loss
from posecov.learn.losses.roots import symmetric_root
from posecov.learn.losses.transport import wasserstein, wasserstein_bound, wasserstein_procrustes, wasserstein_symmetric

__all__ = [
    "LOSSES",
    "Loss",
    "LossError",
    "LossFunction",
    "Prediction",
    "Target",
    "beta_nll",
    "faithful",
    "joint_counts",
    "kl",
    "loss_named",
    "mean_loss",
    "mse",
    "nll",
    "nll_diagonal",
    "nll_precision",
    "student_t_mixture_nll",
    "student_t_nll",
    "symmetric_root",
    "wasserstein",
    "wasserstein_bound",
    "wasserstein_procrustes",
    "wasserstein_symmetric",
]
