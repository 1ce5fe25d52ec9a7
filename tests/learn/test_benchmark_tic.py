import pytest
import torch

from posecov.learn.benchmarks.measuring import peak_bytes
from posecov.learn.benchmarks.tic import measure


def test_figures_are_there():
    figures = measure(dimensions=(2, 3), naive=3, batch=4, repeats=1, naive_repeats=1)
    assert {
        "mlp_exact_speedup_d3",
        "mlp_exact_memory_ratio_d3",
        "mlp_exact_over_nll_d2",
        "mlp_estimator_over_nll_d3",
    } <= figures.keys()
    assert all(value > 0 for value in figures.values())


def test_peak_is_what_was_held_at_once():
    def call():
        for _ in range(3):
            first = torch.ones(100_000)
            del first
        return torch.ones(50_000), torch.ones(50_000)

    assert peak_bytes(call) == pytest.approx(400_000, rel=0.01)
