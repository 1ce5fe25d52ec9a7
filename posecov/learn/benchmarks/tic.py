"""What the Taylor terms of an MLP cost, against automatic differentiation and against a training step without them.

The papers' sizes: D inputs and D outputs, two residual networks of width D^2 + 2 with five blocks, batch 32. The sides of every
ratio are timed in turns in the same run, on the same inputs, and the medians are compared.

Memory is the peak of what the allocator has handed out during the call, beyond what was there before it, as
`torch.profiler` records it: temporaries inside operations count, the process and the weights do not.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from posecov.learn.benchmarks.measuring import alternate, peak_bytes
from posecov.learn.losses import nll
from posecov.learn.mlp import ResidualMLP
from posecov.learn.taylor import TaylorTerms, default_probes, estimated_terms, exact_terms, naive_terms, rounded_dtype

DIMENSIONS = (4, 8, 16, 24, 32)
_FLOOR = 1e-3  # of the covariance: a fresh network's factor is nearly singular in D = 32 dimensions


def measure(
    dimensions: Sequence[int] = DIMENSIONS, naive: int = 16, batch: int = 32, repeats: int = 15, naive_repeats: int = 7
) -> dict[str, float]:
    """All figures of this file.

    Args:
        dimensions: D of the training steps.
        naive: D where the exact terms are compared with automatic differentiation.
        batch: N.
        repeats: timed steps of each kind.
        naive_repeats: timed calls of the terms alone.

    Returns:
        `mlp_exact_speedup_dD` and `mlp_exact_memory_ratio_dD` against `naive_terms`, with their milliseconds and MB;
        `mlp_exact_over_nll_dD` and `mlp_estimator_over_nll_dD`: whole training steps relative to the plain one.
    """
    figures = terms_figures(naive, batch, naive_repeats)
    for size in dimensions:
        figures |= step_figures(size, batch, repeats)
    return figures


def terms_figures(size: int, batch: int = 32, repeats: int = 7) -> dict[str, float]:
    """Time and peak memory of the exact terms and of the naive ones, D = ``size``."""
    network = ResidualMLP(1, size, size, size**2 + 2)
    x = _normal(0, 1, batch, size)
    calls = {"exact": lambda: exact_terms(network, x), "naive": lambda: naive_terms(network, x)}
    times, peaks = alternate(calls, repeats), {name: peak_bytes(call) for name, call in calls.items()}
    return {
        f"mlp_exact_ms_d{size}": times["exact"],
        f"mlp_naive_ms_d{size}": times["naive"],
        f"mlp_exact_speedup_d{size}": times["naive"] / times["exact"],
        f"mlp_exact_mb_d{size}": peaks["exact"] / 1e6,
        f"mlp_naive_mb_d{size}": peaks["naive"] / 1e6,
        f"mlp_exact_memory_ratio_d{size}": peaks["exact"] / peaks["naive"],
    }


def step_figures(size: int, batch: int = 32, repeats: int = 15) -> dict[str, float]:
    """Time of a whole training step with the plain NLL, with exact and with estimated terms, D = ``size``."""
    generator = torch.Generator().manual_seed(0)
    terms: dict[str, Callable[[ResidualMLP, Tensor], TaylorTerms] | None] = {
        "plain": None,
        "exact": exact_terms,
        "estimated": lambda network, x: estimated_terms(network, x, generator=generator),
    }
    times = alternate({name: training_step(size, batch, own) for name, own in terms.items()}, repeats)
    network = ResidualMLP(1, size, size, size**2 + 2, blocks=1)
    return {
        f"mlp_nll_ms_d{size}": times["plain"],
        f"mlp_exact_over_nll_d{size}": times["exact"] / times["plain"],
        f"mlp_estimator_over_nll_d{size}": times["estimated"] / times["plain"],
        f"mlp_estimator_probes_d{size}": default_probes(network, rounded_dtype(network)),
    }


def training_step(size: int, batch: int, terms: Callable[[ResidualMLP, Tensor], TaylorTerms] | None) -> Callable[[], None]:
    """One step of the papers' network for D = ``size``: forward, full Gaussian NLL, backward, AdamW.

    The covariance is ``A A^T + k1 J J^T + k2 [tr(H_i H_j)]`` and a floor; k1, k2 are squares of the last two outputs.
    """
    mean = ResidualMLP(1, size, size, size**2 + 2, seeds=(0,))
    head = ResidualMLP(1, size, size**2 + 2, size**2 + 2, seeds=(1,))
    optimizer = torch.optim.AdamW([*mean.parameters(), *head.parameters()], lr=3e-4, fused=True)
    x, y = _normal(0, 1, batch, size), _normal(1, 1, batch, size)
    floor = _FLOOR * torch.eye(size)

    def step() -> None:
        taylor = terms(mean, x) if terms is not None else None
        residual, output = y - mean(x), head(x)
        factor = output[..., :-2].unflatten(-1, (size, size))
        covariance = factor @ factor.mT + floor
        if taylor is not None:
            k1, k2 = output[..., -2:].square().unsqueeze(-1).unbind(-2)
            covariance = covariance + k1.unsqueeze(-1) * taylor.gradient + k2.unsqueeze(-1) * taylor.curvature
        optimizer.zero_grad()
        nll(residual, covariance).mean().backward()
        optimizer.step()

    return step


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
