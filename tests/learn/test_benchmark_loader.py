import dataclasses

import torch

from posecov.learn.benchmarks.loader import measure
from posecov.learn.training import load_people


def test_figures_are_there(tiny):
    config = dataclasses.replace(tiny, workers=1, mean=dataclasses.replace(tiny.mean, batch=4))
    figures = measure(config, load_people(config).mean, torch.device("cpu"), workers=(0, 1), turns=1)
    rates = {"loader_images_per_second_0w", "loader_images_per_second_1w", "model_images_per_second", "loop_images_per_second"}
    assert set(figures) == rates | {"loader_input_size", "loader_batch", "loop_over_model", "step_mb_per_image"}
    assert all(value > 0 for value in figures.values())
    assert figures["loop_over_model"] == figures["loop_images_per_second"] / figures["model_images_per_second"]
