"""Time and memory of several ways of doing a thing, so that their ratios can be trusted."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def alternate(calls: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 2) -> dict[str, float]:
    """Median milliseconds of each call; they take turns, so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warmup + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_bytes(call: Callable[[], object]) -> int:
    """Most bytes of CPU tensors that a call holds at once, beyond those from before it."""
    call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = call()
    del result
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    held = peak = 0
    changes = (event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
