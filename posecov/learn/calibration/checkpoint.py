"""A trained checkpoint to a calibrated one."""

import logging
import math
from pathlib import Path

import torch

from posecov.errors import PosecovError
from posecov.learn.calibration.adapt import Adapted, adapt
from posecov.learn.calibration.laws import calibrate_law
from posecov.learn.calibration.shared import ENOUGH, Calibration
from posecov.learn.checkpoint import flatten_state, save_checkpoint
from posecov.learn.export import load_model
from posecov.learn.features import extract_features
from posecov.learn.training import load_people, prepare
from posecov.learn.trouble import explained
from posecov.skeleton import load_skeleton

log = logging.getLogger(__name__)

VIEWS = 3
"""Augmented views of each validation person that the head learns on from, beside the plain one."""


@explained()
def calibrate_checkpoint(checkpoint: Path, out: Path, data_root: str, epochs: int = 100) -> tuple[Adapted, Calibration]:
    """Adapt a run's best checkpoint to the run's validation people (`adapt`), calibrate it on them, and write it.

    Of fewer than `ENOUGH` people nothing is learned: a common factor on all sigmas is fitted, with a warning.

    Args:
        epochs: at most so many of adapting; 0: calibrate the head as it is.

    Raises:
        PosecovError: not a trained checkpoint, calibrated already, the data is not there, or there is none.
    """
    if out.exists() and out.samefile(checkpoint):
        raise PosecovError(f"{out}: give the calibrated checkpoint another name; the run's own must stay")
    model, config, facts = load_model(checkpoint)
    if facts["part"] == "calibrated":
        raise PosecovError(f"{checkpoint}: calibrated already; calibrate the run's best.safetensors")
    device = prepare(config)
    skeleton, people = load_skeleton(config.skeleton), load_people(config, data_root).validation
    if few := len(people) < ENOUGH:
        log.warning(
            "%d validation people tell one factor on all sigmas and no more; for a calibration proper label %d, better a few "
            "hundred (data.validation_count)",
            len(people), ENOUGH,
        )  # fmt: skip
        epochs = 0
    views = [extract_features(model, config, skeleton, people, view, device) for view in range(VIEWS + 1 if epochs else 1)]
    model.to("cpu")
    adapted = adapt(model, views, config.covariance, torch.from_numpy(skeleton.flip_permutation), epochs, seed=config.seed)
    found = calibrate_law(adapted.people, views[0].values())
    head = adapted.model.covariance_head
    with torch.no_grad():
        if head.exchange is not None:
            head.exchange.temperature.fill_(found.temperature)
            head.exchange.shift.fill_(found.shift)
        head.calibration.copy_(torch.from_numpy(found.factor))
        head.shrinkage.fill_(found.shrinkage)
        if math.isfinite(found.degrees_of_freedom):
            head.log_degrees.fill_(math.log(found.degrees_of_freedom - 2.0))
    description = {
        "recipe": config.name.removeprefix("posecov-"),
        "data": list(config.data.datasets),
        "epochs": {
            "mean": config.mean.epochs,
            "wasserstein": config.covariance.phase1_epochs,
            "nll": config.covariance.phase2_epochs,
        },
        "calibrated": True,
        "calibrated_on": f"{len(people)} people of {config.data.held_from} that the mean has not learned from"
        + (", one factor on all sigmas" if few else ""),
        "adapted_epochs": adapted.epochs,
        "validation_nll": {"before": found.before, "after": found.after},
    }
    facts = facts | {"part": "calibrated", "description": description}
    save_checkpoint(out, flatten_state("model", adapted.model.state_dict()), facts)
    return adapted, found
