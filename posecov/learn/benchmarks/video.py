"""What films cost: the whole way from file to file against the network alone, stage by stage, and memory over time."""

import os
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort

from posecov.commands.demo import demo_photos
from posecov.errors import PosecovError
from posecov.estimator import PoseEstimator
from posecov.images import read_image
from posecov.video.people import Tracks
from posecov.video.run import Settings, run_film
from posecov.video.writing import FilmWriter

SIZE = (1280, 720)
PLACE = (440.0, 155.0, 495.0, 565.0)
"""Box x, y, width, height around the person of `panned_film` in the middle of its way."""

_RATE = 30


def measure(weights: Path, film: Path | None = None, frames: int = 300, threads: int = 1) -> dict[str, float]:
    """Frames per second of ``posecov video`` and of the bare network on as many crops in the same batches.

    Args:
        weights: a deployed model.
        film: to read; without it one of ``frames`` frames is made of a free photo (`panned_film`), whose person need not be
            searched for.
        frames: of the film that is made.
        threads: of the network, the decoder and the encoder, each.

    Returns:
        Flat names to numbers: ``video_frames_per_second``, ``video_network_frames_per_second`` and their ratio
        ``video_over_network``; ``video_read_ms`` and so on, the own time of each stage per frame, ``video_read_processor_ms``
        what of it the processor worked, and ``video_at_best`` the ratio that this machine's processors allow, however well the
        stages are spread over them (``video_processors``); ``video_first_pose_s`` from
        opening the film; ``video_peak_mb`` above what was there before, and ``video_growth_mb`` from the second quarter of the
        frames to the last.

    Raises:
        PosecovError: no such model or film, or no photo to make one of.
    """
    estimator = PoseEstimator(weights, threads=threads)
    batches: list[int] = []
    memory: list[float] = []
    first: list[float] = []
    run = estimator.model.outputs

    def counted(crops: np.ndarray, *rest: Any) -> dict[str, np.ndarray]:
        if len(crops):
            batches.append(len(crops))
        return run(crops, *rest)

    class Clocked(Tracks):
        def update(self, poses: Any, time_s: float) -> Any:
            if not first:
                first.append(time.perf_counter())
            memory.append(resident_mb())
            return super().update(poses, time_s)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = panned_film(folder / "source.mp4", frames) if film is None else film
        # Smoothed live a film is read once, so that the stages overlap as they do for a camera.
        settings = Settings(
            threads=threads,
            smooth="live",
            follow=lambda: Clocked(estimator.metadata.skeleton, live=True),
            detector=None if film else lambda image: (np.array([PLACE]), np.ones(1)),
        )
        before, start = resident_mb(), time.perf_counter()
        estimator.model.outputs = counted  # type: ignore[assignment, method-assign]
        outcome = run_film(estimator, str(source), folder, "made", settings)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    work = outcome.processor_seconds
    at_best = max(max(work.values()), sum(work.values()) / processors)
    quarter = max(1, len(memory) // 4)
    network = _network_seconds(weights, threads, estimator.metadata.input_size, batches)
    return {
        "video_threads": threads,
        "video_frames": outcome.frames,
        "video_crops_per_frame": sum(batches) / outcome.frames,
        "video_frames_per_second": outcome.speed,
        "video_network_frames_per_second": outcome.frames / network,
        "video_over_network": outcome.speed * network / outcome.frames,
        **{f"video_{stage}_ms": 1e3 * seconds / outcome.frames for stage, seconds in outcome.seconds.items()},
        **{f"video_{stage}_processor_ms": 1e3 * seconds / outcome.frames for stage, seconds in work.items()},
        "video_processors": processors,
        "video_at_best": network / at_best,
        "video_first_pose_s": first[0] - start,
        "video_peak_mb": max(memory) - before,
        "video_growth_mb": statistics.median(memory[-quarter:]) - statistics.median(memory[quarter : 2 * quarter] or memory),
    }


def panned_film(path: Path, frames: int) -> Path:
    """A film of somebody who sways, made of the demo's photo. Raises PosecovError where that is not installed."""
    photo = read_image(next(p for p in demo_photos() if p.name == "astronaut.png"))
    width, height = SIZE
    scale = 0.8 * height / photo.shape[0]
    writer = FilmWriter(path, Fraction(1, _RATE), Fraction(_RATE))
    for index in range(frames):
        shift = 60 * np.sin(2 * np.pi * index / (4 * _RATE))
        move = np.array([[scale, 0, width / 3 + shift], [0, scale, 0.2 * height]])
        writer.write(cv2.warpAffine(photo, move, SIZE, borderValue=(90, 90, 90)), index)
    writer.close()
    return path


def resident_mb() -> float:
    """Memory of this process that is in use. Raises PosecovError where the system does not say it as Linux does."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        raise PosecovError("memory can be measured on Linux only") from None
    return pages * 4096 / 1e6


def _network_seconds(weights: Path, threads: int, size: int, batches: list[int]) -> float:
    """Time of the network alone on the same batches: no reading, cropping, checking or drawing."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).standard_normal((max(batches), 3, size, size), dtype=np.float32)
    session.run(None, {"image": noise[:1]})
    start = time.perf_counter()
    for count in batches:
        session.run(None, {"image": noise[:count]})
    return time.perf_counter() - start
