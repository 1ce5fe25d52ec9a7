"""Evaluate a model on the LSP test pictures, boxes from labels, through `PoseEstimator`.

    python tools/evaluate.py --weights weights/posecov-lsp14-small.onnx --dataset lsp --data-root DIR --json report.json

DIR holds ``lsp/joints.mat`` and ``lsp/images`` (or is that folder). The table goes to stdout, progress to stderr, everything to
the JSON. Exit code 2 and one line on stderr when something is missing or wrong.
"""

import hashlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from posecov import PosecovError, PoseEstimator, evaluation
from posecov.geometry import box_around
from posecov.learn.datasets import Record, read_lsp
from posecov.output import prepare_folder, write_json
from posecov.skeleton import load_skeleton


@dataclass(frozen=True)
class Options:
    """Evaluate a model on labelled pictures."""

    weights: Path
    """The .onnx file of a model."""
    data_root: Path
    """Folder that holds the data set's folder."""
    dataset: Literal["lsp"] = "lsp"
    """Which data set; lsp: pictures 1001 to 2000."""
    json: Path | None = None
    """Where to write the report."""
    threads: int | None = None
    """CPU threads of the network."""
    limit: int | None = None
    """Only so many pictures, for a quick look. Fewer than four for each coordinate leave the rivals out."""
    folds: int = 2
    """Across which the rivals' constants are fitted."""
    resamples: int = 1000
    """Of the bootstrap behind each interval."""


def main(options: Options) -> None:
    """Evaluate, print, write. Raises PosecovError."""
    if options.limit is not None and options.limit < 1:
        raise PosecovError(f"--limit {options.limit}: there must be at least one picture")
    if options.folds < 2:
        raise PosecovError(f"--folds {options.folds}: there must be at least 2")
    estimator = PoseEstimator(options.weights, threads=options.threads)
    skeleton, metadata = load_skeleton("lsp14"), estimator.metadata
    if metadata.skeleton.keypoints != skeleton.keypoints:
        raise PosecovError(f"{options.weights}: its joints are those of {metadata.skeleton.name}, not those of LSP")
    folder = options.data_root / options.dataset
    records = read_lsp(folder if folder.is_dir() else options.data_root, "test")[: options.limit]
    if options.json is not None:
        prepare_folder(options.json.parent)  # Before the work, not after it.

    truth = np.stack([record.keypoints for record in records])
    labelled = np.stack([record.labelled for record in records])
    boxes = np.stack([box_around(record.keypoints[record.labelled]) for record in records])
    means, covariances = predict(estimator, records, boxes)
    sizes = boxes[:, 2:].max(axis=1)
    first, second = skeleton.torso_indices
    report = evaluation.evaluate(
        means,
        covariances,
        truth,
        labelled,
        sizes,
        np.linalg.norm(truth[:, first] - truth[:, second], axis=1),
        metadata.degrees_of_freedom,
        skeleton.keypoints,
        scale=metadata.input_size / (metadata.padding * sizes),
        folds=options.folds,
        resamples=options.resamples,
    )
    if options.json is not None:
        digest = hashlib.sha256(options.weights.read_bytes()).hexdigest()
        source = {
            "model": metadata.name,
            "weights": options.weights.name,
            "sha256": digest,
            "dataset": f"{options.dataset} test",
        }
        write_json(options.json, {**source, "crop_side": metadata.input_size, "crop_padding": metadata.padding, **report})
    sys.stdout.write(evaluation.markdown(report))


def predict(estimator: PoseEstimator, records: list[Record], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (N, J, 2) and covariances (N, 2J, 2J) of one person a picture, in picture pixels."""
    console = Console(stderr=True)
    work = track(zip(records, boxes, strict=True), "pictures", total=len(records), console=console, transient=True)
    people = [estimator(record.image, boxes=box[None])[0] for record, box in work]
    return np.stack([pose.keypoints for pose in people]), np.stack([pose.covariance for pose in people])


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="evaluate: %(message)s")
    try:
        main(tyro.cli(Options))
    except PosecovError as error:
        sys.stderr.write(f"evaluate: {error}\n")
        sys.exit(2)
