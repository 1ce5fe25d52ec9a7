"""Evaluate a model on labelled people, boxes from annotations, through `PoseEstimator`.

    python tools/evaluate.py --weights weights/posecov-lsp14-small.onnx --dataset lsp --data-root DIR --json report.json
    python tools/evaluate.py --weights MODEL.onnx --data-root DIR --report out/report
    python tools/evaluate.py --weights MODEL.onnx --dataset mine.json@photos --data-root DIR

``lsp`` is LSP's test pictures (DIR holds ``lsp/joints.mat`` and ``lsp/images``, or is that folder); every other name means what
it means in training. Joints are matched by name: those that the model has and the data do not are marginalised, the others
left out. Boxes are those that training takes: the extent of the labelled joints, enlarged, and what an annotated box shows
beyond. PCK is about people whose torso is known, from one shoulder to the opposite hip, either way; where nobody's is, it takes
0.1 of the person's box. The tables go to stdout, progress to stderr, every figure
to the JSON. ``--report`` writes a page with plots and the pictures that are worth a look (report.html, which needs nothing
else), and the same as Markdown (report.md). It holds pictures of the data set: mind its terms. OKS AP and the report need
``pip install -e ".[evaluate]"``. Exit code 2 and one line on stderr when something is missing or wrong.
"""

import hashlib
import logging
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from posecov import Pose, PosecovError, PoseEstimator, evaluation
from posecov.evaluation import oks, pictures
from posecov.learn.datasets import Problems, Reading, Record, onto_skeleton, read_datasets, read_lsp
from posecov.output import prepare_folder, write_json
from posecov.pose import law_of_poses
from posecov.skeleton import Skeleton, load_skeleton

log = logging.getLogger("evaluate")


@dataclass(frozen=True)
class Options:
    """Evaluate a model on labelled pictures."""

    weights: Path
    """The .onnx file of a model."""
    data_root: Path = field(default_factory=lambda: Path(os.environ.get("POSECOV_DATA", "")))
    """Folder that holds the data set's folder; POSECOV_DATA, else the working folder, when not given."""
    dataset: tuple[str, ...] = ("lsp",)
    """One or more. lsp: its pictures 1001 to 2000; else as in training: lspet, mpii, mpii-val, coco, coco-val,
    FILE.json[@FOLDER]."""
    skip_bad: bool = False
    """Leave out joints and people with annotations that cannot be right, instead of refusing them."""
    json: Path | None = None
    """Where to write every figure."""
    report: Path | None = None
    """Folder for a page with tables, plots and overlays."""
    shown: int = 10
    """People in each gallery of the report: the worst, and the least certain."""
    threads: int | None = None
    """CPU threads of the network."""
    limit: int | None = None
    """Only so many people, for a quick look. When fewer than four for each coordinate are left, so are the rivals out."""
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
    boxes = np.stack([record.box for record in records])
    poses = predict(estimator, records, boxes)

    truth = np.stack([record.keypoints for record in records])
    labelled = np.stack([record.labelled for record in records])
    people = law_of_poses(poses)
    sizes = boxes[:, 2:].max(axis=1)
    report = evaluation.evaluate(
        people,
        truth,
        labelled,
        sizes,
        torso_lengths(skeleton, truth),
        skeleton,
        scale=metadata.input_size / (metadata.padding * sizes),
        head=np.array([record.head_size for record in records]),
        exchanges=[exchange.name for exchange in metadata.exchanges],
        folds=options.folds,
        resamples=options.resamples,
        draws=options.draws,
    )
    files = [record.image for record in records]
    areas = np.array([record.area for record in records])
    report |= oks.figures(people, skeleton, truth, labelled, boxes, files, areas)
    digest = hashlib.sha256(options.weights.read_bytes()).hexdigest()
    source = {
        "model": metadata.name,
        "weights": options.weights.name,
        "sha256": digest,
        "dataset": " and ".join("lsp test" if name == "lsp" else name for name in options.dataset),
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
    """The data sets' people with the joints of the model. Raises PosecovError when there are none."""
    problems, records = Problems(), []
    for name in options.dataset:
        if name == "lsp":
            folder = options.data_root / "lsp"
            folder = folder if folder.is_dir() else options.data_root
            reading = Reading(read_lsp(folder, "test", problems), load_skeleton("lsp14").keypoints, folder / "joints.mat")
            records += onto_skeleton(reading, skeleton, problems)
        else:
            records += read_datasets([name], options.data_root, skeleton, problems)
    problems.settle(options.skip_bad)
    if not records:
        raise PosecovError(
            f"{options.data_root}: nobody in data set {', '.join(options.dataset)} has enough joints of skeleton "
            f"{skeleton.name}; nothing to evaluate"
        )
    return records[: options.limit]


def predict(estimator: PoseEstimator, records: list[Record], boxes: np.ndarray) -> list[Pose]:
    """One person a record, in picture pixels."""
    console = Console(stderr=True)
    work = track(zip(records, boxes, strict=True), "pictures", total=len(records), console=console, transient=True)
    return [estimator(record.image, boxes=box[None])[0] for record, box in work]


def torso_lengths(skeleton: Skeleton, truth: np.ndarray) -> np.ndarray:
    """(N,) pixels, from one shoulder to the opposite hip, say; where a label is missing, the mirror joints' distance.

    NaN for people without the labels, and for everybody if the skeleton names no torso.

    Args:
        skeleton: that names the two joints.
        truth: (N, J, 2) pixels, NaN without a label.
    """
    if skeleton.torso is None:
        log.warning("skeleton %s names no torso; PCK takes the person's box instead", skeleton.name)
        return np.full(len(truth), np.nan)
    first, second = skeleton.torso_indices
    ways = [
        np.linalg.norm(points[:, first] - points[:, second], axis=1) for points in (truth, truth[:, skeleton.flip_permutation])
    ]
    return np.where(np.isnan(ways[0]), ways[1], ways[0])


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="evaluate: %(message)s")
    try:
        main(tyro.cli(Options))
    except PosecovError as error:
        sys.stderr.write(f"evaluate: {error}\n")
        sys.exit(2)
