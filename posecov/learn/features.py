"""What the covariance head sees, computed once per person and view with the trained mean frozen, and cached."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posecov.learn import processes
from posecov.learn.backbone import normalisation
from posecov.learn.config import TrainConfig
from posecov.learn.covariance_head import STATISTICS, JointFeatures
from posecov.learn.datasets import Record
from posecov.learn.model import PoseModel, normalise
from posecov.learn.run import Clock, progress
from posecov.learn.samples import CropDataset, batches
from posecov.learn.trouble import explained
from posecov.skeleton import Skeleton

# Augmentation draws from (seed, epoch, index); cached views must not repeat an epoch of the mean's training.
_FIRST_VIEW_EPOCH = 100_000

_REST = ("points", "labelled", "linear", "mirrored", "maps", "pooled", "pixels")
_THUMBNAIL = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSet:
    """N people as the covariance head sees them, and their labels.

    Attributes:
        features: see `JointFeatures`; float32.
        points: (N, J, 2) crop pixels, 0 without a label.
        labelled: (N, J) bool.
        linear: (N, 2, 2), mirrored: (N,): how this crop lies relative to the plain crop; see `samples.Batch`.
        maps: (N, C, h, w) float16, the feature maps below the mean head; empty, (N, 0), unless the mean head is to learn on.
        pooled: (N, B) the backbone's last level, averaged over positions.
        pixels: (N, 256) the crop in grey, 16 x 16.
    """

    features: JointFeatures
    points: Tensor
    labelled: Tensor
    linear: Tensor
    mirrored: Tensor
    maps: Tensor
    pooled: Tensor
    pixels: Tensor

    def residuals(self, mean: np.ndarray | None = None) -> np.ndarray:
        """(N, 2J) float64 label minus mean (the cached one, or (N, 2J) of another), NaN without a label."""
        means = self.features.mean if mean is None else torch.from_numpy(mean)
        difference = self.points.double() - means.unflatten(1, (-1, 2)).double()
        difference[~self.labelled] = torch.nan
        return difference.flatten(1).numpy()

    def values(self) -> np.ndarray:
        """(N, 2J) float64 labels, NaN where there is none."""
        return torch.where(self.labelled.unsqueeze(-1), self.points.double(), torch.nan).flatten(1).numpy()

    def space(self, name: str) -> np.ndarray:
        """(N, M) features to search neighbours in; `config.PseudoLabelConfig` explains the names."""
        joints = self.features.joints
        spaces = {"latent": self.features.latent, "backbone": self.pooled, "joints": joints, "input": self.pixels}
        if name == "heatmaps":
            # Their units are arbitrary: logarithms, nats, half crops.
            shape = joints[..., -STATISTICS:].flatten(1).double()
            return ((shape - shape.mean(0)) / shape.std(0).clamp_min(1e-9)).numpy()
        return spaces[name].flatten(1).numpy()

    def at(self, index: Tensor) -> "FeatureSet":
        """Some of the people."""
        features = JointFeatures(*(tensor[index] for tensor in self.features))
        return FeatureSet(features, *(getattr(self, name)[index] for name in _REST))


@explained()
def extract_features(
    model: PoseModel, config: TrainConfig, skeleton: Skeleton, records: Sequence[Record], view: int, device: torch.device
) -> FeatureSet:
    """Run the frozen network over all records; processes share them, and the main one gets all, the others their own.

    Args:
        config: with a mean head that learns on, the feature maps are kept too: C h w half floats a person.
        view: 0 for the plain crop, else the number of an augmented one.
    """
    model.to(device).to(memory_format=torch.channels_last).eval()
    augment, keep = config.augment if view else None, config.covariance.mean_head != "frozen"
    size, padding = config.model.input_size, config.model.padding
    dataset = CropDataset(records, skeleton, size, padding, augment, config.seed, _FIRST_VIEW_EPOCH + view)
    pixel = normalisation(config.model.backbone)
    clock, parts, own = Clock(1e9), [], processes.own_range(len(records))
    with torch.inference_mode(), progress() as bar:
        task = bar.add_task(f"features, view {view}", total=len(own), status="")
        for batch in batches(dataset, own, 50, config.workers):
            images = normalise(batch.crops.to(device), *pixel).contiguous(memory_format=torch.channels_last)
            below = model.features(images)
            features = JointFeatures(*(tensor.cpu() for tensor in model.look(below.maps, below.latent)))
            maps = below.maps.half().cpu().contiguous() if keep else batch.points.new_zeros(len(batch.crops), 0).half()
            grey = batch.crops.float().mean(-1, keepdim=True).permute(0, 3, 1, 2)
            pixels = torch.nn.functional.adaptive_avg_pool2d(grey, _THUMBNAIL).flatten(1)
            rest = (batch.points, batch.labelled, batch.linear, batch.mirrored, maps, below.pooled.cpu(), pixels)
            parts.append(FeatureSet(features, *rest))
            bar.update(task, advance=len(batch.crops), status=f"{clock.count(len(batch.crops)):.0f} images/s")
    mine = to_tensors(concatenate(parts))
    return from_tensors({name: processes.collect(tensor, len(records)) for name, tensor in mine.items()})


def concatenate(parts: Sequence[FeatureSet]) -> FeatureSet:
    """Several groups of people as one."""
    features = JointFeatures(*(torch.cat(tensors).clone() for tensors in zip(*(p.features for p in parts), strict=True)))
    rest = [torch.cat([getattr(p, name) for p in parts]).clone() for name in _REST]
    return FeatureSet(features, *rest)


def to_tensors(seen: FeatureSet) -> dict[str, Tensor]:
    """Flat names to tensors, for the cache file."""
    return {f"features.{k}": v for k, v in seen.features._asdict().items()} | {n: getattr(seen, n) for n in _REST}


def from_tensors(tensors: dict[str, Tensor]) -> FeatureSet:
    """The inverse of `to_tensors`."""
    features = JointFeatures(*(tensors[f"features.{name}"] for name in JointFeatures._fields))
    return FeatureSet(features, *(tensors[name] for name in _REST))


def follow(root: Tensor, linear: Tensor, mirrored: Tensor, permutation: Tensor) -> Tensor:
    """Roots of pseudo-labels of plain crops, carried into augmented crops: (R S R^T)^1/2 = R S^1/2 R^T / scale.

    Args:
        root: (N, 2J, 2J) symmetric.
        linear: (N, 2, 2) scale times orthogonal.
        mirrored: (N,) bool: left and right joints change places too.
        permutation: (J,) the skeleton's flip permutation.
    """
    joints = root.shape[-1] // 2
    scale = torch.linalg.det(linear).abs().sqrt()
    blocks = root.unflatten(2, (joints, 2)).unflatten(1, (joints, 2))
    mapped = torch.einsum("nab,nibjc,ndc->niajd", linear, blocks, linear) / scale[:, None, None, None, None]
    swapped = mapped[:, permutation][:, :, :, permutation]
    mapped = torch.where(mirrored[:, None, None, None, None], swapped, mapped)
    return mapped.flatten(3, 4).flatten(1, 2)
