"""How well a model finds people without boxes, against the same model with the labels' boxes.

    python tools/search.py --weights weights/posecov-lsp14-small.onnx --data-root DIR [--every 4] [--json OUT]

One person: LSP's test pictures, each somewhere on a scene without people three times its size (COCO's, enlarged), and COCO's
pictures with one labelled person; correct joints (PCK@0.2) of the search over those with boxes. Nobody: COCO's pictures without
people. Several: COCO's pictures whose people are all labelled; by the share of the picture's shorter side that they fill.
How well calibrated the probability is that somebody is there: LSP's pictures and those without people, each half of all.
`--validation` takes LSP training people that have trained nothing instead, for choices, and for a model without the output
`presence` also tells how the probability should follow from the consistency. tools/presence.py gives validation figures of
judges that have not seen the scenes. Exit code 2 and one line when data is missing.
"""

import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from posecov import PosecovError, PoseEstimator, search
from posecov.evaluation import searching
from posecov.evaluation.searching import Scene
from posecov.images import read_image
from posecov.learn.datasets import Record, read_datasets, read_lsp, split_validation
from posecov.output import prepare_folder, write_json
from posecov.skeleton import Skeleton

PARTS = {"coco": "train2017", "coco-val": "val2017"}
FACTOR = 3.0
MOST = 6


@dataclass(frozen=True)
class Options:
    """Measure the search for people."""

    weights: Path
    """The .onnx file of a model."""
    data_root: Path
    """Folder with the folders lsp and coco."""
    every: int = 1
    """Only every so manieth of LSP's pictures."""
    validation: bool = False
    """LSP's 500 validation people instead of its test pictures, and COCO's training pictures alone."""
    parts: tuple[Literal["coco", "coco-val"], ...] = ("coco", "coco-val")
    """Of COCO. Its training pictures have taught models with the output presence, so that coco-val alone is the fair test."""
    seed: int = 0
    """Of backgrounds and places."""
    threads: int | None = None
    """CPU threads of the network."""
    json: Path | None = None
    """Where to write the figures."""


def main(options: Options) -> None:
    """Measure and print. Raises PosecovError."""
    if options.every < 1:
        raise PosecovError(f"--every {options.every}: must be at least 1")
    if options.json is not None:
        prepare_folder(options.json.parent)
    estimator = PoseEstimator(options.weights, threads=options.threads)
    skeleton, root = estimator.metadata.skeleton, options.data_root
    parts = ["coco"] if options.validation else options.parts
    empty: list[Path] = []
    people: dict[Path, list] = {}
    for part in parts:
        nobody, somebody = searching.coco_scenes(root / "coco", PARTS[part])
        empty, people = empty + nobody, people | somebody
    if not empty:
        raise PosecovError(f"{root / 'coco'}: no picture without people, to put others on and to find nobody in")
    one = searching.search_one(estimator, watched(on_backgrounds(lsp(options, skeleton), empty, skeleton, options.seed), "LSP"))
    # A record stands for every labelled person; all of a picture's people must be among them.
    records: dict[Path, list[Record]] = {}
    for record in read_datasets(parts, root, skeleton):
        records.setdefault(record.image, []).append(record)
    whole = {p: r for p, r in records.items() if len(r) == len(people[p]) and searching.labelled_enough(people[p])}
    alone = [scene_of(read_image(p), r, skeleton) for p, r in whole.items() if len(r) == 1]
    coco = searching.search_one(estimator, watched([scene for scene in alone if np.isfinite(scene.scale[0])], "COCO, one"))
    nobody_there = searching.search_nobody(estimator, watched(empty, "COCO, nobody"))
    least = search.LEAST if estimator.model.tells_presence else search.LEAST_CONSISTENT
    invented = [file.name for file, probability in zip(empty, nobody_there, strict=True) if probability >= least]
    crowd = [scene_of(read_image(p), r, skeleton) for p, r in whole.items() if len(r) > 1]
    several = searching.search_several(estimator, watched(crowd, "COCO, several"), MOST)
    size = np.concatenate([s.boxes[:, 2:].max(axis=1) / min(s.image.shape[:2]) for s in crowd]) if crowd else np.zeros(0)
    hits = np.concatenate([found for found, _ in several]) if several else np.zeros(0, bool)
    probability = np.concatenate([one.probability, nobody_there])
    there = np.concatenate([one.placed, np.zeros(len(nobody_there), dtype=bool)])
    share = searching.even_weights(np.arange(len(there)) < len(one.placed))
    report: dict[str, Any] = {
        "model": estimator.metadata.name,
        "lsp": one_person(one),
        "coco": one_person(coco),
        "nobody": {"pictures": len(empty), "nobody_found": 1 - len(invented) / len(empty), "invented_in": invented},
        "several": {
            "pictures": len(crowd),
            "people": len(hits),
            "found": {
                f"{low:g} to {high:g} of the shorter side": [int(hits[chosen].sum()), int(chosen.sum())]
                for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 1), (1, 9))
                if (chosen := (size >= low) & (size < high)).any()
            },
            "places_without_a_labelled_person": sum(extra for _, extra in several),
        },
    }
    report["calibration"] = {
        "log_loss": searching.log_loss(probability, there, share),
        "reliability": searching.reliability(probability, there, share),
    }
    if options.validation and not estimator.model.tells_presence:
        even, slope = searching.fit_probability(one.probability, nobody_there, search.EVEN, search.SLOPE)
        report["probability"] = {"even": even, "slope": slope}
    for name, figures in report.items():
        print(f"{name}: {figures}")
    if options.json is not None:
        write_json(options.json, report)


def one_person(found: searching.Search) -> dict[str, float]:
    """Figures of pictures with one person."""
    return {
        "pictures": len(found.found),
        "found": float(found.found.mean()),
        "correct_joints_over_boxed": found.share,
        "of_those_found": float(found.right[found.found].sum() / max(found.boxed[found.found].sum(), 1)),
    }


def lsp(options: Options, skeleton: Skeleton) -> list[Record]:
    """The people of LSP to search for."""
    if options.validation:
        records = split_validation(read_datasets(["lsp"], options.data_root, skeleton), "lsp/", 500, 0)[1]
    else:
        records = read_lsp(options.data_root / "lsp", "test")
    return records[:: options.every]


def on_backgrounds(records: Iterable[Record], scenes: list[Path], skeleton: Skeleton, seed: int) -> Iterator[Scene]:
    """Every record's picture somewhere on one of the scenes."""
    rng = np.random.default_rng(seed)
    for record in records:
        background = read_image(scenes[int(rng.integers(len(scenes)))])
        canvas, corner = searching.padded(read_image(record.image), background, FACTOR, rng)
        yield scene_of(canvas, [record], skeleton, corner)


def scene_of(image: np.ndarray, records: list[Record], skeleton: Skeleton, corner: np.ndarray | float = 0.0) -> Scene:
    """A picture with labelled people, moved to where the picture's corner is."""
    points = np.stack([record.keypoints for record in records]) + corner
    boxes = np.stack([record.box for record in records])
    boxes[:, :2] += corner
    first, second = skeleton.torso_indices
    return Scene(image, points, boxes, np.linalg.norm(points[:, first] - points[:, second], axis=1))


def watched(things: Iterable, what: str) -> Iterator:
    """The things, with a bar."""
    yield from track(things, what, console=Console(stderr=True), transient=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="search: %(message)s")
    try:
        main(tyro.cli(Options))
    except PosecovError as error:
        sys.stderr.write(f"search: {error}\n")
        sys.exit(2)
