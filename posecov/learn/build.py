"""The network that a recipe asks for."""

from posecov.exchanges import coordinate_orders, exchanges_of
from posecov.learn.config import TrainConfig
from posecov.learn.model import PoseModel
from posecov.skeleton import Skeleton


def build_model(config: TrainConfig, skeleton: Skeleton, pretrained: bool = False) -> PoseModel:
    """The network, with weights of exchanges where the recipe's law is a mixture over them.

    Args:
        config: the recipe.
        skeleton: its joints, and from its flip pairs and limbs the exchanges.
        pretrained: start from ImageNet weights.
    """
    orders = coordinate_orders(exchanges_of(skeleton)) if config.covariance.mixture else None
    return PoseModel(config.model, len(skeleton), pretrained, orders)
