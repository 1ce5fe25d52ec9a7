"""Stages that work at the same time, each in its own thread, on a stream that keeps its order.

PyAV, OpenCV and ONNX Runtime let go of Python's lock while they work, so threads are enough for decoding, inference, drawing
and encoding to overlap. Between two stages lies a channel of a few places: a fast stage waits for a slow one, and memory does
not grow with the length of the stream. The matrices of poses are small: while a pipeline is at work BLAS has one thread, since
its others would take the processors from the stages.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from threadpoolctl import threadpool_limits

DEPTH = 3
"""Frames that wait between two stages, at most: enough for uneven stages, and little memory at 25 MB a frame (4K)."""

_AWAKE = 0.5  # Seconds after which a waiting thread looks up: on Windows Ctrl-C does not end a wait.
_PATIENCE = 15.0  # Seconds that a thread may take to end; longer than a network read may take.


class Channel:
    """Hands things from one thread to the next, in order, at most ``depth`` of them waiting."""

    def __init__(self, depth: int = DEPTH):
        self._items: deque[Any] = deque()
        self._depth = depth
        self._ended = self._cancelled = False
        self._error: BaseException | None = None
        self._change = threading.Condition()

    def put(self, item: Any) -> bool:
        """Wait for room and hand over. False when nobody takes things any more."""
        with self._change:
            while len(self._items) >= self._depth and not self._cancelled:
                self._change.wait(_AWAKE)
            if not self._cancelled:
                self._items.append(item)
                self._change.notify_all()
            return not self._cancelled

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes. Whoever takes gets what waits, and then the error."""
        with self._change:
            if not self._ended:
                self._ended, self._error = True, error
            self._change.notify_all()

    def cancel(self) -> None:
        """Nothing more is taken: what waits is dropped, and `put` says False."""
        with self._change:
            self._cancelled = True
            self._items.clear()
            self._change.notify_all()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._change:
            while not self._items:
                if self._cancelled or self._ended:
                    error, self._error = self._error, None
                    raise error if error is not None else StopIteration
                self._change.wait(_AWAKE)
            item = self._items.popleft()
            self._change.notify_all()
            return item


class Pipeline:
    """A source and its stages at work.

    An error in a stage ends the stages before it at once. Those after it finish what they have, so that all frames before the
    error are done, and then it is raised from `results`.

    >>> with Pipeline(range(3), {"double": lambda x: 2 * x}) as pipeline:
    ...     list(pipeline.results)
    [0, 2, 4]

    Attributes:
        results: iterator over what the last stage returns, in order.
        seconds: time that each stage has worked, without waiting, by name; ``read`` is the source.
        processor_seconds: of this the time that its own thread has computed. The rest went to threads of the libraries, or to
            waiting for a processor or Python's lock.
    """

    def __init__(self, source: Iterable[Any], stages: Mapping[str, Callable[[Any], Any]], depth: int = DEPTH):
        self.seconds = dict.fromkeys(("read", *stages), 0.0)
        self.processor_seconds = dict.fromkeys(self.seconds, 0.0)
        self._stopping = threading.Event()
        channels = [Channel(depth) for _ in range(len(stages) + 1)]
        self.results = channels[-1]
        self._threads = [threading.Thread(target=self._read, args=(source, channels[0]), daemon=True, name="read")]
        for (name, call), given, taken in zip(stages.items(), channels, channels[1:], strict=False):
            self._threads.append(threading.Thread(target=self._work, args=(name, call, given, taken), daemon=True, name=name))

    def __enter__(self) -> "Pipeline":
        self._blas = threadpool_limits(1, "blas")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.results.cancel()
        # Daemons, and not waited for forever: a camera's driver may never come back.
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._blas.restore_original_limits()

    def stop(self) -> None:
        """Read no more. What has been read still comes out of `results`."""
        self._stopping.set()

    @contextlib.contextmanager
    def _clocked(self, stage: str) -> Iterator[None]:
        start, computing = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start
            self.processor_seconds[stage] += time.thread_time() - computing

    def _read(self, source: Iterable[Any], taken: Channel) -> None:
        error: BaseException | None = None
        items = iter(source)
        try:
            while not self._stopping.is_set():
                try:
                    with self._clocked("read"):
                        item = next(items)
                except StopIteration:
                    break
                if not taken.put(item):
                    break
                del item  # A frame that waits in the channel is enough.
        except BaseException as caught:
            error = caught
        finally:
            if hasattr(items, "close"):
                items.close()  # In the thread that read, as decoders want it.
            taken.end(error)

    def _work(self, name: str, call: Callable[[Any], Any], given: Channel, taken: Channel) -> None:
        error: BaseException | None = None
        try:
            for item in given:
                with self._clocked(name):
                    result = call(item)
                del item
                if not taken.put(result):
                    break
                del result
        except BaseException as caught:
            error = caught
        given.cancel()
        taken.end(error)
