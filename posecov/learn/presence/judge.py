"""A small network that tells from a pose network's features whether somebody is there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy
import torch
from torch import nn

CLIP = 6.0
"""Features are believed up to so many standard deviations from their mean."""


@dataclass(frozen=True)
class Judge:
    """Standardised and clipped features, one hidden layer, a logit.

    Attributes:
        mean: (F,) of the features. scale: (F,) their standard deviations.
        first: (F, H). first_bias: (H,). second: (H,). second_bias: of the logit.
    """

    mean: np.ndarray
    scale: np.ndarray
    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    second_bias: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N,) of features (N, F)."""
        x = np.clip((features - self.mean) / self.scale, -CLIP, CLIP)
        return np.maximum(x @ self.first + self.first_bias, 0) @ self.second + self.second_bias

    def calibrated(self, slope: float, offset: float) -> "Judge":
        """The judge whose logits are ``slope`` times these plus ``offset``."""
        return replace(self, second=slope * self.second, second_bias=slope * self.second_bias + offset)


@dataclass(frozen=True)
class Settings:
    """How a judge learns.

    Attributes:
        hidden: units.
        dropout: share of the hidden units, and half that share of the features, that are left out in a step.
        decay: of AdamW.
        rate: of AdamW at the start; it falls to 0 along a cosine.
        epochs: over the rows.
        batch: rows of a step.
    """

    hidden: int = 64
    dropout: float = 0.4
    decay: float = 0.05
    rate: float = 1e-3
    epochs: int = 8
    batch: int = 256


def train(features: np.ndarray, present: np.ndarray, weight: np.ndarray, settings: Settings, seed: int) -> Judge:
    """Fit a judge.

    Args:
        features: (N, F) float32. present: (N,) 0 or 1. weight: (N,) of the rows in the loss.
        settings: how. seed: of start, order and dropout.
    """
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second = nn.Linear(features.shape[1], settings.hidden), nn.Linear(settings.hidden, 1)
        network = nn.Sequential(nn.Dropout(settings.dropout / 2), first, nn.ReLU(), nn.Dropout(settings.dropout), second)
        x = torch.from_numpy(np.clip((features - mean) / scale, -CLIP, CLIP).astype(np.float32))
        y, w = (torch.from_numpy(np.asarray(values, dtype=np.float32)) for values in (present, weight / weight.mean()))
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
        steps = settings.epochs * -(-len(x) // settings.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        for rows in _batches(len(x), settings):
            loss = nn.functional.binary_cross_entropy_with_logits(network(x[rows])[:, 0], y[rows], w[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    weights = [part.detach().double().numpy().copy() for part in (first.weight.T, first.bias, second.weight[0])]
    return Judge(mean, scale, weights[0], weights[1], weights[2], float(second.bias.detach()))


def fit_logistic(logits: np.ndarray, present: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and offset under which logits are likeliest, weighted."""
    sign = np.where(present > 0.5, -1.0, 1.0)

    def loss(w: np.ndarray) -> float:
        return float((weight * np.logaddexp(0, sign * (np.exp(w[0]) * logits + w[1]))).sum() / weight.sum())

    slope, offset = scipy.optimize.minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(slope)), float(offset)


def _batches(count: int, settings: Settings) -> Iterator[torch.Tensor]:
    for _ in range(settings.epochs):
        yield from torch.randperm(count).split(settings.batch)
