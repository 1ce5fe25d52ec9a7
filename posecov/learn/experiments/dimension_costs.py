"""Time and memory of a training step of every loss against D (ToSS, arXiv 2502.10587, table 1), networks of width D^2 + 2."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posecov.learn.benchmarks.measuring import peak_bytes
from posecov.learn.experiments.cells import run_cell
from posecov.learn.regression import Fitted, RegressionConfig, Regressor, StackedSteps

# In the order of the table; the naive one last, because it is not run at every D.
METHODS: Mapping[str, tuple[str, str]] = {
    "MSE": ("mse", "none"),
    "NLL diagonal": ("nll-diagonal", "none"),
    "NLL": ("nll", "none"),
    "KL": ("kl", "none"),
    "Faithful": ("faithful", "none"),
    "2-W bound": ("wasserstein-bound", "none"),
    "2-W bound, symmetric roots": ("wasserstein-symmetric", "none"),
    "2-W, Procrustes": ("wasserstein-procrustes", "none"),
    "2-W": ("wasserstein", "none"),
    "NLL:TIC, estimated": ("nll", "estimated"),
    "NLL:TIC, exact": ("nll", "exact"),
    "NLL:TIC, naive autograd": ("nll", "naive"),
}
BATCH = 32
# The naive form is not run at the next D once a step of it has taken this long, or this much.
_SECONDS, _MEGABYTES = 8.0, 2000.0


def measure(folder: Path, dimensions: Sequence[int], begin: Callable[[str], None]) -> dict[tuple[int, str], dict[str, Any]]:
    """(D, method) -> milliseconds and megabytes a step, computed once and kept. Both None where the naive form is too dear."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for method, (loss, tic) in METHODS.items():
        before: dict[str, Any] = {}
        for d in dimensions:
            begin(f"cost at D = {d}, {method}")
            if tic == "naive" and (
                before.get("ms", 0.0) is None or before.get("ms", 0.0) > 1e3 * _SECONDS or before.get("mb", 0.0) > _MEGABYTES
            ):
                found[d, method] = before = {"ms": None, "mb": None}
                continue
            key = {"experiment": "dimensions", "kind": "cost", "D": d, "loss": loss, "tic": tic, "batch": BATCH, "version": 1}
            key |= {"regression": vars(_recipe(loss, tic))}
            found[d, method] = before = run_cell(folder, key, lambda d=d, loss=loss, tic=tic: step_cost(d, loss, tic))  # type: ignore[misc]
    return found


def step_cost(dimensions: int, loss: str, tic: str, repeats: int = 7) -> dict[str, float]:
    """Cost of a whole step: forward, loss, backward, AdamW.

    Returns:
        ms: median CPU time, which a busy machine does not lengthen. mb: most memory that tensors of the step hold at
        once, beyond weights and optimizer state, in MiB.
    """
    threads = torch.get_num_threads()
    # CPU time adds up over threads.
    torch.set_num_threads(1)
    try:
        return _cost(dimensions, _recipe(loss, tic), 3 if tic == "naive" else repeats)
    finally:
        torch.set_num_threads(threads)


def _recipe(loss: str, tic: str) -> RegressionConfig:
    return RegressionConfig(loss=loss, tic=tic, on_nonfinite="count")  # type: ignore[arg-type]


def _cost(dimensions: int, config: RegressionConfig, repeats: int) -> dict[str, float]:
    network = Regressor(config, dimensions, dimensions, (0,))
    steps = StackedSteps(network, config.loss, config, Fitted(network, [], np.zeros(1, dtype=np.int64), np.zeros(1)))
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1, BATCH, dimensions, generator=generator) for _ in range(2))
    roots = torch.eye(dimensions).expand(1, BATCH, -1, -1).contiguous()
    steps.step(x, y, roots, "", generator)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        steps.step(x, y, roots, "", generator)
        times.append(1e3 * (time.process_time() - start))
    steps.optimizer.zero_grad(set_to_none=True)
    return {"ms": statistics.median(times), "mb": peak_bytes(lambda: steps.step(x, y, roots, "", generator)) / 2**20}


def exponent(dimensions: Sequence[int], values: Sequence[float | None], smallest: int = 12) -> float | None:
    """Slope of log value over log D, by least squares from D = ``smallest`` on; below, fixed costs hide it. None for < 2."""
    pairs = [(d, v) for d, v in zip(dimensions, values, strict=True) if v and d >= smallest]
    if len(pairs) < 2:
        return None
    logs = np.log(np.array(pairs, dtype=float))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
