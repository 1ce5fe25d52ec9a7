"""A whole run: data, mean, pseudo-labels, covariance; resumed where it was stopped."""

import hashlib
import logging
import os

import cv2
import torch

from posecov.errors import PosecovError
from posecov.learn.checkpoint import flatten_state, load_checkpoint, part, save_checkpoint
from posecov.learn.config import TrainConfig
from posecov.learn.covariance_training import Cached, make_pseudo_labels, train_covariance
from posecov.learn.datasets import Record, read_datasets, split_validation
from posecov.learn.features import Seen, from_tensors, see, to_tensors
from posecov.learn.mean_training import load_mean, mean_weights, train_mean
from posecov.learn.model import PoseModel
from posecov.learn.run import Run
from posecov.skeleton import Skeleton, load_skeleton

log = logging.getLogger(__name__)


def prepare(config: TrainConfig) -> torch.device:
    """Seeds, threads and device."""
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    cv2.setNumThreads(1)
    # Gaussian targets and sharp softmaxes are full of denormal numbers, which a CPU multiplies slowly.
    torch.set_flush_denormal(True)
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def data_root_of(config: TrainConfig, root: str = "") -> str:
    """The folder that holds the data sets: ``root``, the configuration's, or POSECOV_DATA.

    Raises:
        PosecovError: none of them is set.
    """
    root = root or config.data.root or os.environ.get("POSECOV_DATA", "")
    if not root:
        raise PosecovError("no data: give a data root or set POSECOV_DATA; it holds one folder per data set (lsp, lspet)")
    return root


def load_people(config: TrainConfig, root: str = "") -> tuple[list[Record], list[Record]]:
    """Training and validation people, from the folder that `data_root_of` names.

    Raises:
        PosecovError: the data is not there.
    """
    root = data_root_of(config, root)
    records = read_datasets(config.data.datasets, root)
    train, validation = split_validation(records, config.data.validation_from + "/", config.data.validation_count, config.seed)
    if config.data.limit:
        keep = torch.linspace(0, len(train) - 1, min(config.data.limit, len(train))).long().tolist()
        train = [train[i] for i in keep]
    return train, validation


def train(config: TrainConfig) -> Run:
    """Train, or go on where the run in the same folder was stopped.

    Raises:
        PosecovError: data, settings or folder are not what they should be.
    """
    device = prepare(config)
    skeleton = load_skeleton(config.skeleton)
    if len(config.data.repeat) != len(config.data.datasets):
        raise PosecovError("data.repeat needs one number for each of data.datasets")
    people, validation = load_people(config)
    run = Run.open(config)
    resumed = load_checkpoint(run.last) if run.last.exists() else None
    log.info("%d people to train on, %d to validate; run in %s", len(people), len(validation), run.folder)
    if resumed is not None:
        run.history = resumed[1]["history"]
        log.info("resuming from %s: part %s, epoch %d", run.last, resumed[1]["part"], resumed[1]["epoch"] + 1)

    model = PoseModel(config.model, len(skeleton), pretrained=config.model.pretrained and resumed is None)
    if resumed is None or (resumed[1]["part"] == "mean" and not resumed[1]["finished"]):
        train_mean(run, model, skeleton, people, validation, resumed, device)
        resumed = None
    elif resumed[1]["part"] == "mean":
        load_mean(model, part("average", resumed[0]))
        resumed = None
    else:
        model.load_state_dict(part("model", resumed[0]))
    wanted = config.covariance.wasserstein_epochs + config.covariance.nll_epochs
    if wanted and (resumed is None or not resumed[1]["finished"]):
        train_covariance(run, model, cache(run, model, skeleton, people, validation, device), resumed)
    return run


def cache(
    run: Run, model: PoseModel, skeleton: Skeleton, people: list[Record], validation: list[Record], device: torch.device
) -> Cached:
    """What the covariance head sees, from the run's folder where it was computed before."""
    config, path = run.config, run.folder / "features.safetensors"
    key = {"weights": _fingerprint(model), "people": len(people), "views": config.covariance.views}
    groups: list[Seen] = []
    if path.exists():
        try:
            tensors, facts = load_checkpoint(path)
        except PosecovError:
            tensors, facts = {}, {}
        if facts.get("key") == key:
            groups = [from_tensors(part(f"group{i}", tensors)) for i in range(config.covariance.views + 2)]
    if not groups:
        groups = [see(model, config, skeleton, validation, 0, device)]
        groups += [see(model, config, skeleton, people, view, device) for view in range(config.covariance.views + 1)]
        tensors = {
            name: value for i, seen in enumerate(groups) for name, value in flatten_state(f"group{i}", to_tensors(seen)).items()
        }
        save_checkpoint(path, tensors, {"key": key})
    roots = None
    if config.covariance.wasserstein_epochs:
        roots = make_pseudo_labels(groups[1], config.pseudo_labels, config.seed)
    return Cached(groups[1:], groups[0], roots, torch.from_numpy(skeleton.flip_permutation))


def _fingerprint(model: PoseModel) -> str:
    """Tells one set of mean weights from another."""
    digest = hashlib.sha256()
    for value in mean_weights(model.state_dict()).values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
