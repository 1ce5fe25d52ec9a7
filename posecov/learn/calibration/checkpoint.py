"""A trained checkpoint to a calibrated one."""

import math
from pathlib import Path

import torch

from posecov.errors import PosecovError
from posecov.learn.calibration.laws import calibrate_law
from posecov.learn.calibration.shared import Calibration
from posecov.learn.checkpoint import flatten_state, save_checkpoint
from posecov.learn.covariance_training import law_of, predict
from posecov.learn.export import load_model
from posecov.learn.features import extract_features
from posecov.learn.training import load_people, prepare
from posecov.skeleton import load_skeleton


def calibrate_checkpoint(checkpoint: Path, out: Path, data_root: str) -> Calibration:
    """Calibrate a run's best checkpoint on the run's validation people, and write the calibrated checkpoint.

    Raises:
        PosecovError: not a trained checkpoint, calibrated already, or the data is not there.
    """
    if out.exists() and out.samefile(checkpoint):
        raise PosecovError(f"{out}: give the calibrated checkpoint another name; the run's own must stay")
    model, config, facts = load_model(checkpoint)
    if facts["part"] == "calibrated":
        raise PosecovError(f"{checkpoint}: calibrated already; calibrate the run's best.safetensors")
    device = prepare(config)
    seen = extract_features(model, config, load_skeleton(config.skeleton), load_people(config, data_root).validation, 0, device)
    head = model.to("cpu").covariance_head
    mean, predicted = predict(model, seen, config.covariance)
    found = calibrate_law(law_of(model, mean, predicted, config.covariance), seen.values())
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
        "calibrated_on": f"{len(seen.labelled)} people of {config.data.validation_from} that only chose the epoch",
        "validation_nll": {"before": found.before, "after": found.after},
    }
    facts = facts | {"part": "calibrated", "description": description}
    save_checkpoint(out, flatten_state("model", model.state_dict()), facts)
    return found
