"""People to calibrate on and people to judge by, as crops with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecov.geometry import crop_map, warp
from posecov.images import read_image
from posecov.learn.datasets import Problems, Reading, Record, onto_skeleton, read_datasets, read_lsp, split_validation
from posecov.metadata import ModelMetadata
from posecov.skeleton import Skeleton, load_skeleton


@dataclass(frozen=True)
class People:
    """N people as a network sees them.

    Attributes:
        crops: (N, S, S, 3) uint8 BGR.
        truth: (N, J, 2) labels in crop pixels, NaN without one.
        torso: (N,) crop pixels, the unit of PCK; half of the box's longer side where a label of it is missing.
    """

    crops: np.ndarray
    truth: np.ndarray
    torso: np.ndarray


def held_out(
    datasets: Sequence[str], data_root: Path, skeleton: Skeleton, count: int, seed: int = 0
) -> tuple[list[Record], list[Record]]:
    """Training people, and ``count`` others of the first data set that training with the same seed keeps out too."""
    return split_validation(read_datasets(datasets, data_root, skeleton), f"{datasets[0]}/", count, seed)


def final_people(dataset: str, data_root: Path, skeleton: Skeleton) -> list[Record]:
    """As `tools/evaluate.py` takes them: ``lsp`` is its test pictures, every other name what it is in training."""
    if dataset != "lsp":
        return read_datasets([dataset], data_root, skeleton)
    problems, folder = Problems(), data_root / "lsp"
    reading = Reading(read_lsp(folder, "test", problems), load_skeleton("lsp14").keypoints, folder / "joints.mat")
    records = onto_skeleton(reading, skeleton, problems)
    problems.settle()
    return records


def crops_of(records: Sequence[Record], metadata: ModelMetadata) -> People:
    """Records, at least one, as a model sees them."""
    size = metadata.input_size
    maps = [crop_map(record.box, size, metadata.padding) for record in records]
    crops = np.stack([warp(read_image(record.image), map_, size) for record, map_ in zip(records, maps, strict=True)])
    truth = np.stack([map_.points(record.keypoints) for record, map_ in zip(records, maps, strict=True)])
    torso = np.full(len(records), np.nan)
    if metadata.skeleton.torso is not None:
        first, second = metadata.skeleton.torso_indices
        torso = np.linalg.norm(truth[:, first] - truth[:, second], axis=1)
    # As PCK within 0.1 of the box.
    return People(crops, truth, np.where(np.isnan(torso), 0.5 * size / metadata.padding, torso))
