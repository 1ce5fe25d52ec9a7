"""The smallest run that has everything."""

from pathlib import Path

from posecov.learn.config import CovarianceConfig, DataConfig, MeanConfig, PseudoLabelConfig, TrainConfig
from posecov.learn.model import ModelConfig


def tiny_config(root: Path, out: Path) -> TrainConfig:
    """Seconds instead of hours: a toy backbone, 64 px, 40 people."""
    return TrainConfig(
        name="tiny",
        out=str(out),
        threads=1,
        device="cpu",
        data=DataConfig(root=str(root), datasets=("lsp", "lspet"), repeat=(1, 2), validation_count=60, limit=40),
        model=ModelConfig(
            backbone="test_efficientnet", pretrained=False, input_size=64, frozen_stages=-1, channels=16, latent=6, basis=4,
            hidden=16, rank=2,
        ),
        mean=MeanConfig(epochs=2, batch=16, warmup=2),
        pseudo_labels=PseudoLabelConfig(neighbours=20, dimensions=4),
        covariance=CovarianceConfig(views=1, phase1_epochs=1, phase2_epochs=2, batch=16, warmup=2),
    )  # fmt: skip
