"""The whole network: picture to mean and scatter."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from posecov.errors import PosecovError
from posecov.learn.backbone import STRIDES, build_backbone, channels_of, freeze_early_stages
from posecov.learn.covariance_head import Covariance, CovarianceHead, JointFeatures, joint_features
from posecov.learn.mean_head import MeanHead, MeanOutput


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        backbone: any timm name with features at strides 8, 16 and 32.
        pretrained: start from ImageNet weights.
        input_size: side of the square crop in pixels, a multiple of 32.
        padding: how much more than the person's box the crop shows.
        dropped_stages: so many stages are left out at the end of an EfficientNet, for a smaller and faster network.
        frozen_stages: the stem and this many stages of the backbone keep their weights; -1 trains all.
        channels: width of the decoder.
        latent: dimensions of the latent that steers the mean.
        basis: number of basis maps of the mean head.
        window: a joint's mean is the expected position within so many cells of the most likely one; 0: within the whole crop.
        hidden: width of the covariance head.
        rank: of the per-picture deviation from the learned correlation.
        scatter: form of the free covariance term: ``correlation`` (ours), ``factor``, ``precision`` or ``diagonal``.
    """

    backbone: str = "tf_efficientnet_lite0"
    pretrained: bool = True
    input_size: int = 160
    padding: float = 1.1
    dropped_stages: int = 0
    frozen_stages: int = 2
    channels: int = 96
    latent: int = 32
    basis: int = 12
    window: int = 2
    hidden: int = 64
    rank: int = 8
    scatter: str = "correlation"


class Features(NamedTuple):
    """What lies below the heads.

    Attributes:
        maps: (N, C, S/8, S/8) of the decoder.
        latent: (N, m), which steers the mean.
        pooled: (N, B) the backbone's last level, averaged over positions.
    """

    maps: Tensor
    latent: Tensor
    pooled: Tensor


class PoseModel(nn.Module):
    """Backbone, decoder, mean head and covariance head.

    Args:
        config: the network.
        joints: J.
        pretrained: overrides ``config.pretrained`` (False when weights are loaded from a checkpoint anyway).
        orders: (K, 2J) exchanges of left and right that the law is a mixture over (`build.build_model`); None for a single law.
    """

    def __init__(self, config: ModelConfig, joints: int, pretrained: bool | None = None, orders: np.ndarray | None = None):
        super().__init__()
        if config.input_size % STRIDES[-1]:
            raise PosecovError(f"model.input_size {config.input_size}: must be a multiple of {STRIDES[-1]}")
        self.config, self.joints = config, joints
        wanted = config.pretrained if pretrained is None else pretrained
        self.backbone = build_backbone(config.backbone, wanted, config.dropped_stages)
        freeze_early_stages(self.backbone, config.frozen_stages)
        channels = config.channels
        sizes = channels_of(self.backbone)
        self.lateral = nn.ModuleList([nn.Conv2d(size, channels, 1) for size in sizes])
        self.merge = nn.ModuleList([_separable(channels) for _ in STRIDES[:-1]])
        self.to_latent = nn.Linear(sizes[-1], config.latent)
        # Without this the latent's scale, and with it the meaning of k1 and k2, would be arbitrary.
        self.latent_norm = nn.LayerNorm(config.latent, elementwise_affine=False)
        self.mean_head = MeanHead(channels, joints, config.basis, config.latent, config.input_size, STRIDES[0], config.window)
        self.covariance_head = CovarianceHead(
            channels, joints, config.latent, config.hidden, config.rank, config.scatter, orders
        )

    def train(self, mode: bool = True) -> "PoseModel":
        """As nn.Module's, but frozen stages stay as they are."""
        super().train(mode)
        freeze_early_stages(self.backbone, self.config.frozen_stages)
        return self

    def features(self, images: Tensor) -> Features:
        """What lies below the heads, of normalised crops (N, 3, S, S)."""
        levels = self.backbone(images)
        pooled = levels[-1].mean(dim=(2, 3))
        latent = self.latent_norm(self.to_latent(pooled))
        top = self.lateral[-1](levels[-1])
        for index in range(len(levels) - 2, -1, -1):
            top = nn.functional.interpolate(top, scale_factor=2.0, mode="nearest")
            top = self.merge[index](top + self.lateral[index](levels[index]))
        return Features(top, latent, pooled)

    def mean(self, images: Tensor) -> MeanOutput:
        """Means only, for training the mean."""
        below = self.features(images)
        return self.mean_head(below.maps, below.latent)

    def look(self, maps: Tensor, latent: Tensor, taylor: bool = True) -> JointFeatures:
        """What the covariance head sees of feature maps and a latent; only its mean carries a gradient.

        Args:
            maps: (N, C, S/8, S/8). latent: (N, m).
            taylor: False leaves the Taylor terms at zero, at no cost.
        """
        output = self.mean_head(maps, latent)
        exchange = self.covariance_head.exchange
        mirror = None if exchange is None else exchange.mirror
        return joint_features(maps, latent, output, self.mean_head, taylor, mirror)._replace(mean=output.mean)

    def forward(self, images: Tensor) -> tuple[Tensor, Covariance]:
        """Normalised crops (N, 3, S, S) to means (N, 2J) and covariance terms, crop pixels."""
        below = self.features(images)
        seen = self.look(below.maps, below.latent)
        return seen.mean, self.covariance_head(seen)


def normalise(crops: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Crops (N, S, S, 3) uint8 BGR to network input (N, 3, S, S) float32 RGB, channels last in memory."""
    images = crops.flip(-1).permute(0, 3, 1, 2).float()
    shape, device = (1, 3, 1, 1), images.device
    return (images - torch.tensor(mean, device=device).view(shape)) / torch.tensor(std, device=device).view(shape)


def mean_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's weights without its covariance head, which this part does not touch."""
    return {name: value for name, value in state.items() if not name.startswith("covariance_head.")}


def load_mean(model: PoseModel, state: dict[str, Tensor]) -> None:
    """Load `mean_weights`; the covariance head stays as it is."""
    head = {f"covariance_head.{name}": value for name, value in model.covariance_head.state_dict().items()}
    model.load_state_dict(mean_weights(state) | head)


def _separable(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
