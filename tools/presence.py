"""Teach an exported model to tell whether somebody is in a crop: a further output, `presence`, for the search without boxes.

    python tools/presence.py MODEL.onnx --data-root DIR --out MODEL.onnx [--scenes FOLDER] [--json OUT]

What the model knows of a crop is learned from: crops of labelled people, near their boxes and beside them, and of pictures
without people, most of them where the search itself looks (deploy/FORMAT.md says what the output means). All else in the file
stays as it was, and variants made of it (tools/variants.py) have the output too. Pictures without people are those of FOLDER,
or COCO's training pictures without. The first data set's held-out people, those of training, teach nothing: on scenes in three
folds, each judged by a judge that has not seen it, they calibrate the probability and give the figures, beside those of the
consistency that the search goes by without this output, and of both together, with the weights that fit best. Exit code 2 when
nothing could start.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from posecov.commands.terminal import needs_training_packages
from posecov.errors import PosecovError


@dataclass(frozen=True)
class Options:
    """Teach a model to tell whether somebody is in a crop."""

    model: Annotated[Path, tyro.conf.Positional]
    """Float32 model, as posecov exports it; a judge that it has is replaced."""
    out: Path
    """Where to write the model with the output; may be MODEL itself."""
    data_root: str = ""
    """Folder with one folder per data set; POSECOV_DATA when not given."""
    dataset: tuple[str, ...] = ("lsp", "lspet", "coco")
    """Of the people, as in training. They take turns, however many each has."""
    scenes: Path | None = None
    """Folder of pictures without people; COCO's training pictures without, in the data root's coco, when not given."""
    held: int = 500
    """People of the first data set to calibrate and measure on, those that training keeps out with the same number."""
    every: int = 5
    """Of the held people only every so manieth."""
    found: int = 300
    """Pictures with people, most of them on scenes, in which the search is let loose."""
    empty: int = 120
    """The same for scenes alone."""
    boxed: int = 1000
    """Pictures with people of which only crops near their boxes are looked at."""
    beside: int = 120
    """Searches in COCO's training pictures with people, where what lies beside all boxes shows nobody; none with --scenes."""
    seed: int = 0
    """Of everything."""
    json: Path | None = None
    """Where to write the figures."""


def main(options: Options) -> None:
    """Learn, write, print. Raises PosecovError."""
    import numpy as np
    import torch

    from posecov.evaluation.searching import coco_scenes
    from posecov.files import write_atomic
    from posecov.images import list_images
    from posecov.learn.presence.making import Job, add_presence
    from posecov.learn.variants.graph import metadata_of, read_model
    from posecov.learn.variants.people import held_out
    from posecov.output import prepare_folder, write_json

    for name in ("held", "every", "found", "empty", "boxed", "beside"):
        if getattr(options, name) < 1:
            raise PosecovError(f"--{name} {getattr(options, name)}: must be at least 1")
    for target in (options.out, options.json):
        if target is not None:
            prepare_folder(target.parent)
    if options.scenes is not None and not options.scenes.is_dir():
        raise PosecovError(f"{options.scenes}: no such folder; give one with pictures without people")
    root = options.data_root or os.environ.get("POSECOV_DATA", "")
    if not root:
        raise PosecovError("no data: give --data-root or set POSECOV_DATA; it holds one folder per data set (lsp, lspet, coco)")
    skeleton = metadata_of(read_model(options.model)).skeleton
    complete = []
    if options.scenes is None:
        scenes, peopled = coco_scenes(Path(root) / "coco", "train2017")
        for path, people in sorted(peopled.items()):
            boxes = np.array([[*person["bbox"], bool(person.get("iscrowd"))] for person in people])
            complete.append((path, boxes[boxes[:, 4] == 0, :4], boxes[boxes[:, 4] == 1, :4]))
    else:
        scenes = list_images([options.scenes])
    training, held = held_out(options.dataset, Path(root), skeleton, options.held, options.seed)
    torch.set_num_threads(1)  # The judge is small.
    counts = {name: getattr(options, name) for name in ("found", "empty", "boxed", "beside")}
    job = Job(training, held[:: options.every], sorted(scenes), complete=complete, seed=options.seed, **counts)
    content, figures = add_presence(options.model, job, watched)
    write_atomic(options.out, content)
    for name, value in figures.items():
        print(f"{name}: {value}")
    if options.json is not None:
        digest = hashlib.sha256(content).hexdigest()
        write_json(options.json, {"model": options.model.stem, "sha256": digest, **figures})


def watched(steps: Sequence[int]) -> Iterator[int]:
    """The steps, with a bar."""
    from rich.console import Console
    from rich.progress import track

    yield from track(steps, "looking", console=Console(stderr=True), transient=True)


if __name__ == "__main__":
    needs_training_packages("presence")
    logging.basicConfig(level=logging.WARNING, format="presence: %(message)s")
    try:
        main(tyro.cli(Options, prog="tools/presence.py"))
    except PosecovError as error:
        sys.stderr.write(f"presence: {error}\n")
        sys.exit(2)
