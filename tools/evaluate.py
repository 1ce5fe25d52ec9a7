"""Evaluate a model on the LSP test pictures, boxes from labels, through `PoseEstimator`.

    python tools/evaluate.py --weights weights/posecov-lsp14-small.onnx --dataset lsp --data-root DIR --json report.json
    python tools/evaluate.py --weights MODEL.onnx --data-root DIR --report out/report

DIR holds ``lsp/joints.mat`` and ``lsp/images`` (or is that folder). The tables go to stdout, progress to stderr, every figure
to the JSON. ``--report`` writes a page with plots and the pictures that are worth a look (report.html, which needs nothing
else), and the same as Markdown (report.md). It holds pictures of the data set: mind its terms. OKS AP and the report need
``pip install -e ".[evaluate]"``. Exit code 2 and one line on stderr when something is missing or wrong.
"""

import hashlib
import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from posecov import Pose, PosecovError, PoseEstimator, coordinates, evaluation
from posecov.evaluation import oks, pictures
from posecov.geometry import box_around
from posecov.law import Law
from posecov.learn.datasets import Record, read_lsp
from posecov.output import prepare_folder, write_json
from posecov.skeleton import Skeleton, load_skeleton

log = logging.getLogger("evaluate")


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
    """Where to write every figure."""
    report: Path | None = None
    """Folder for a page with tables, plots and overlays."""
    shown: int = 10
    """People in each gallery of the report: the worst, and the least certain."""
    threads: int | None = None
    """CPU threads of the network."""
    limit: int | None = None
    """Only so many people, for a quick look. Fewer than four for each coordinate leave the rivals out."""
    folds: int = 2
    """Across which the rivals' constants are fitted."""
    resamples: int = 1000
    """Of the bootstrap behind each interval."""
    draws: int = 512
    """From each person's law, for the energy score."""


def main(options: Options) -> None:
    """Evaluate, print, write. Raises PosecovError."""
    _check(options)
    estimator = PoseEstimator(options.weights, threads=options.threads)
    skeleton, metadata = estimator.metadata.skeleton, estimator.metadata
    records = read_people(options, skeleton)
    boxes = np.stack([box_around(record.keypoints[record.labelled]) for record in records])
    poses = predict(estimator, records, boxes)

    truth = np.stack([record.keypoints for record in records])
    labelled = np.stack([record.labelled for record in records])
    means, covariances = np.stack([pose.keypoints for pose in poses]), np.stack([pose.covariance for pose in poses])
    sizes = boxes[:, 2:].max(axis=1)
    report = evaluation.evaluate(
        means,
        covariances,
        truth,
        labelled,
        sizes,
        torso_lengths(skeleton, truth),
        metadata.degrees_of_freedom,
        skeleton.keypoints,
        scale=metadata.input_size / (metadata.padding * sizes),
        limbs=skeleton.limb_indices,
        head=np.array([record.head_size for record in records]),
        folds=options.folds,
        resamples=options.resamples,
        draws=options.draws,
    )
    people = Law.from_covariance(coordinates.flatten(means), covariances, metadata.degrees_of_freedom)
    files = [record.image for record in records]
    report |= oks.figures(people, skeleton, truth, labelled, boxes, files)
    digest = hashlib.sha256(options.weights.read_bytes()).hexdigest()
    source = {
        "model": metadata.name,
        "weights": options.weights.name,
        "sha256": digest,
        "dataset": f"{options.dataset} test",
    }
    if options.json is not None:
        write_json(options.json, {**source, "crop_side": metadata.input_size, "crop_padding": metadata.padding, **report})
    sys.stdout.write(evaluation.markdown(report))
    if options.report is not None:
        source["command"] = "python " + shlex.join(sys.argv)
        names = [record.name for record in records]
        galleries = pictures.galleries(names, files, poses, truth, labelled, sizes, options.shown)
        print(evaluation.write_report(options.report, report, source, *galleries), file=sys.stderr)


def _check(options: Options) -> None:
    """What would fail after the work fails before it."""
    if options.limit is not None and options.limit < 1:
        raise PosecovError(f"--limit {options.limit}: there must be at least one picture")
    if options.folds < 2:
        raise PosecovError(f"--folds {options.folds}: there must be at least 2")
    for name in ("resamples", "draws"):
        if getattr(options, name) < 1:
            raise PosecovError(f"--{name} {getattr(options, name)}: there must be at least 1")
    if options.shown < 0:
        raise PosecovError(f"--shown {options.shown}: must not be negative")
    if options.json is not None:
        prepare_folder(options.json.parent)
    if options.report is not None:
        evaluation.check_plotting()
        prepare_folder(options.report)
    if not oks.available():
        log.warning('OKS AP is left out: pycocotools is not installed; run pip install -e ".[evaluate]"')


def read_people(options: Options, skeleton: Skeleton) -> list[Record]:
    """The data set's labelled people with the joints of the model. Raises PosecovError when there are none."""
    lsp = load_skeleton("lsp14")
    if skeleton.keypoints != lsp.keypoints:
        raise PosecovError(f"{options.weights}: its joints are those of {skeleton.name}, not those of LSP")
    folder = options.data_root / options.dataset
    found = read_lsp(folder if folder.is_dir() else options.data_root, "test")
    records = [record for record in found if record.labelled.any()][: options.limit]
    if not records:
        raise PosecovError(
            f"{options.data_root}: nobody in data set {options.dataset} has a labelled joint; nothing to evaluate"
        )
    return records


def predict(estimator: PoseEstimator, records: list[Record], boxes: np.ndarray) -> list[Pose]:
    """One person a record, in picture pixels."""
    console = Console(stderr=True)
    work = track(zip(records, boxes, strict=True), "pictures", total=len(records), console=console, transient=True)
    return [estimator(record.image, boxes=box[None])[0] for record, box in work]


def torso_lengths(skeleton: Skeleton, truth: np.ndarray) -> np.ndarray:
    """(N,) pixels, NaN for people without the labels, and for everybody if the skeleton names no torso."""
    if skeleton.torso is None:
        log.warning("skeleton %s names no torso; PCK of the torso is left out", skeleton.name)
        return np.full(len(truth), np.nan)
    first, second = skeleton.torso_indices
    return np.linalg.norm(truth[:, first] - truth[:, second], axis=1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="evaluate: %(message)s")
    try:
        main(tyro.cli(Options))
    except PosecovError as error:
        sys.stderr.write(f"evaluate: {error}\n")
        sys.exit(2)
