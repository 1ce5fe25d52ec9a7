"""What each part of the covariance recipe is worth: the same frozen mean, the same budget, one part left out at a time."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posecov import metrics
from posecov.coordinates import flatten
from posecov.errors import PosecovError
from posecov.geometry import crop_map
from posecov.law import Law
from posecov.learn.calibration import calibrate, shrink
from posecov.learn.checkpoint import load_checkpoint, part
from posecov.learn.config import CovarianceConfig, PseudoLabelConfig, TrainConfig
from posecov.learn.covariance_training import Cached, make_pseudo_labels, term_shares, train_covariance
from posecov.learn.datasets import Record, read_lsp
from posecov.learn.export import degrees_of_freedom
from posecov.learn.features import FeatureSet, extract_features
from posecov.learn.mean_training import load_mean
from posecov.learn.model import PoseModel
from posecov.learn.run import Run
from posecov.learn.training import cache, data_root_of, fingerprint, load_people, prepare
from posecov.skeleton import load_skeleton

log = logging.getLogger(__name__)


def _change(**named: Any) -> Callable[[CovarianceConfig, PseudoLabelConfig], tuple[CovarianceConfig, PseudoLabelConfig]]:
    """A variant: settings of the covariance, and under ``pseudo`` settings of the pseudo-labels."""
    pseudo = named.pop("pseudo", {})
    return lambda c, p: (dataclasses.replace(c, **named), dataclasses.replace(p, **pseudo))


def _without_phase_1(c: CovarianceConfig, p: PseudoLabelConfig) -> tuple[CovarianceConfig, PseudoLabelConfig]:
    """Phase 2 gets the epochs that phase 1 had."""
    return dataclasses.replace(c, wasserstein_epochs=0, nll_epochs=c.nll_epochs + c.wasserstein_epochs), p


VARIANTS: Mapping[str, Callable[[CovarianceConfig, PseudoLabelConfig], tuple[CovarianceConfig, PseudoLabelConfig]]] = {
    "shipped recipe": _change(),
    "without phase 1": _without_phase_1,
    "without J J^T": _change(gradient_share=0.0),
    "without J J^T and curvature": _change(gradient_share=0.0, curvature_share=0.0),
    "shuffled neighbours": _change(pseudo={"shuffled": True}),
    "pseudo-labels from targets": _change(pseudo={"source": "targets"}),
}


def ablate(folder: Path, data_root: str, seeds: Sequence[int], wasserstein_epochs: int, nll_epochs: int) -> dict[str, Any]:
    """Train every variant of a finished run's covariance head with every seed, and judge it on LSP's test people.

    Args:
        folder: of the run; its trained mean and its cached features are used, and what is trained lies in its ``ablation``.
        data_root: holds the run's data sets.
        seeds: of the head's weights and of the order of people.
        wasserstein_epochs: of phase 1. nll_epochs: of phase 2. Every variant has their sum.

    Returns:
        Per variant and seed: NLL per person and TAC in picture pixels after calibration on the validation people, and the
        shares of the trace; plain numbers for JSON.

    Raises:
        PosecovError: not a finished run, or its data is not there.
    """
    tensors, facts = load_checkpoint(folder / "last.safetensors")
    if facts["part"] != "covariance":
        raise PosecovError(f"{folder}: this run has no trained covariance; finish tools/train.py first")
    config = TrainConfig.from_dict(facts["config"], str(folder))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=data_root_of(config, data_root)))
    device, skeleton = prepare(config), load_skeleton(config.skeleton)
    people = load_people(config)
    test = read_lsp(Path(config.data.root) / "lsp", "test")
    model = PoseModel(config.model, len(skeleton), pretrained=False)
    load_mean(model, part("model", tensors))
    cached = cache(Run(config, folder), model, skeleton, people, device)
    seen = extract_features(model, config, skeleton, test, 0, device)
    results: dict[str, Any] = {}
    for name, change in VARIANTS.items():
        covariance, pseudo = change(
            dataclasses.replace(config.covariance, wasserstein_epochs=wasserstein_epochs, nll_epochs=nll_epochs),
            config.pseudo_labels,
        )
        roots = make_pseudo_labels(cached.views[0], pseudo, config.seed) if covariance.wasserstein_epochs else None
        for seed in seeds:
            own = dataclasses.replace(config, seed=seed, covariance=covariance, pseudo_labels=pseudo)
            figures = _one(own, folder / "ablation" / f"{name.replace(' ', '-')}-{seed}", model, cached, roots, test, seen)
            log.info("%s, seed %d: %s", name, seed, {k: round(v, 3) for k, v in figures.items()})
            results.setdefault(name, {})[str(seed)] = figures
    return {
        "mean": "frozen, of the shipped run",
        "epochs": {"wasserstein": wasserstein_epochs, "nll": nll_epochs},
        "test_people": len(test),
        "variants": results,
    }


def _finished(run: Run, model: PoseModel) -> bool:
    """Whether this very head has been trained already, on this very mean."""
    if not (run.best.exists() and run.last.exists()):
        return False
    tensors, facts = load_checkpoint(run.last)
    if not facts["finished"] or facts["config"] != run.config.to_dict():
        return False
    own = PoseModel(run.config.model, model.joints, pretrained=False)
    own.load_state_dict(part("model", tensors))
    return fingerprint(own) == fingerprint(model)


def _one(
    config: TrainConfig, folder: Path, model: PoseModel, cached: Cached, roots: Any, test: Sequence[Record], seen: FeatureSet
) -> dict[str, float]:
    """Train one head, calibrate it and judge it."""
    run = Run(config, folder)
    if not _finished(run, model):
        folder.mkdir(parents=True, exist_ok=True)
        train_covariance(run, model, dataclasses.replace(cached, roots=roots), None)
    head = model.covariance_head
    model.load_state_dict(part("model", load_checkpoint(run.best)[0]))
    with torch.inference_mode():
        predicted, validated = head(seen.features), head(cached.validation.features).scatter.double().numpy()
    found = calibrate(cached.validation.residuals(), validated, degrees_of_freedom(model, config))
    rows = np.repeat(found.factor, 2)
    scatter = shrink(predicted.scatter.double().numpy(), found.shrinkage) * rows[:, None] * rows
    mean, truth = seen.features.mean.double().numpy(), flatten(seen.points).double().numpy()
    values = np.where(np.repeat(seen.labelled.numpy(), 2, axis=1), truth, np.nan)
    # From crop pixels to picture pixels: NLL shifts by the log of the scale, TAC scales with it.
    scale = np.array([crop_map(r.box, config.model.input_size, config.model.padding).scale for r in test])
    law = Law(mean, scatter, found.degrees_of_freedom)
    return {
        "nll": float(metrics.nll_per_person(law, values, 1.0 / scale).mean()),
        "tac": metrics.mean_error(metrics.tac_errors(law, values) / scale[:, None]),
        **term_shares(predicted, seen),
    }
