"""Whether a run's pseudo-labels mean anything: those of its validation people, made of its training people alone."""

from pathlib import Path
from typing import Any

import numpy as np

from posecov.coordinates import flatten
from posecov.errors import PosecovError
from posecov.files import write_atomic
from posecov.learn.checkpoint import load_checkpoint, part
from posecov.learn.config import SPACES, TrainConfig
from posecov.learn.datasets import Record
from posecov.learn.features import FeatureSet, extract_features, from_tensors
from posecov.learn.model import PoseModel
from posecov.learn.pseudo_labels.covariance import pseudo_covariances
from posecov.learn.pseudo_labels.engine import recipe_of
from posecov.learn.pseudo_labels.neighbours import find_neighbours, shuffled
from posecov.learn.pseudo_labels.plot import neighbours_plot, spread_correlations, spread_plot
from posecov.learn.pseudo_labels.whitening import fit_whitening
from posecov.learn.samples import CropDataset
from posecov.learn.training import fingerprint, load_people, prepare, start_from
from posecov.output import prepare_folder, write_json
from posecov.skeleton import Skeleton, load_skeleton

_SHOWN = 6


def diagnose(folder: Path, out: Path, data_root: str = "", space: str = "", limit: int = 0, queries: int = 8) -> dict[str, Any]:
    """Write ``pseudo_labels.png``, ``neighbours.png`` and ``pseudo_labels.json``.

    Args:
        folder: of a run whose mean at least is trained.
        out: folder of the results.
        data_root: holds the run's data sets; see `training.data_root_of`.
        space: in which neighbours are searched, see `FeatureSet.space`; the run's own setting when empty.
        limit: use at most this many of the training people, and of the validation people, spread evenly (0: all).
        queries: people whose neighbours are shown.

    Returns:
        What the JSON says: Spearman correlations of pseudo standard deviation and error on validation people, the same for
        shuffled neighbours, effective neighbours, and the ratio of pseudo to actual spread.

    Raises:
        PosecovError: not a run with a trained mean, its data is not there, or an argument makes no sense.
    """
    checkpoint = folder / "last.safetensors"
    _, facts = load_checkpoint(checkpoint)
    if "config" not in facts or (facts["part"] == "mean" and not facts["finished"]):
        raise PosecovError(f"{checkpoint}: its mean is not trained to the end; finish the run first")
    config = TrainConfig.from_dict(facts["config"], str(folder))
    settings = config.pseudo_labels
    recipe, space = recipe_of(settings), space or settings.features
    if space not in SPACES:
        raise PosecovError(f"pseudo-labels: there are no features {space!r}; take one of {', '.join(SPACES)}")
    if limit < 0 or queries < 1:
        raise PosecovError(f"limit {limit} must not be negative, and queries {queries} at least 1")
    out = prepare_folder(out)
    device, skeleton = prepare(config), load_skeleton(config.skeleton)
    people = load_people(config, data_root)
    model = PoseModel(config.model, len(skeleton), pretrained=False)
    start_from(model, checkpoint)
    # Taken from the run's own split: another one would put people that the mean has learned from among the neighbours.
    training, validation = _some(people.covariance, limit), _some(people.validation, limit)
    cached = None if limit else _cached(folder, fingerprint(model), [len(validation), len(training)])
    held, seen = cached or [extract_features(model, config, skeleton, some, 0, device) for some in (validation, training)]
    table, asked = seen.space(space), held.space(space)
    whitening = fit_whitening(table, recipe.dimensions)
    k = min(recipe.k, len(table))
    found = find_neighbours(whitening.apply(table), k, recipe.effective, whitening.apply(asked, "queries"))
    values = _targets(seen) if settings.source == "targets" else seen.residuals()
    residuals = held.residuals()
    covariances, control = (
        pseudo_covariances(values, each, recipe.centred, recipe.shrinkage, recipe.plain, recipe.pooled)
        for each in (found, shuffled(found, config.seed))
    )
    labelled = ~np.isnan(residuals)
    variance = np.einsum("ndd->nd", covariances)
    report: dict[str, Any] = {
        "run": config.name, "features": space, "source": settings.source, "recipe": settings.recipe, "k": k,
        "temperature": found.temperature, "training_people": len(table), "validation_people": len(asked),
        "effective_median": float(np.median(found.effective)), "effective_p10": float(np.percentile(found.effective, 10)),
        "pseudo_over_actual": float(np.sqrt(variance[labelled].mean() / np.square(residuals[labelled]).mean())),
        **spread_correlations(covariances, residuals),
        **{f"{name}_shuffled": value for name, value in spread_correlations(control, residuals).items()},
    }  # fmt: skip
    write_atomic(out / "pseudo_labels.png", spread_plot(covariances, residuals, control))
    write_atomic(out / "neighbours.png", _side_by_side(config, skeleton, validation, training, found, queries))
    write_json(out / "pseudo_labels.json", report)
    return report


def _some(records: list[Record], limit: int) -> list[Record]:
    if not limit or len(records) <= limit:
        return records
    return [records[i] for i in np.linspace(0, len(records) - 1, limit).astype(int)]


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
