"""Human pose: every loss and every part of the recipe on the same mean, the same people, the same number of epochs.

The mean of a finished run is given; what lies below its mean head is frozen. With ``mean_share`` below 1 in that run, the
people here are new to it, so that errors are those of new people. Every variant trains a fresh covariance head, and, unless
``mean_head`` is frozen, the mean head with it. The epoch is chosen on validation people; LSP's test people judge.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posecov import law, metrics
from posecov.errors import PosecovError
from posecov.geometry import crop_map
from posecov.law import Law
from posecov.learn.build import build_model
from posecov.learn.calibration import calibrate_law, calibrated_law
from posecov.learn.checkpoint import load_checkpoint, part
from posecov.learn.config import TrainConfig, check
from posecov.learn.covariance_head import Covariance
from posecov.learn.covariance_training import Cached, law_of, make_pseudo_labels, predict, term_shares, train_covariance
from posecov.learn.datasets import Record, read_lsp
from posecov.learn.experiments.cells import Options, progress, run_cell
from posecov.learn.features import FeatureSet, extract_features
from posecov.learn.losses import loss_named
from posecov.learn.model import PoseModel, load_mean
from posecov.learn.run import Run
from posecov.learn.training import cache, data_root_of, fingerprint, load_people, prepare
from posecov.mixture import Mixture
from posecov.skeleton import Skeleton, load_skeleton

log = logging.getLogger(__name__)
MASSES = (0.5, 0.68, 0.9, 0.95)


@dataclass(frozen=True)
class Variant:
    """One way to train the covariance.

    Attributes:
        losses: of phase 1 and phase 2; "" leaves a phase out, and the other has its epochs.
        scatter: form of the free term; see `covariance_head`.
        taylor: with J J^T and curvature; or the shares of the two at the start.
        start: constant or isotropic.
        pseudo: settings of the pseudo-labels that differ from the run's.
        own: share of a person's own error in KL.
    """

    losses: tuple[str, str]
    scatter: str = "factor"
    taylor: tuple[float, float] | bool = True
    start: str = "constant"
    pseudo: Mapping[str, Any] = field(default_factory=dict)
    own: float = 0.5


_HYBRID = ("wasserstein-procrustes", "nll")
_BY_KL = ("wasserstein-procrustes", "kl")
_OWN = 0.85  # of 0.5, 0.7 and 0.85 the best on the validation people
_OURS = ("wasserstein-procrustes", "student-t")
_MIXTURE = ("wasserstein-procrustes", "student-t-mixture")
_TARGETS: Mapping[str, Any] = {"source": "targets"}
VARIANTS: Mapping[str, Variant] = {
    # The papers': Gaussian, a freely predicted factor.
    "MSE": Variant(("", "mse"), taylor=False),
    "NLL diagonal": Variant(("", "nll-diagonal"), "diagonal", False),
    "beta-NLL": Variant(("", "beta-nll"), "diagonal", False),
    "Faithful": Variant(("", "faithful"), taylor=False),
    "NLL": Variant(("", "nll"), taylor=False, start="isotropic"),
    "NLL, precision": Variant(("", "nll-precision"), "precision", False),
    "NLL-TIC": Variant(("", "nll"), start="isotropic"),
    "NLL-TIC from the constant covariance": Variant(("", "nll")),
    "KL": Variant(("", "kl")),
    "2-W bound": Variant(("wasserstein-bound", ""), taylor=False),
    "2-W": Variant(("wasserstein-procrustes", "")),
    "hybrid": Variant(_HYBRID),
    "hybrid, targets": Variant(_HYBRID, pseudo=_TARGETS),
    "hybrid, shuffled neighbours": Variant(_HYBRID, pseudo={"shuffled": True}),
    "hybrid without J J^T": Variant(_HYBRID, taylor=(0.0, 0.05)),
    "hybrid without curvature": Variant(_HYBRID, taylor=(0.1, 0.0)),
    # Phase 2 keeps the pseudo-labels: they have half of its likelihood, or less.
    "hybrid by KL": Variant(_BY_KL),
    "smoothed hybrid": Variant(_BY_KL, own=_OWN),
    "smoothed hybrid, targets": Variant(_BY_KL, pseudo=_TARGETS, own=_OWN),
    "smoothed hybrid, shuffled neighbours": Variant(_BY_KL, pseudo={"shuffled": True}, own=_OWN),
    "smoothed hybrid without J J^T": Variant(_BY_KL, taylor=(0.0, 0.05), own=_OWN),
    "smoothed hybrid without curvature": Variant(_BY_KL, taylor=(0.1, 0.0), own=_OWN),
    # Ours: Student-t, ellipses around a learned correlation.
    "ours": Variant(_OURS, "correlation"),
    "ours without phase 1": Variant(("", "student-t"), "correlation"),
    "ours, mixture over exchanges": Variant(_MIXTURE, "correlation"),
    "ours, mixture, without phase 1": Variant(("", "student-t-mixture"), "correlation"),
    "ours, targets": Variant(_OURS, "correlation", pseudo=_TARGETS),
    "ours, shuffled neighbours": Variant(_OURS, "correlation", pseudo={"shuffled": True}),
    "ours without J J^T": Variant(_OURS, "correlation", (0.0, 0.05)),
    "ours without curvature": Variant(_OURS, "correlation", (0.1, 0.0)),
    "ours without both": Variant(_OURS, "correlation", False),
} | {f"hybrid, k = {k}": Variant(_HYBRID, pseudo={"neighbours": k}) for k in (28, 56, 500, 1500)}


@dataclass(frozen=True)
class PoseOptions(Options):
    """Losses and parts of the recipe on LSP.

    Attributes:
        run: folder of a finished run of tools/train.py; its mean is used.
        data_root: folder with one folder per data set; POSECOV_DATA when not given.
        variants: names; all when none is given.
        phase1_epochs: of phase 1. phase2_epochs: of phase 2. Every variant has their sum.
        mean_head: frozen, trained or fresh.
        people: the covariance learns from so many of the people, evenly spread; 0: from all.
        views: augmented crops of each person beside the plain one.
        batch: people a step. lr: peak learning rate. weight_decay: of AdamW.
        json: where the figures of tools/model_card.py go, if wanted.
    """

    run: str = "runs/posecov-lsp14-half"
    data_root: str = ""
    variants: tuple[str, ...] = ()
    phase1_epochs: int = 2
    phase2_epochs: int = 13
    mean_head: str = "frozen"
    people: int = 0
    views: int = 2
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.5
    json: str = ""


@dataclass(frozen=True)
class Setting:
    """What all cells share."""

    config: TrainConfig
    model: PoseModel
    skeleton: Skeleton
    cached: Cached
    test: Sequence[Record]
    seen: FeatureSet


def run(options: PoseOptions) -> dict[str, dict[str, Any]]:
    """Every variant with every seed: name to seed (as text) to figures; see `judge`.

    Raises:
        PosecovError: an unknown variant, not a run with a trained mean, or its data is not there.
    """
    names = options.variants or tuple(VARIANTS)
    for name in names:
        if name not in VARIANTS:
            raise PosecovError(f"--variants: {name!r} is none; there are {', '.join(VARIANTS)}")
    folder, setting = options.folder("pose"), prepare_setting(options)
    mean, results = fingerprint(setting.model), {}  # type: ignore[var-annotated]
    roots: dict[str, Any] = {}
    with progress(len(names) * len(options.seeds), "pose") as begin:
        for seed in options.seeds:
            for name in names:
                begin(f"{name}, seed {seed}")
                config = configure(setting.config, VARIANTS[name], seed, options)
                plain = config.to_dict() | {"data": None, "out": "", "threads": 0, "workers": 0}
                key = {"variant": name, "seed": seed, "mean": mean, "config": plain, "people": len(setting.test)}
                if options.people:
                    key["trained_on"] = options.people

                def compute(config: TrainConfig = config) -> dict[str, Any]:
                    return _one(config, setting, roots, folder)

                results.setdefault(name, {})[str(seed)] = run_cell(folder, key, compute)
    return results


def prepare_setting(options: PoseOptions) -> Setting:
    """The run's mean, and its people as the heads see them (cached in ``--out``)."""
    source = Path(options.run) / "last.safetensors"
    tensors, facts = load_checkpoint(source)
    if facts.get("part") == "mean" and not facts["finished"]:
        raise PosecovError(f"{source}: its mean is not finished; run tools/train.py again")
    config = TrainConfig.from_dict(facts["config"], str(source))
    # A mixture sees a little more of a person than a single law does: what is cached serves both.
    covariance = dataclasses.replace(
        config.covariance, views=options.views, mean_head=options.mean_head, phase1_epochs=0,
        phase2_epochs=1, phase2_loss="student-t-mixture", batch=options.batch, lr=options.lr, weight_decay=options.weight_decay,
    )  # fmt: skip
    data = dataclasses.replace(config.data, root=data_root_of(config, options.data_root))
    config = dataclasses.replace(config, covariance=covariance, data=data, threads=options.threads)
    device, skeleton = prepare(config), load_skeleton(config.skeleton)
    people = load_people(config)
    if options.quick:
        # A part of the run's own split: a limit on everybody would draw it anew, with people that the mean has seen.
        people = people._replace(covariance=people.covariance[:: max(1, len(people.covariance) // 600)])
    test = read_lsp(Path(config.data.root) / "lsp", "test")[: 200 if options.quick else None]
    model = build_model(config, skeleton)
    load_mean(model, part("average" if facts["part"] == "mean" else "model", tensors))
    cached = fewer(cache(Run(config, options.folder("pose")), model, skeleton, people, device), options.people)
    seen = extract_features(model, config, skeleton, test, 0, device)
    return Setting(config, model, skeleton, cached, test, seen)


def fewer(cached: Cached, count: int) -> Cached:
    """``count`` of the training people, evenly spread; all for 0. Raises PosecovError when there are not so many."""
    have = len(cached.views[0].labelled)
    if not 0 <= count <= have:
        raise PosecovError(f"--people: {count}, but there are {have}")
    if not count:
        return cached
    chosen = torch.linspace(0, have - 1, count).long()
    return dataclasses.replace(cached, views=[view.at(chosen) for view in cached.views])


def configure(config: TrainConfig, variant: Variant, seed: int, options: PoseOptions) -> TrainConfig:
    """The settings of one cell."""
    first, second = variant.losses
    both = (1, 1) if options.quick else (options.phase1_epochs, options.phase2_epochs)
    epochs = both if first and second else (sum(both), 0) if first else (0, sum(both))
    shares = (0.1, 0.05) if variant.taylor is True else variant.taylor or (0.0, 0.0)
    covariance = dataclasses.replace(
        config.covariance, phase1_loss=first or "wasserstein-procrustes", phase2_loss=second or "nll",
        phase1_epochs=epochs[0], phase2_epochs=epochs[1], start=variant.start, own_share=variant.own,
        gradient_share=shares[0], curvature_share=shares[1],
    )  # fmt: skip
    pseudo = dataclasses.replace(config.pseudo_labels, **variant.pseudo)
    model = dataclasses.replace(config.model, scatter=variant.scatter)
    return dataclasses.replace(config, seed=seed, covariance=covariance, pseudo_labels=pseudo, model=model)


def _one(config: TrainConfig, setting: Setting, roots: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one variant and judge it."""
    check(config)
    model = build_model(config, setting.skeleton)
    load_mean(model, setting.model.state_dict())
    own = None
    if any(loss_named(name).pseudo for name in config.covariance.losses):
        settings = repr(config.pseudo_labels)
        if settings not in roots:
            # The control's random neighbours are the same for all seeds.
            roots[settings] = make_pseudo_labels(setting.cached.views[0], config.pseudo_labels, 0)
        own = roots[settings]
    trained = Run(config, folder / "training")
    trained.folder.mkdir(parents=True, exist_ok=True)
    train_covariance(trained, model, dataclasses.replace(setting.cached, roots=own), None)
    best, facts = load_checkpoint(trained.best)
    model.load_state_dict(part("model", best))
    return judge(model.eval(), config, setting) | {"epoch": facts["epoch"], "validation_nll": facts["validation_nll"]}


def judge(model: PoseModel, config: TrainConfig, setting: Setting) -> dict[str, Any]:
    """Figures on the test people, in picture pixels.

    Returns:
        ``nll_people``, ``nll_calibrated_people``, ``tac_people`` and ``mse_people`` (means over a person's joints): (N,) lists
        for paired comparisons; their means ``nll``, ``nll_calibrated``, ``tac``; ``mse`` per coordinate; ``coverage`` after the
        same calibration on the validation people; ``rank_correlation``; shares of the trace.
    """
    mean, predicted = predict(model, setting.seen, config.covariance)
    values = setting.seen.values()
    # From crop pixels to picture pixels: NLL shifts by the log of the scale, TAC scales with it.
    scale = np.array([crop_map(r.box, config.model.input_size, config.model.padding).scale for r in setting.test])
    people = law_of(model, mean, predicted, config.covariance)
    calibrated = _calibrated(model, config, setting, mean, predicted)
    nll, then = (metrics.nll_per_person(each, values, 1.0 / scale) for each in (people, calibrated))
    tac = metrics.tac_errors(people, values) / scale[:, None]
    squared = np.square((values - mean) / scale[:, None])
    errors = np.sqrt(squared.reshape(len(squared), -1, 2).sum(-1))
    masses, sigmas = calibrated.mass(values), law.joint_sigma(people.covariance)
    return {
        "nll": float(nll.mean()),
        "tac": metrics.mean_error(tac),
        "mse": float(np.nanmean(squared)),
        "nll_calibrated": float(then.mean()),
        "coverage": {str(level): metrics.coverage(masses, level) for level in MASSES},
        "rank_correlation": metrics.rank_correlation(sigmas / scale[:, None], errors),
        "nll_people": [round(float(v), 4) for v in nll],
        "nll_calibrated_people": [round(float(v), 4) for v in then],
        "tac_people": [round(float(v), 4) for v in np.nanmean(tac, axis=1)],
        "mse_people": [round(float(v), 4) for v in np.nanmean(squared, axis=1)],
        **term_shares(predicted),
    }


def _calibrated(
    model: PoseModel, config: TrainConfig, setting: Setting, mean: np.ndarray, predicted: Covariance
) -> Law | Mixture:
    """The law of the test people with the constants that the validation people ask for."""
    validation = setting.cached.validation
    theirs, seen = predict(model, validation, config.covariance)
    people = law_of(model, theirs, seen, config.covariance)
    found = calibrate_law(people, validation.values())
    return calibrated_law(law_of(model, mean, predicted, config.covariance), found)
