"""Timing two ways of doing a thing so that their ratio can be trusted."""

import statistics
import time
from collections.abc import Callable, Mapping


def alternate(calls: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 2) -> dict[str, float]:
    """Median milliseconds of each call, run in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmup + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}
