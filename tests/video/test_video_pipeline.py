import threading
import time

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from posecov.video.pipeline import DEPTH, Pipeline


def no_thread_is_left(before):
    for _ in range(100):
        if threading.active_count() <= before:
            return True
        time.sleep(0.02)
    return False


def test_order_is_kept_whatever_the_stages_take():
    stages = {
        "uneven": lambda x: (time.sleep(0.004 * (x % 3)), x)[1],
        "other": lambda x: (time.sleep(0.004 * (x % 2)), x)[1],
    }
    with Pipeline(range(40), stages) as pipeline:
        assert list(pipeline.results) == list(range(40))
    assert pipeline.seconds["uneven"] > 0.1


def test_stages_overlap():
    stages = {name: lambda x: (time.sleep(0.02), x)[1] for name in "abc"}
    start = time.perf_counter()
    with Pipeline(range(20), stages) as pipeline:
        list(pipeline.results)
    assert time.perf_counter() - start < 0.8 * 3 * 20 * 0.02


def test_a_fast_source_waits():
    given = []

    def source():
        for index in range(1000):
            given.append(index)
            yield index

    with Pipeline(source(), {"same": lambda x: x}) as pipeline:
        time.sleep(0.2)
        # Two channels, and one thing in the hands of each thread.
        assert len(given) <= 2 * DEPTH + 2
        next(pipeline.results)


@pytest.mark.parametrize("bad", ["read", "first", "last"])
def test_an_error_ends_all_threads_after_what_came_before(bad):
    before = threading.active_count()

    def source():
        for index in range(1000):
            if bad == "read" and index == 20:
                raise OSError("broken")
            yield index

    def stage(name):
        def call(x):
            if name == bad and x == 20:
                raise OSError("broken")
            return x

        return call

    done = []
    with Pipeline(source(), {n: stage(n) for n in ("first", "last")}) as pipeline, pytest.raises(OSError, match="broken"):
        done.extend(pipeline.results)
    assert done == list(range(20))
    assert no_thread_is_left(before)


def test_stopping_drains_and_leaving_does_not_hang():
    before = threading.active_count()
    closed = []

    def source():
        try:
            yield from range(10**9)
        finally:
            closed.append(threading.current_thread().name)

    with Pipeline(source(), {"same": lambda x: x}) as pipeline:
        first = [next(pipeline.results) for _ in range(5)]
        pipeline.stop()
        rest = list(pipeline.results)
    assert [*first, *rest] == list(range(len(first) + len(rest)))
    with Pipeline(source(), {"same": lambda x: x}) as pipeline:
        next(pipeline.results)
    assert closed == ["read", "read"]
    assert no_thread_is_left(before)


def test_blas_leaves_the_processors_to_the_stages():
    def threads(_=None):
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(2, "blas"):
        with Pipeline([0], {"threads": threads}) as pipeline:
            assert list(pipeline.results) == [{1}]
        assert threads() == {2}
