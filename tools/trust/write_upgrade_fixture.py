"""Write what a release writes, for tests that later releases still read it: run it with the release's own tree.

    git archive COMMIT | tar x -C /tmp/release
    PYTHONPATH=/tmp/release python tools/trust/write_upgrade_fixture.py tests/fixtures/NAME

A toy network with coarsely rounded weights, so that xz makes tens of kB of it, saved and exported by that release's code:
checkpoint.safetensors.xz, model.onnx.xz, and numbers.npz with crops and what that release's torch made of them.
"""

import contextlib
import lzma
import math
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Write the three files."""
    import torch

    from posecov.learn import checkpoint, export
    from posecov.learn.config import TrainConfig
    from posecov.learn.model import ModelConfig, PoseModel, normalise

    # Keywords that every release has.
    network = ModelConfig(
        backbone="test_efficientnet", pretrained=False, input_size=64, frozen_stages=-1, channels=8, latent=4, basis=2,
        hidden=8, rank=2,
    )  # fmt: skip
    config = TrainConfig(name="posecov-toy", threads=1, device="cpu", model=network)
    torch.manual_seed(0)
    try:
        from posecov.learn.build import build_model
        from posecov.skeleton import load_skeleton

        model = build_model(config, load_skeleton("lsp14"))
    except ImportError:
        model = PoseModel(network, 14, pretrained=False)
    state = model.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = _coarse(name, value)
    model.load_state_dict(state)
    model.eval()
    crops = np.stack([crop(number) for number in range(2)])
    exported = export.Exported(model, export.degrees_of_freedom(model, config)).eval()
    with torch.inference_mode():
        found = exported(normalise(torch.from_numpy(crops), *export.normalisation(network.backbone)))
    names = ("keypoints", "covariance", "scatter", "weights")
    numbers = {name: value.numpy() for name, value in zip(names, found, strict=False)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "checkpoint.safetensors"
    facts = {"part": "calibrated", "epoch": 1, "finished": True, "config": config.to_dict(), "history": []}
    checkpoint.save_checkpoint(path, checkpoint.flatten_state("model", model.state_dict()), facts)
    _pack(path, path.read_bytes())
    path.unlink()
    _pack(folder / "model.onnx", export.to_onnx(model, config, {"calibrated": True}))
    degrees = export.degrees_of_freedom(model, config)
    np.savez_compressed(folder / "numbers.npz", crops=crops, degrees_of_freedom=degrees, **numbers)


def crop(number: int) -> np.ndarray:
    """(64, 64, 3) uint8 BGR: waves."""
    y, x = np.mgrid[:64, :64] / 64
    waves = [np.sin(2 * math.pi * (x * (2 + c) + y * (1 + number)) + c) for c in range(3)]
    return np.round(127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def _coarse(name: str, value):  # type: ignore[no-untyped-def]
    """Weights of a few values; what training would have moved from where it starts is moved."""
    import torch

    moved = value
    if name.startswith("covariance_head.") and value.numel() > 1 and "root" not in name and "feature" not in name:
        moved = value + 0.2 * torch.randn(value.shape)
    if name.endswith(("calibration", "start_sigma")):
        moved = value * torch.linspace(0.7, 1.3, value.numel())
    for end, scalar in (("shrinkage", 0.1), ("temperature", 1.5), ("shift", -0.25), ("log_degrees", 1.5)):
        if name.endswith(end):
            moved = torch.full_like(value, scalar)
    if value.numel() == 1 or moved.std() == 0:
        return moved
    step = 2.0 ** torch.floor(torch.log2(moved.std()))
    return (moved / step).round().clamp(-3, 3) * step if name.startswith("backbone.") else (moved * 64).round() / 64


def _pack(path: Path, content: bytes) -> None:
    path.with_name(path.name + ".xz").write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    with contextlib.suppress(ImportError):  # The first releases had no such thing.
        from posecov.commands.terminal import needs_training_packages

        needs_training_packages("write_upgrade_fixture")
    main(Path(sys.argv[1]))
