"""Checkpoints of earlier releases, brought to what this one reads: settings that came later mean what was done before them."""

from typing import Any

import torch
from torch import Tensor

RENAMED = {"covariance.wasserstein_epochs": "covariance.phase1_epochs", "covariance.nll_epochs": "covariance.phase2_epochs"}
"""Settings by the name that they had, to the one that they have."""

# The one that split in two; it only says where training starts.
_GONE = ("covariance.taylor_share",)

# Where a setting's default is not what was done before the setting was there.
_BEFORE = {
    "model.window": 0,
    "model.scatter": "correlation",
    "covariance.phase2_loss": "student-t",
    "pseudo_labels.features": "latent",
    "pseudo_labels.towards": "diagonal",
}


def upgraded_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run, as its checkpoint or config.yaml has them, with the names and the completeness of today.

    Never of a recipe: there a setting that is not said has its default.
    """
    config = {name: dict(value) if isinstance(value, dict) else value for name, value in config.items()}
    # What is no group in a damaged file stays, to be refused by its name.
    groups = {name: value for name, value in config.items() if isinstance(value, dict)}
    for name in _GONE:
        group, key = name.split(".")
        groups.get(group, {}).pop(key, None)
    for old, new in RENAMED.items():
        group, key = old.split(".")
        if key in groups.get(group, {}):
            groups[group].setdefault(new.split(".")[1], groups[group].pop(key))
    for name, value in _BEFORE.items():
        group, key = name.split(".")
        groups.get(group, {}).setdefault(key, value)
    return config


def upgrade(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Bring a checkpoint's tensors and facts to what is written today, in place."""
    if isinstance(facts.get("config"), dict):
        facts["config"] = upgraded_settings(facts["config"])
    # Correlations were not shrunk before they could be.
    if "model/covariance_head.log_degrees" in tensors:
        tensors.setdefault("model/covariance_head.shrinkage", torch.tensor(0.0))
