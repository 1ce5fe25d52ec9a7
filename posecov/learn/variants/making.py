"""From a model's file to the files of its variants: made, judged, timed, and written if they are good enough."""

import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.files import write_atomic
from posecov.learn.datasets import Record
from posecov.learn.variants.graph import describe, metadata_of, read_model, take_apart
from posecov.learn.variants.half import half
from posecov.learn.variants.integer import RECIPES, integer
from posecov.learn.variants.judging import MASSES, Change, Figures, change, judge, run_in_turns
from posecov.learn.variants.people import People, crops_of
from posecov.learn.variants.whole import differences, whole

WHOLE_TOLERANCE = 0.5
# Shares of keypoints within the tolerance. A softmax's window may jump between two places; integers make one grey level count.
WHOLE_SHARE, WHOLE_SHARE_INTEGER = 0.99, 0.9

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What to make of a model, and what to judge it by.

    Attributes:
        training: people to calibrate on.
        held: people to choose by.
        test: people for the final table, looked at after the choice; may be empty.
        make: which of ``float16`` and ``int8``.
        recipes: of int8 (`integer.RECIPES`); the fastest that is good enough is taken.
        whole: add models with the crop map inside.
        repeats: of every timing.
    """

    training: Sequence[Record]
    held: Sequence[Record]
    test: Sequence[Record] = ()
    make: Sequence[str] = ("float16", "int8")
    recipes: Sequence[str] = field(default_factory=lambda: (next(iter(RECIPES)),))
    whole: bool = False
    repeats: int = 100


@dataclass(frozen=True)
class Row:
    """A model or a variant of it.

    Attributes:
        model: name of the float32 file.
        variant: ``float32``, ``float16`` or ``int8``.
        recipe: of int8, else empty.
        file: name of the file; empty when it was not written.
        size: bytes.
        times_smaller: than float32.
        milliseconds: of the network, one crop, one CPU thread.
        times_faster: than float32 in the same run.
        body_times_faster: what lies below the heads.
        held: on held-out people, with the change from float32.
        test: on test people, if there are any.
        whole: of the model with the crop map inside, share of keypoints within `WHOLE_TOLERANCE`, and the largest difference.
        refused: why it was not written; empty for one that is good enough but not the fastest.
    """

    model: str
    variant: str
    recipe: str
    file: str
    size: int
    times_smaller: float
    milliseconds: float
    times_faster: float
    body_times_faster: float
    held: tuple[Figures, Change]
    test: tuple[Figures, Change] | None
    whole: tuple[float, float] | None
    refused: str

    def plain(self) -> dict[str, Any]:
        """Plain types for JSON."""
        same = ("model", "variant", "recipe", "file", "size", "times_smaller", "milliseconds", "times_faster")
        fields = {name: getattr(self, name) for name in (*same, "body_times_faster", "refused")}
        for name, pair in (("held", self.held), ("test", self.test)):
            fields[name] = None if pair is None else _plain_figures(*pair)
        fields["whole"] = None if self.whole is None else {"share_within_0.5_px": self.whole[0], "largest_px": self.whole[1]}
        return fields


def make_variants(path: Path, out: Path, job: Job) -> list[Row]:
    """Make a model's variants and write those that are good enough into ``out``, each file whole or not at all.

    Raises:
        PosecovError: not a float32 posecov model, a recipe that does not exist, or a file that cannot be written.
    """
    unknown = [name for name in job.recipes if name not in RECIPES]
    if unknown or not job.recipes:
        raise PosecovError(f"recipe {(*unknown, 'none')[0]!r}: give some of {', '.join(RECIPES)}")
    model = read_model(path)
    parts, metadata = take_apart(model, str(path)), metadata_of(model)
    models: dict[str, ModelProto] = {}
    bodies = {"float32": parts.body}
    if "float16" in job.make:
        models["float16"], bodies["float16"] = half(parts)
    if "int8" in job.make:
        most = max(RECIPES[name].crops for name in job.recipes)
        crops = crops_of(_spread(job.training, most), metadata).crops
        for name in job.recipes:
            log.info("%s: quantising, recipe %s", path.name, name)
            models[f"int8 {name}"], bodies[f"int8 {name}"] = integer(parts, crops, RECIPES[name], name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for variant in models.values():
        describe(variant, variant_of=digest)
    contents = {"float32": path.read_bytes()} | {name: variant.SerializeToString() for name, variant in models.items()}
    log.info("%s: timing %s", path.name, ", ".join(contents))
    size = metadata.input_size
    times, faster = run_in_turns(contents, size, job.repeats)
    _, body_faster = run_in_turns({name: body.SerializeToString() for name, body in bodies.items()}, size, job.repeats)
    log.info("%s: judging by %d held-out people", path.name, len(job.held))
    held = _judged(contents, crops_of(job.held, metadata))
    refused = {name: outcome.refusal(exact=name == "float16") for name, (_, outcome) in held.items()}
    fitting = sorted((n for n in contents if n.startswith("int8") and not refused[n]), key=lambda name: -faster[name])
    written = ["float32", *([] if refused.get("float16", "x") else ["float16"]), *fitting[:1]]
    test = _judged({name: contents[name] for name in written}, crops_of(job.test, metadata)) if job.test else {}
    wholes: dict[str, tuple[float, float]] = {}
    files = {name: path.name if name == "float32" else f"{path.stem}-{name.split()[0]}.onnx" for name in written}
    for name in written:
        if name != "float32":
            write_atomic(out / files[name], contents[name])
        if job.whole:
            log.info("%s: the crop map into %s", path.name, name)
            source = path if name == "float32" else out / files[name]
            wholes[name] = _write_whole(source, models.get(name, model), out, job.held)
    return [
        Row(
            model=path.stem,
            variant=name.split()[0],
            recipe=" ".join(name.split()[1:]),
            file=files.get(name, ""),
            size=len(content),
            times_smaller=len(contents["float32"]) / len(content),
            milliseconds=times[name],
            times_faster=faster[name],
            body_times_faster=body_faster[name],
            held=held[name],
            test=test.get(name),
            whole=wholes.get(name),
            refused=refused[name],
        )
        for name, content in contents.items()
    ]


def _judged(contents: Mapping[str, bytes], people: People) -> dict[str, tuple[Figures, Change]]:
    """Figures of every model, and what changed from the first."""
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            file = Path(folder) / f"{name}.onnx"
            file.write_bytes(content)
            found[name] = judge(file, people)
    return {name: (figures, change(figures, found["float32"])) for name, figures in found.items()}


def _write_whole(source: Path, model: ModelProto, out: Path, people: Sequence[Record]) -> tuple[float, float]:
    """Write the model with the crop map inside. Raises PosecovError where it does not agree with the estimator."""
    content = whole(model).SerializeToString()
    apart = differences(content, PoseEstimator(source, threads=1, providers=["CPUExecutionProvider"]), people)
    share = float((apart <= WHOLE_TOLERANCE).mean())
    target = out / f"{source.stem}-whole.onnx"
    needed = WHOLE_SHARE_INTEGER if metadata_of(model).description.get("variant") == "int8" else WHOLE_SHARE
    if not share >= needed:
        raise PosecovError(
            f"{target}: not written, since only {100 * share:.1f} % of its keypoints lie within {WHOLE_TOLERANCE:g} px of "
            f"those of PoseEstimator (needed: {100 * needed:g} %)"
        )
    write_atomic(target, content)
    return share, float(apart.max())


def _plain_figures(figures: Figures, outcome: Change) -> dict[str, Any]:
    return {
        "pck": figures.pck,
        "nll": figures.nll,
        "coverage": {f"{mass:g}": share for mass, share in zip(MASSES, figures.coverage, strict=True)},
        "keypoints_within_0.1_px": outcome.near,
        "keypoints_99_percent_px": outcome.usual,
        "keypoints_largest_px": outcome.largest,
    }


def _spread(records: Sequence[Record], count: int) -> list[Record]:
    """``count`` of the records, evenly over all."""
    return [records[int(i)] for i in np.unique(np.linspace(0, len(records) - 1, count).astype(int))]
