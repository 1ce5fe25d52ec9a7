"""Look at a recipe's data before training on it."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecov.errors import PosecovError
from posecov.files import write_atomic
from posecov.learn.config import TrainConfig
from posecov.learn.datasets import Problems, Record, read_datasets
from posecov.learn.inspection.duplicates import find_duplicates
from posecov.learn.inspection.sheet import View, samples_sheet, suspects_sheet
from posecov.learn.inspection.statistics import statistics, table
from posecov.learn.inspection.suspects import Suspect, find_suspects
from posecov.learn.training import data_root_of
from posecov.output import prepare_folder, write_json
from posecov.skeleton import Skeleton, load_skeleton

log = logging.getLogger(__name__)


def inspect(config: TrainConfig, out: Path, data_root: str = "", people: int = 24, duplicates: bool = True) -> dict[str, Any]:
    """Write ``samples.png``, ``suspects.png`` (where there are any) and ``inspection.json``.

    What is bad in the annotation files is left out and listed, as with ``data.skip_bad``.

    Args:
        config: its data sets, skeleton, input size and augmentation are used.
        out: folder of the results.
        data_root: see `training.data_root_of`.
        people: random ones on the sheet of samples, from every data set; and suspicious ones on theirs.
        duplicates: whether all pictures are read and compared.

    Returns:
        What the JSON says: ``datasets``, each with its `statistics.statistics`; ``bad``, lines on annotations left out;
        ``suspects``, each with ``person``, ``kind``, ``what``; ``duplicates``, pairs of pictures.

    Raises:
        PosecovError: data that is not there, or an argument that makes no sense.
    """
    if people < 1:
        raise PosecovError(f"people {people}: there must be at least one on a sheet")
    root, skeleton, problems = data_root_of(config, data_root), load_skeleton(config.skeleton), Problems()
    out = prepare_folder(out)
    entries = list(dict.fromkeys((*config.data.datasets, config.data.held_from)))
    parts = {entry: read_datasets([entry], root, skeleton, problems) for entry in entries}
    records = [record for part in parts.values() for record in part]
    suspects = [suspect for part in parts.values() for suspect in _shifted(part, records, skeleton)]
    suspects.sort(key=lambda suspect: (suspect.kind, -suspect.strength))
    pairs = find_duplicates(sorted({record.image for record in records})) if duplicates else []
    report = {
        "skeleton": skeleton.name,
        "datasets": {entry: statistics(part, skeleton) for entry, part in parts.items()},
        "bad": problems.lines,
        "suspects": [{"person": records[s.index].name, "kind": s.kind, "what": s.what} for s in suspects],
        "suspects_by_kind": dict(Counter(s.kind for s in suspects)),
        "duplicates": [[str(first), str(second)] for first, second in pairs],
    }
    write_json(out / "inspection.json", report)
    view = View(skeleton, config.model.input_size, config.model.padding, config.augment, config.seed)
    _write(out / "samples.png", samples_sheet(_some(list(parts.values()), people, config.seed), view))
    worst = _worst(suspects, people)
    if worst:
        _write(out / "suspects.png", suspects_sheet(records, worst, view))
    else:
        (out / "suspects.png").unlink(missing_ok=True)
    return report


def summary(report: dict[str, Any], lines: int = 5) -> str:
    """The report as text, with so many lines of each kind of finding."""
    people = sum(part["people"] for part in report["datasets"].values())
    suspicious = len({suspect["person"] for suspect in report["suspects"]})
    text = [table(report["datasets"]), ""]
    text += _listed("bad annotations, left out", report["bad"], lines)
    text.append(f"suspicious labels: {suspicious} of {people} people")
    for kind in report["suspects_by_kind"]:
        found = [f"{s['person']}: {s['what']}" for s in report["suspects"] if s["kind"] == kind]
        text += _listed(f"- {kind}", found, lines)
    text += _listed("pictures that are there twice", [f"{a} = {b}" for a, b in report["duplicates"]], lines)
    return "\n".join(text)


def _listed(title: str, found: Sequence[str], lines: int) -> list[str]:
    more = [f"    and {len(found) - lines} more"] if len(found) > lines else []
    return [f"{title}: {len(found)}", *(f"    {line}" for line in found[:lines]), *more]


def _shifted(part: Sequence[Record], records: Sequence[Record], skeleton: Skeleton) -> list[Suspect]:
    """Suspects of one data set, which has proportions of its own, with indices into all records."""
    start = next(i for i, record in enumerate(records) if record is part[0])
    return [dataclasses.replace(suspect, index=suspect.index + start) for suspect in find_suspects(part, skeleton)]


def _some(parts: Sequence[Sequence[Record]], count: int, seed: int) -> list[Record]:
    """Random people, about as many of each data set."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(part)) for part in parts]
    longest = max(len(part) for part in parts)
    turns = [part[order[i]] for i in range(longest) for part, order in zip(parts, orders, strict=True) if i < len(part)]
    chosen = {record.name for record in turns[:count]}
    return [record for part in parts for record in part if record.name in chosen]


def _worst(suspects: Sequence[Suspect], count: int) -> list[Suspect]:
    """The strongest of each kind in turn, each person once."""
    by_kind: dict[str, list[Suspect]] = {}
    for suspect in sorted(suspects, key=lambda s: -s.strength):
        by_kind.setdefault(suspect.kind, []).append(suspect)
    turns = [group[i] for i in range(count) for group in by_kind.values() if i < len(group)]
    once = {suspect.index: suspect for suspect in reversed(turns)}
    return sorted(list(reversed(once.values()))[:count], key=lambda s: s.kind)


def _write(path: Path, image: np.ndarray) -> None:
    write_atomic(path, cv2.imencode(".png", image)[1].tobytes())
