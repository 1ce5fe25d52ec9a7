"""Whether a run's pseudo-labels mean anything: those of its validation people, made of its training people alone."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np

from posecov.coordinates import flatten
from posecov.errors import PosecovError
from posecov.files import write_atomic
from posecov.learn.checkpoint import load_checkpoint, part
from posecov.learn.config import TrainConfig
from posecov.learn.datasets import Record
from posecov.learn.features import FeatureSet, extract_features, from_tensors
from posecov.learn.mean_training import load_mean
from posecov.learn.model import PoseModel
from posecov.learn.pseudo_labels.covariance import pseudo_covariances
from posecov.learn.pseudo_labels.engine import recipe_of
from posecov.learn.pseudo_labels.neighbours import find_neighbours, shuffled
from posecov.learn.pseudo_labels.plot import neighbours_plot, spread_correlations, spread_plot
from posecov.learn.pseudo_labels.whitening import fit_whitening
from posecov.learn.samples import CropDataset
from posecov.learn.training import data_root_of, fingerprint, load_people, prepare
from posecov.output import prepare_folder, write_json
from posecov.skeleton import Skeleton, load_skeleton

_SHOWN = 6

log = logging.getLogger(__name__)


def diagnose(folder: Path, out: Path, data_root: str = "", space: str = "", limit: int = 0, queries: int = 8) -> dict[str, Any]:
    """Write ``pseudo_labels.png``, ``neighbours.png`` and ``pseudo_labels.json``.

    Args:
        folder: of a run whose mean at least is trained.
        out: folder of the results.
        data_root: holds the run's data sets; see `training.data_root_of`.
        space: in which neighbours are searched, see `FeatureSet.space`; the run's own setting when empty.
        limit: use at most this many training and validation people (0: all).
        queries: people whose neighbours are shown.

    Returns:
        What the JSON says: Spearman correlations of pseudo standard deviation and error on validation people, the same for
        shuffled neighbours, effective neighbours, and the ratio of pseudo to actual spread.

    Raises:
        PosecovError: not a run with a trained mean, or its data is not there.
    """
    out = prepare_folder(out)
    tensors, facts = load_checkpoint(folder / "last.safetensors")
    config = TrainConfig.from_dict(facts["config"], str(folder))
    data = dataclasses.replace(config.data, root=data_root_of(config, data_root), limit=limit or config.data.limit)
    config = dataclasses.replace(config, data=data)
    device, skeleton = prepare(config), load_skeleton(config.skeleton)
    people = load_people(config)
    validation = people.validation[: limit or None]
    model = PoseModel(config.model, len(skeleton), pretrained=False)
    load_mean(model, part("average" if facts["part"] == "mean" else "model", tensors))
    cached = _cached(folder, fingerprint(model), [len(validation), len(people.covariance)])
    held, seen = cached or [
        extract_features(model, config, skeleton, records, 0, device) for records in (validation, people.covariance)
    ]

    settings = config.pseudo_labels
    recipe = recipe_of(settings)
    space = space or settings.features
    try:
        table, asked = seen.space(space), held.space(space)
    except KeyError:
        raise PosecovError(f"pseudo-labels: there are no features {space!r}; take latent, backbone, joints or input") from None
    whitening = fit_whitening(table, recipe.dimensions)
    k = min(recipe.k, len(table))
    found = find_neighbours(whitening.apply(table), k, recipe.effective, whitening.apply(asked, "queries"))
    values = _targets(seen) if recipe.centred else seen.residuals()
    residuals = held.residuals()
    covariances, control = (
        pseudo_covariances(values, each, recipe.centred, recipe.shrinkage, recipe.plain)
        for each in (found, shuffled(found, config.seed))
    )
    labelled = ~np.isnan(residuals)
    variance = np.einsum("ndd->nd", covariances)
    report: dict[str, Any] = {
        "run": config.name, "features": space, "source": settings.source, "k": k, "temperature": found.temperature,
        "training_people": len(table), "validation_people": len(asked),
        "effective_median": float(np.median(found.effective)), "effective_p10": float(np.percentile(found.effective, 10)),
        "pseudo_over_actual": float(np.sqrt(variance[labelled].mean() / np.square(residuals[labelled]).mean())),
        **spread_correlations(covariances, residuals),
        **{f"{name}_shuffled": value for name, value in spread_correlations(control, residuals).items()},
    }  # fmt: skip
    write_atomic(out / "pseudo_labels.png", spread_plot(covariances, residuals))
    write_atomic(out / "neighbours.png", _side_by_side(config, skeleton, validation, people.covariance, found, queries))
    write_json(out / "pseudo_labels.json", report)
    return report


def _targets(seen: FeatureSet) -> np.ndarray:
    rows = np.repeat(seen.labelled.numpy(), 2, axis=1)
    return np.where(rows, flatten(seen.points).double().numpy(), np.nan)


def _cached(folder: Path, weights: str, sizes: list[int]) -> list[FeatureSet] | None:
    """Validation and training people as the run itself saw them, if it did with this very mean."""
    path = folder / "features.safetensors"
    if not path.exists():
        return None
    try:
        tensors, facts = load_checkpoint(path)
        if facts["key"]["weights"] != weights:
            return None
        groups = [from_tensors(part(f"group{i}", tensors)) for i in (0, 1)]
    except (PosecovError, KeyError):
        return None
    return groups if [len(group.labelled) for group in groups] == sizes else None


def _side_by_side(
    config: TrainConfig, skeleton: Skeleton, asked: list[Record], table: list[Record], found: Any, queries: int
) -> bytes:
    """`neighbours_plot` of people spread evenly over the validation people."""
    size, padding = config.model.input_size, config.model.padding
    chosen = np.unique(np.linspace(0, len(asked) - 1, min(queries, len(asked))).astype(int))
    order = np.argsort(-found.weight[chosen], axis=1, kind="stable")[:, :_SHOWN]
    index = np.take_along_axis(found.index[chosen], order, axis=1)
    validation, training = (CropDataset(records, skeleton, size, padding) for records in (asked, table))
    return neighbours_plot(
        np.stack([validation[int(i)].crops.numpy() for i in chosen]),
        np.stack([[training[int(i)].crops.numpy() for i in row] for row in index]),
        np.take_along_axis(found.weight[chosen], order, axis=1),
        [asked[int(i)].name for i in chosen],
    )
