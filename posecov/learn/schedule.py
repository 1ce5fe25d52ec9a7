"""Learning rates over time."""

import math


def warm_cosine(step: int, total: int, warmup: int) -> float:
    """Factor on the peak rate at a step: linear warm-up, then a cosine down to zero at ``total``."""
    warmup = min(warmup, total // 2)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))
