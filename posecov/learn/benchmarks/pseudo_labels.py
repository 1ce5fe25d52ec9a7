"""What the search for neighbours costs over the matrix product it contains, and how much memory a million rows take."""

import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from posecov.learn.pseudo_labels.engine import Recipe, stream_pseudo_labels
from posecov.learn.pseudo_labels.search import BLOCK, QUERIES, ExactSearch

_CHECKED = 32


def measure(
    rows: tuple[int, ...] = (10**4, 10**5, 10**6), size: int = 64, k: int = 100, queries: int = 2048, memory: bool = True
) -> dict[str, float]:
    """Time per query over that of the bare product of the same chunks, in turns, at several sizes of the table; recall; memory.

    Args:
        rows: of the tables, normal random numbers.
        size: columns.
        k: neighbours.
        queries: rows of the table that are asked for.
        memory: whether to measure the peak of the resident memory, in a fresh process.

    Returns:
        ``pseudo_labels_over_matmul_1e4`` and so on: ratio of the times of processor; ``pseudo_labels_ms_per_query_1e4``;
        ``pseudo_labels_matmul_ms_per_query_1e4``; ``pseudo_labels_setup_s_1e4``: once per table; ``pseudo_labels_recall``
        against brute force in float64, the worst of the tables; ``pseudo_labels_peak_gib_1e6``: the largest table whitened,
        searched and labelled, with features, values and libraries.
    """
    figures: dict[str, float] = {"pseudo_labels_recall": 1.0, "pseudo_labels_threads": torch.get_num_threads()}
    for count in rows:
        name = f"1e{round(np.log10(count))}"
        points = np.random.default_rng(0).standard_normal((count, size), dtype=np.float32)
        start = time.process_time()
        search = ExactSearch(points)
        figures[f"pseudo_labels_setup_s_{name}"] = time.process_time() - start
        asked = np.linspace(0, count - 1, min(queries, count)).astype(np.int64)
        whole, bare = [], []
        # A small table takes milliseconds: more turns.
        for _ in range(max(2, min(9, 10**6 // count))):
            start = time.process_time()
            found = [search.search(points[some], k, some) for some in np.split(asked, range(QUERIES, len(asked), QUERIES))]
            whole.append(time.process_time() - start)
            start = time.process_time()
            _product(points, asked)
            bare.append(time.process_time() - start)
        figures[f"pseudo_labels_over_matmul_{name}"] = statistics.median(whole) / statistics.median(bare)
        figures[f"pseudo_labels_ms_per_query_{name}"] = 1e3 * statistics.median(whole) / len(asked)
        figures[f"pseudo_labels_matmul_ms_per_query_{name}"] = 1e3 * statistics.median(bare) / len(asked)
        figures["pseudo_labels_recall"] = min(figures["pseudo_labels_recall"], _recall(points, asked, found[0][0], k))
    if memory:
        figures[f"pseudo_labels_peak_gib_1e{round(np.log10(max(rows)))}"] = peak_gib(max(rows), size, k, queries)
    return figures


def peak_gib(rows: int, size: int, k: int, queries: int, dimensions: int = 28) -> float:
    """Peak resident memory of a process that makes a table, searches it and streams its pseudo-labels to disk.

    The queries are few, since what is held does not depend on their number: results go to disk.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_stream, args=(sender, rows, size, k, queries, dimensions))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _stream(sender, rows: int, size: int, k: int, queries: int, dimensions: int) -> None:  # type: ignore[no-untyped-def]
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, size), dtype=np.float32)
    values = rng.standard_normal((rows, dimensions))
    recipe = Recipe(k, size, 0.8, centred=True, shrinkage=0.2)
    with TemporaryDirectory() as folder:
        stream_pseudo_labels(Path(folder) / "labels", features, values, recipe, features[:queries].copy(), approximate=False)
    sender.send(_peak_kib() / 2**20)


def _peak_kib() -> int:
    """Of this process. On Linux ``ru_maxrss`` starts at that of the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)


def _product(points: np.ndarray, asked: np.ndarray) -> None:
    """The product alone, a chunk of queries and a block of the table at a time, into one buffer."""
    table = torch.from_numpy(points)
    buffer = torch.empty(QUERIES * BLOCK)
    for first in range(0, len(asked), QUERIES):
        query = table[torch.from_numpy(asked[first : first + QUERIES])]
        for start in range(0, len(table), BLOCK):
            block = table[start : start + BLOCK]
            torch.mm(query, block.T, out=buffer[: len(query) * len(block)].view(len(query), len(block)))


def _recall(points: np.ndarray, asked: np.ndarray, found: np.ndarray, k: int) -> float:
    """Share of the true k nearest, by brute force in float64, among those found for the first queries."""
    hits = 0
    count = min(_CHECKED, len(found))
    for row in range(count):
        distance = np.zeros(len(points))
        for start in range(0, len(points), 65536):
            difference = points[start : start + 65536].astype(np.float64) - points[asked[row]]
            distance[start : start + 65536] = np.einsum("nm,nm->n", difference, difference)
        distance[asked[row]] = np.inf
        hits += np.isin(np.argpartition(distance, k - 1)[:k], found[row]).sum()
    return float(hits) / (count * k)
