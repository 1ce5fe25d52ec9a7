"""Residual multilayer perceptrons, several independent ones trained as one stacked network.

The regression network of TIC-TAC (arXiv 2310.18953) and ToSS (arXiv 2502.10587): a linear layer to `width`, residual blocks
Linear-ELU-Linear-BatchNorm-ELU, a linear layer to the outputs. The papers take five blocks and width D^2 + 2.

Members share nothing but the operations: on a CPU the small networks of an experiment spend most of their time between
operations, so that several seeds cost little more than one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from posecov.errors import PosecovError


class StackedLinear(nn.Module):
    """One linear layer per member: x (M, N, inputs) -> (M, N, outputs).

    The weights are (M, inputs, outputs): transposed ones would have their gradients copied into that order at every step,
    which costs as much as the products.

    Args:
        inputs: columns of x.
        outputs: columns of the result.
        generators: one per member; weights and offsets are drawn uniformly within 1 / sqrt(inputs).
    """

    def __init__(self, inputs: int, outputs: int, generators: Sequence[torch.Generator]):
        super().__init__()
        bound = max(inputs, 1) ** -0.5

        def draw(*shape: int) -> nn.Parameter:
            drawn = [torch.rand(shape, generator=generator) * (2 * bound) - bound for generator in generators]
            return nn.Parameter(torch.stack(drawn))

        self.weight = draw(inputs, outputs)
        self.bias = draw(1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """One fused product and sum per call, whatever M."""
        return torch.baddbmm(self.bias, x, self.weight)


class StackedBatchNorm(nn.Module):
    """BatchNorm with statistics, scale and shift of each member: x (M, N, width) -> the same shape.

    Args:
        members: M.
        width: columns of x.
        epsilon: added to the variance.
        momentum: share of the newest batch in the running statistics.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, members: int, width: int, epsilon: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.epsilon, self.momentum = epsilon, momentum
        self.weight = nn.Parameter(torch.ones(members, width))
        self.bias = nn.Parameter(torch.zeros(members, width))
        self.register_buffer("running_mean", torch.zeros(members, width))
        self.register_buffer("running_variance", torch.ones(members, width))

    def affine(self) -> tuple[Tensor, Tensor]:
        """What evaluation mode amounts to: scale and shift, both (M, width)."""
        scale = self.weight * (self.running_variance + self.epsilon).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Batch statistics in training mode, running ones in evaluation mode. Raises PosecovError for a batch of one."""
        if not self.training:
            scale, shift = self.affine()
            return torch.addcmul(shift.unsqueeze(1), x, scale.unsqueeze(1))
        members, count, width = x.shape
        if count < 2:
            raise PosecovError("ResidualMLP: a batch of one sample has no statistics to train with; drop it or enlarge it")
        # The kernel knows columns, not members: the members become further columns, a free view for one of them.
        columns = x.transpose(0, 1).reshape(count, members * width)
        normed = functional.batch_norm(
            columns,
            self.running_mean.view(-1),
            self.running_variance.view(-1),
            self.weight.view(-1),
            self.bias.view(-1),
            training=True,
            momentum=self.momentum,
            eps=self.epsilon,
        )
        return normed.view(count, members, width).transpose(0, 1)


class ResidualBlock(nn.Module):
    """h + ELU(BatchNorm(Linear(ELU(Linear(h))))) for every member.

    Args:
        width: columns of h.
        generators: one per member.
    """

    def __init__(self, width: int, generators: Sequence[torch.Generator]):
        super().__init__()
        self.first = StackedLinear(width, width, generators)
        self.second = StackedLinear(width, width, generators)
        self.norm = StackedBatchNorm(len(generators), width)

    def forward(self, h: Tensor) -> Tensor:
        """h (M, N, width) -> (M, N, width)."""
        return h + functional.elu(self.norm(self.second(functional.elu(self.first(h)))))


class ResidualMLP(nn.Module):
    """M independent residual networks: x (M, N, inputs) -> (M, N, outputs).

    Args:
        members: M.
        inputs: m.
        outputs: of each network.
        width: of the hidden layers; the papers take D^2 + 2.
        blocks: residual blocks, at least 1.
        seeds: one per member, by default 0, 1, ...: a member's initial weights depend on its own seed alone, so that
            member i of a stack is the network that a stack of that one seed would hold.

    Raises:
        PosecovError: a size is not positive, or the seeds are not one per member.
    """

    def __init__(
        self, members: int, inputs: int, outputs: int, width: int, blocks: int = 5, seeds: Sequence[int] | None = None
    ):
        super().__init__()
        sizes = {"members": members, "inputs": inputs, "outputs": outputs, "width": width, "blocks": blocks}
        if min(sizes.values()) < 1:
            raise PosecovError(f"ResidualMLP: every size must be positive, got {sizes}")
        seeds = range(members) if seeds is None else seeds
        if len(seeds) != members:
            raise PosecovError(f"ResidualMLP: {members} members need as many seeds, got {len(seeds)}")
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.members, self.inputs, self.outputs, self.width = members, inputs, outputs, width
        self.input = StackedLinear(inputs, width, generators)
        self.blocks = nn.ModuleList(ResidualBlock(width, generators) for _ in range(blocks))
        self.output = StackedLinear(width, outputs, generators)

    def residual_blocks(self) -> list[ResidualBlock]:
        """The blocks in order, with their type."""
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]

    def forward(self, x: Tensor) -> Tensor:
        """x (M, N, inputs), or (N, inputs) shown to every member, -> (M, N, outputs)."""
        if x.dim() == 2:
            x = x.expand(self.members, -1, -1)
        h = self.input(x)
        for block in self.blocks:
            h = block(h)
        return self.output(h)
