"""Crops of requests that arrive together go through the network in one call."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np

from posecov.model import BATCH, PoseModel

Outputs = list[np.ndarray]

STOP: ContextVar[threading.Event | None] = ContextVar("stop", default=None)
"""Set while somebody waits for a request's crops; once the event is set nobody does, and `Abandoned` ends the work."""


class Abandoned(Exception):
    """Nobody waits for this any more: the client has gone, its time is over, or the server ends."""


@dataclass
class _Order:
    planes: np.ndarray
    stop: threading.Event | None
    outputs: "Future[Outputs]" = field(default_factory=Future)

    @property
    def abandoned(self) -> bool:
        return self.stop is not None and self.stop.is_set()


class BatchedModel(PoseModel):
    """An opened network for many threads: one thread runs it, on whatever crops are there when it is free.

    Nothing waits for a batch to fill: while the network runs, the crops for its next call gather. That thread does nothing
    else: other cores prepare what goes in, and check what comes out.
    """

    def __init__(self, model: PoseModel, seen: Callable[[int], None] = lambda crops: None):
        """Take over a model.

        Args:
            model: which then is this one's alone.
            seen: told how many crops went through the network, call by call.
        """
        vars(self).update(vars(model))
        self._seen = seen
        self._orders: deque[_Order] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def outputs(self, crops: np.ndarray, batch: int = BATCH) -> dict[str, np.ndarray]:
        """As `PoseModel.outputs`, from any thread. Raises Abandoned once nobody waits (`STOP`) or the model is closed."""
        if not len(crops):
            return super().outputs(crops)
        self._check_crops(crops)
        parts = []
        for start in range(0, len(crops), BATCH):
            order = _Order(self._input(crops[start : start + BATCH]), STOP.get())
            with self._change:
                if self._closed or order.abandoned:
                    raise Abandoned
                self._orders.append(order)
                self._change.notify()
            parts.append(self._checked(order.outputs.result(), len(order.planes)))
        return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Finish what was ordered, and take no more."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[_Order]:
        """Orders of `BATCH` crops at most; none once the model is closed and everything is done."""
        batch: list[_Order] = []
        count = 0
        with self._change:
            while not self._orders and not self._closed:
                self._change.wait()
            while self._orders and count + len(self._orders[0].planes) <= BATCH:
                batch.append(self._orders.popleft())
                count += len(batch[-1].planes)
        return batch

    def _answer(self, batch: list[_Order]) -> None:
        for order in batch:
            if order.abandoned:
                order.outputs.set_exception(Abandoned())
        batch = [order for order in batch if not order.outputs.done()]
        if not batch:
            return
        planes = batch[0].planes if len(batch) == 1 else np.concatenate([order.planes for order in batch])
        try:
            outputs = self._run(planes)
        except Exception as error:
            if len(batch) == 1:
                batch[0].outputs.set_exception(error)
                return
            # One of them is at fault, and the others must not pay for it.
            for order in batch:
                self._answer([order])
            return
        self._seen(len(planes))
        start = 0
        for order in batch:
            end = start + len(order.planes)
            order.outputs.set_result([array[start:end] for array in outputs])
            start = end
