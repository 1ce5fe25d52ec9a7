"""A whole run: data, mean, pseudo-labels, covariance; resumed where it was stopped."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from torch import Tensor

from posecov.errors import PosecovError
from posecov.files import write_atomic
from posecov.learn import processes
from posecov.learn.build import build_model
from posecov.learn.checkpoint import flatten_state, load_checkpoint, part, save_checkpoint
from posecov.learn.config import TrainConfig, check
from posecov.learn.covariance_training import Cached, make_pseudo_labels, train_covariance
from posecov.learn.datasets import (
    NAMED,
    Problems,
    Record,
    pick,
    read_datasets,
    split_share,
    split_validation,
    without_pictures_of,
)
from posecov.learn.datasets.record import joints_of
from posecov.learn.features import FeatureSet, extract_features, from_tensors, to_tensors
from posecov.learn.losses import loss_named
from posecov.learn.mean_training import train_mean
from posecov.learn.model import PoseModel, load_mean, mean_weights
from posecov.learn.run import FREE, Run, check_same_settings, of_this_recipe, settings_by_name
from posecov.learn.trouble import explained
from posecov.skeleton import Skeleton, load_skeleton

log = logging.getLogger(__name__)


def prepare(config: TrainConfig, device: str = "auto") -> torch.device:
    """Seeds, threads and device. Raises PosecovError when the device is not there."""
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    # Gaussian targets and sharp softmaxes are full of denormal numbers, which a CPU multiplies slowly.
    torch.set_flush_denormal(True)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PosecovError(f"device {device!r}: not to be had here ({str(error).splitlines()[0][:120]}); use auto") from None
    return torch.device(device)


def data_root_of(config: TrainConfig, root: str = "") -> str:
    """The folder that holds the data sets: ``root``, else POSECOV_DATA, else what the configuration remembers.

    Raises:
        PosecovError: none of them is set, though a data set lies there.
    """
    root = root or os.environ.get("POSECOV_DATA", "") or config.data.root
    if not root and any(entry in NAMED for entry in (*config.data.datasets, config.data.held_from)):
        raise PosecovError("no data: give a data root or set POSECOV_DATA; it holds one folder per data set (lsp, lspet)")
    return root


class People(NamedTuple):
    """Who is learned from, and who is not.

    Attributes:
        mean: people that the mean learns from.
        covariance: people that the covariance learns from; the same, unless ``data.mean_share`` is below 1.
        validation: people that train nothing.
        skipped: annotations that were left out as bad, a line each.
    """

    mean: list[Record]
    covariance: list[Record]
    validation: list[Record]
    skipped: tuple[str, ...] = ()


def load_people(config: TrainConfig, root: str = "") -> People:
    """Training and validation people, from the folder that `data_root_of` names.

    Raises:
        PosecovError: the data is not there, holds what is wrong (unless ``data.skip_bad``), or labels some joint nowhere.
    """
    root, data = data_root_of(config, root), config.data
    skeleton, problems = load_skeleton(config.skeleton), Problems()
    apart = data.held_from not in data.datasets
    held = read_datasets([data.held_from], root, skeleton, problems) if apart else []
    records = read_datasets(data.datasets, root, skeleton, problems)
    problems.settle(data.skip_bad)
    if apart:
        # All its pictures are kept out: MPII's whole file has those of its validation part too.
        train, validation = without_pictures_of(records, held), pick(held, data.validation_count, config.seed)
    else:
        train, validation = split_validation(records, data.held_from + "/", data.validation_count, config.seed)
    if data.limit:
        keep = torch.linspace(0, len(train) - 1, min(data.limit, len(train))).long().tolist()
        train = [train[i] for i in keep]
    for part_of, people in (("training", train), ("validation", validation)):
        _check_joints(people, skeleton, part_of)
    return People(*split_share(train, data.mean_share, config.seed), validation, tuple(problems.lines))


def _check_joints(people: list[Record], skeleton: Skeleton, part_of: str) -> None:
    """Nothing can be learned or said about a joint without labels."""
    if not people:
        raise PosecovError(f"data: nobody is left for {part_of}")
    more = "label more" if part_of == "training" else "hold more people out (data.validation_count)"
    missing = [joint for joint, count in zip(skeleton.keypoints, joints_of(people), strict=True) if not count]
    if missing:
        raise PosecovError(
            f"data: nobody in the {part_of} part has joint {', '.join(missing)} of skeleton {skeleton.name} labelled; "
            f"{more}, take a skeleton without it, or another data set with it"
        )


def train(config: TrainConfig) -> Run:
    """Train, or go on where the run in the same folder was stopped.

    Where `torchrun` started several processes, they do it together: the main one alone writes, and trains the covariance, which
    is small; the others leave before.

    Raises:
        PosecovError: data, settings or folder are not what they should be.
    """
    try:
        processes.meet()
        return _train(config)
    except BaseException as error:
        told = processes.tell(error)
        if told is error:
            raise
        raise told from None


@explained()
def _train(config: TrainConfig) -> Run:
    check(config)
    device = prepare(config, processes.local_device(config.device))
    processes.join(str(device))
    if config.mean.batch < 2 * config.mean.accumulate * processes.count():
        raise PosecovError(
            f"setting mean.batch: {config.mean.batch} people are fewer than two for each of {processes.count()} processes "
            f"times mean.accumulate {config.mean.accumulate}"
        )
    skeleton = load_skeleton(config.skeleton)
    people = load_people(config, config.data.root)
    bound = {name: value for name, value in settings_by_name(config.to_dict()).items() if name not in FREE}
    processes.insist_on_same("settings", json.dumps(bound))
    processes.insist_on_same("people", _names([*people.mean, *people.covariance, *people.validation]))
    run = Run.open(config)
    if people.skipped and processes.is_main():
        write_atomic(run.folder / "skipped.txt", "".join(f"{line}\n" for line in people.skipped).encode())
        log.warning("all %d are listed in %s", len(people.skipped), run.folder / "skipped.txt")
    # The others may be on machines that do not see the folder.
    resumed = processes.from_main(_resume(run) if processes.is_main() else None)
    log.info(
        "%d people to train the mean on, %d the covariance, %d to validate; run in %s",
        len(people.mean), len(people.covariance), len(people.validation), run.folder,
    )  # fmt: skip
    if resumed is not None:
        run.history = resumed[1]["history"]
        log.info("resuming from %s: part %s, epoch %d", run.last, resumed[1]["part"], resumed[1]["epoch"] + 1)

    fresh = resumed is None and not config.start_from
    model = build_model(config, skeleton, pretrained=config.model.pretrained and fresh)
    if resumed is None and config.start_from and processes.is_main():
        start_from(model, Path(config.start_from), config.start_part)
    # As training has it: memory in another order adds up in another order, and a resumed run must not.
    model.to(device).to(memory_format=torch.channels_last)
    processes.tensors_from_main(model.state_dict().values())
    mean = None
    if resumed is None or (resumed[1]["part"] == "mean" and not resumed[1]["finished"]):
        train_mean(run, model, skeleton, people.mean, people.validation, resumed, device)
        resumed = None
    elif resumed[1]["part"] == "mean":
        with of_this_recipe(run.last):
            load_mean(model, part("average", resumed[0]))
        resumed = None
    else:
        with of_this_recipe(run.last):
            model.load_state_dict(part("model", resumed[0]))
        mean = resumed[1].get("mean")
    wanted = config.covariance.phase1_epochs + config.covariance.phase2_epochs
    if wanted and (resumed is None or not resumed[1]["finished"]):
        key, groups = _features(run, model, skeleton, people, device, mean)
        alone = processes.is_main()
        processes.leave()
        if alone:
            train_covariance(run, model, _cached(run, skeleton, key, groups), resumed)
    else:
        processes.leave()
    return run


def _resume(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The run's last checkpoint, if it has one. Raises PosecovError when it is damaged or of another recipe."""
    if not run.last.exists():
        return None
    tensors, facts = load_checkpoint(run.last)
    if "config" in facts:
        check_same_settings(run.last, TrainConfig.from_dict(facts["config"], str(run.last)), run.config)
    return tensors, facts


def start_from(model: PoseModel, path: Path, wanted: str = "mean") -> None:
    """Load the averaged mean of another run's checkpoint; the input size may differ.

    Args:
        wanted: ``mean``, or ``backbone`` for that part of it alone, of which this network may have fewer stages.

    Raises:
        PosecovError: no checkpoint, or one of another network, which is named.
    """
    tensors, facts = load_checkpoint(path)
    there = facts.get("config", {}).get("model", {})
    whole = wanted == "mean"
    what = f"not the {wanted} of such a network"
    for name in _OF_THE_MEAN if whole else _OF_THE_BACKBONE:
        here = getattr(model.config, name)
        if there.get(name, here) != here:
            raise PosecovError(f"{path}: {what}: its model.{name} is {there[name]!r}, here {here!r}")
    try:
        state = part("average" if facts["part"] == "mean" else "model", tensors)
        if whole:
            joints = len(state["mean_head.steering"])
            if joints != model.joints:
                raise PosecovError(f"{path}: {what}: its skeleton has {joints} joints, here {model.joints}")
            load_mean(model, state)
        else:
            model.backbone.load_state_dict({name: state[f"backbone.{name}"] for name in model.backbone.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise PosecovError(f"{path}: {what} ({str(error).splitlines()[0][:120]})") from None


# Settings of the network that the weights of the mean depend on.
_OF_THE_BACKBONE = ("backbone",)
_OF_THE_MEAN = (*_OF_THE_BACKBONE, "dropped_stages", "channels", "latent", "basis")


def cache(run: Run, model: PoseModel, skeleton: Skeleton, people: People, device: torch.device) -> Cached:
    """What the covariance head sees, from the run's folder where it was computed before."""
    return _cached(run, skeleton, *_features(run, model, skeleton, people, device, None))


def _cached(run: Run, skeleton: Skeleton, key: dict[str, Any], groups: Sequence[FeatureSet]) -> Cached:
    roots = None
    if any(loss_named(name).pseudo for name in run.config.covariance.losses):
        roots = _cached_roots(run, groups[1], key)
    return Cached(groups[1:], groups[0], roots, torch.from_numpy(skeleton.flip_permutation), key["weights"])


def _features(
    run: Run, model: PoseModel, skeleton: Skeleton, people: People, device: torch.device, mean: str | None
) -> tuple[dict[str, Any], list[FeatureSet]]:
    """What tells these features from others, and the features: of validation people, then of every view of training people.

    All processes compute them; the main one has them in the end, and keeps them in the run's folder.

    Args:
        mean: `fingerprint` of the mean that they are of, where the model's mean head has learned on since; None: the model's.

    Raises:
        PosecovError: they would have to be computed again, but that mean is gone.
    """
    config, path = run.config, run.folder / "features.safetensors"
    key: dict[str, Any] = {
        "weights": mean or fingerprint(model),
        "people": _names(people.covariance),
        "validation": _names(people.validation),
    }
    key |= {"views": config.covariance.views, "seed": config.seed, "augment": dataclasses.asdict(config.augment)}
    key |= {"maps": config.covariance.mean_head != "frozen", "mirror": config.covariance.mixture}
    groups: list[FeatureSet] = []
    if processes.is_main() and path.exists():
        try:
            tensors, facts = load_checkpoint(path)
        except PosecovError as error:
            log.warning("%s; computed again", error)
            tensors, facts = {}, {}
        # What was kept with the feature maps serves a frozen mean head as well.
        if facts.get("key") in (key, key | {"maps": True}):
            groups = [from_tensors(part(f"group{i}", tensors)) for i in range(config.covariance.views + 2)]
    if processes.from_main(bool(groups)):
        return key, groups
    if mean is not None and mean != fingerprint(model):
        raise PosecovError(
            f"{path}: gone or damaged, and the mean that it was of has learned on; start anew with another --out"
        )
    groups = [extract_features(model, config, skeleton, people.validation, 0, device)]
    groups += [
        extract_features(model, config, skeleton, people.covariance, view, device)
        for view in range(config.covariance.views + 1)
    ]
    if processes.is_main():
        tensors = {
            name: value for i, seen in enumerate(groups) for name, value in flatten_state(f"group{i}", to_tensors(seen)).items()
        }
        save_checkpoint(path, tensors, {"key": key})
    return key, groups


def _cached_roots(run: Run, plain: FeatureSet, features: dict[str, Any]) -> Tensor:
    """Roots of the pseudo-labels, from the run's folder where they were computed before."""
    settings, path = run.config.pseudo_labels, run.folder / "pseudo_labels.safetensors"
    key = features | {"settings": dataclasses.asdict(settings)}
    if path.exists():
        try:
            tensors, facts = load_checkpoint(path)
            if facts.get("key") == key:
                return tensors["roots"]
        except PosecovError:
            log.warning("%s: cannot be read; computed again", path)
    roots = make_pseudo_labels(plain, settings, run.config.seed)
    save_checkpoint(path, {"roots": roots}, {"key": key})
    return roots


def _names(people: list[Record]) -> str:
    return hashlib.sha256("\n".join(record.name for record in people).encode()).hexdigest()


def fingerprint(model: PoseModel) -> str:
    """Tells one trained mean from another."""
    digest = hashlib.sha256()
    for value in mean_weights(model.state_dict()).values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
