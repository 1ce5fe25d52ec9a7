"""A small network that tells from a pose network's features whether somebody is there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy
import torch
from torch import nn

CLIP = 6.0
"""Features are believed up to so many standard deviations from their mean."""


FLOOR = 0.01
"""No probability is closer to 0 or 1: a few hundred held pictures cannot tell more, and some people look like nobody else."""


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

    def probability(self, features: np.ndarray) -> np.ndarray:
        """(N,) of features (N, F)."""
        return probability_of(self.logits(features))

    def calibrated(self, slope: float, offset: float) -> "Judge":
        """The judge whose logits are ``slope`` times these plus ``offset``."""
        return replace(self, second=slope * self.second, second_bias=slope * self.second_bias + offset)


@dataclass(frozen=True)
class Settings:
    """How a judge learns.

    Attributes:
        members: networks that learn by themselves and are averaged, which makes one wider network.
        hidden: units of each.
        dropout: share of the hidden units, and half that share of the features, that are left out in a step.
        decay: of AdamW.
        rate: of AdamW at the start; it falls to 0 along a cosine.
        epochs: over the rows.
        batch: rows of a step.
    """

    members: int = 3
    hidden: int = 64
    dropout: float = 0.6
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
    x = torch.from_numpy(np.clip((features - mean) / scale, -CLIP, CLIP).astype(np.float32))
    y, w = (torch.from_numpy(np.asarray(values, dtype=np.float32)) for values in (present, weight / weight.mean()))
    members = [_member(x, y, w, settings, seed + number) for number in range(settings.members)]
    first, first_bias, second = (np.concatenate([member[part] for member in members], axis=-1) for part in range(3))
    return Judge(mean, scale, first, first_bias, second / len(members), float(np.mean([member[3] for member in members])))


def _member(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, settings: Settings, seed: int) -> list[np.ndarray]:
    """Weights (F, H), (H,), (H,) and () of one network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second = nn.Linear(x.shape[1], settings.hidden), nn.Linear(settings.hidden, 1)
        network = nn.Sequential(nn.Dropout(settings.dropout / 2), first, nn.ReLU(), nn.Dropout(settings.dropout), second)
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
        steps = settings.epochs * -(-len(x) // settings.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
        for rows in _batches(len(x), settings):
            loss = nn.functional.binary_cross_entropy_with_logits(network(x[rows])[:, 0], y[rows], w[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    parts = (first.weight.T, first.bias, second.weight[0], second.bias[0])
    return [part.detach().double().numpy().copy() for part in parts]


def probability_of(logits: np.ndarray) -> np.ndarray:
    """The logistic curve between `FLOOR` and 1 - `FLOOR`."""
    return FLOOR + (1 - 2 * FLOOR) * scipy.special.expit(logits)


def fit_logistic(logits: np.ndarray, present: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logits (N,) under which answers (N,) are likeliest by `probability_of`, weighted."""

    def loss(w: np.ndarray) -> float:
        probability = probability_of(np.exp(w[0]) * logits + w[1])
        return float(-np.average(np.log(np.where(present > 0.5, probability, 1 - probability)), weights=weight))

    slope, offset = scipy.optimize.minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return float(np.exp(slope)), float(offset)


def _batches(count: int, settings: Settings) -> Iterator[torch.Tensor]:
    for _ in range(settings.epochs):
        yield from torch.randperm(count).split(settings.batch)
