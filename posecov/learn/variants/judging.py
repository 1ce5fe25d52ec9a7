"""What a variant is worth beside the model that it comes from, and whether that is enough."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from posecov import metrics
from posecov.coordinates import flatten
from posecov.estimator import mixture_law
from posecov.law import Law
from posecov.learn.variants.people import People
from posecov.mixture import Mixture
from posecov.model import PoseModel

MASSES = (0.5, 0.68, 0.9, 0.95)

# What a variant may lose.
PCK_LOSS = 0.01
NLL_LOSS = 1.0  # nats per person
COVERAGE_CHANGE = 0.03
NEAR = 0.1  # crop pixels
NEAR_SHARE = 0.98  # of a float16 variant's keypoints within `NEAR`: a softmax's window may jump between two places
_WARMUP = 10


@dataclass(frozen=True)
class Figures:
    """How good a model is on some people.

    Attributes:
        pck: share of joints within 0.2 torsos.
        nll: nats per person, crop pixels.
        coverage: shares of people inside their regions of `MASSES`.
        keypoints: (N, J, 2) crop pixels.
    """

    pck: float
    nll: float
    coverage: tuple[float, ...]
    keypoints: np.ndarray


@dataclass(frozen=True)
class Change:
    """What changed from one model to another on the same people.

    Attributes:
        pck: difference, below 0 where it is worse.
        nll: difference in nats, above 0 where it is worse.
        coverage: largest absolute difference.
        near: share of keypoints that moved by less than `NEAR`.
        usual: crop pixels that 99 % of the keypoints moved by at most.
        largest: crop pixels.
    """

    pck: float
    nll: float
    coverage: float
    near: float
    usual: float
    largest: float

    def refusal(self, *, exact: bool = False) -> str:
        """Why the new model is not good enough; empty when it is. ``exact`` asks for the same keypoints too."""
        reasons = []
        if not self.pck >= -PCK_LOSS:
            reasons.append(f"PCK fell by {-100 * self.pck:.2f} points, allowed are {100 * PCK_LOSS:g}")
        if not self.nll <= NLL_LOSS:
            reasons.append(f"NLL grew by {self.nll:.2f} nats, allowed is {NLL_LOSS:g}")
        if not self.coverage <= COVERAGE_CHANGE:
            reasons.append(f"coverage changed by {100 * self.coverage:.1f} points, allowed are {100 * COVERAGE_CHANGE:g}")
        if exact and not self.near >= NEAR_SHARE:
            reasons.append(
                f"{100 * self.near:.1f} % of the keypoints moved by less than {NEAR:g} px, needed {100 * NEAR_SHARE:g} %"
            )
        return "; ".join(reasons)


def judge(path: Path, people: People) -> Figures:
    """Run a model over people, on one CPU thread. Raises PosecovError when it is no posecov model or returns no numbers."""
    model = PoseModel(path, threads=1, providers=["CPUExecutionProvider"])
    outputs, metadata = model.outputs(people.crops), model.metadata
    if metadata.exchanges:
        law: Law | Mixture = mixture_law(outputs, metadata)
    else:
        law = Law.from_covariance(flatten(outputs["keypoints"]), outputs["covariance"], metadata.degrees_of_freedom)
    labelled = ~np.isnan(people.truth).any(axis=-1)
    values = flatten(people.truth)
    nll, mass = metrics.nll_per_person(law, values), law.mass(values)
    errors = metrics.keypoint_errors(outputs["keypoints"], people.truth, labelled)
    coverage = tuple(float((mass[~np.isnan(mass)] <= asked).mean()) for asked in MASSES)
    return Figures(metrics.pck(errors, people.torso)[1], float(np.nanmean(nll)), coverage, outputs["keypoints"])


def change(new: Figures, old: Figures) -> Change:
    """Compare two models on the same people."""
    moved = np.linalg.norm(new.keypoints - old.keypoints, axis=-1)
    return Change(
        pck=new.pck - old.pck,
        nll=new.nll - old.nll,
        coverage=max(abs(a - b) for a, b in zip(new.coverage, old.coverage, strict=True)),
        near=float((moved < NEAR).mean()),
        usual=float(np.quantile(moved, 0.99)),
        largest=float(moved.max()),
    )


def run_in_turns(models: Mapping[str, bytes], size: int, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median milliseconds of each network for one crop on one CPU thread, and how many times faster it is than the first.

    They take turns, and the latter is the median of the ratios within a turn: on a busy machine a turn is slow as a whole.

    Args:
        models: ONNX files with the one input ``image``.
        size: side of the crop.
        repeats: turns.
    """
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]) for content in models.values()]
    times = np.empty((_WARMUP + repeats, len(sessions)))
    for turn in times:
        for place, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, {"image": image})
            turn[place] = 1e3 * (time.perf_counter() - start)
    measured = times[_WARMUP:]
    medians, ratios = np.median(measured, axis=0), np.median(measured[:, :1] / measured, axis=0)
    return dict(zip(models, medians.tolist(), strict=True)), dict(zip(models, ratios.tolist(), strict=True))
