"""Crops of several threads in one call of the network."""

import asyncio
import os
import sys
import threading

import numpy as np
import pytest

from posecov.model import BATCH, PoseModel
from posecov.server.batching import STOP, Abandoned, BatchedModel
from posecov.server.limits import Limits
from posecov.server.workers import Workers


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(0, 256, (2 * BATCH + 3, 64, 64, 3), dtype=np.uint8)


class Gate:
    """Lets a network's first call wait, so that orders gather behind it, and remembers the sizes of all calls."""

    def __init__(self, monkeypatch):
        self.open, self.entered, self.sizes = threading.Event(), threading.Event(), []
        run = PoseModel._run

        def gated(model, planes):
            self.sizes.append(len(planes))
            self.entered.set()
            assert self.open.wait(10)
            return run(model, planes)

        monkeypatch.setattr(PoseModel, "_run", gated)


def in_threads(calls):
    results = {}

    def run(index, call):
        try:
            results[index] = call()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    return threads, results


def queued(model, count):
    """Wait until so many orders are there."""
    for _ in range(1000):
        with model._change:
            if len(model._orders) == count:
                return
        threading.Event().wait(0.005)
    raise AssertionError("the orders do not come")


def same(first, second):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-5, atol=1e-4)


def test_it_answers_what_the_network_answers(estimator, crops):
    model = BatchedModel(estimator.model)
    same(model.outputs(crops), estimator.model.outputs(crops))
    assert len(model.outputs(crops[:0])["keypoints"]) == 0
    model.close()


def test_orders_that_wait_go_together_and_everybody_gets_his_own(estimator, crops, monkeypatch):
    expected = estimator.model.outputs(crops)
    gate, seen = Gate(monkeypatch), []
    model = BatchedModel(estimator.model, seen.append)
    parts = [slice(0, 1), slice(1, 4), slice(4, 9), slice(9, 9 + BATCH - 8), slice(0, 2)]
    first, results = in_threads([lambda: model.outputs(crops[parts[0]])])
    assert gate.entered.wait(10)
    others = []
    for index, part in enumerate(parts[1:]):
        threads, found = in_threads([lambda part=part: model.outputs(crops[part])])
        others += [(threads[0], found, part)]
        queued(model, index + 1)
    gate.open.set()
    for thread in [*first, *(thread for thread, _, _ in others)]:
        thread.join(10)
    assert gate.sizes == seen == [1, BATCH, 2]
    same(results[0], {name: array[parts[0]] for name, array in expected.items()})
    for _, found, part in others:
        same(found[0], {name: array[part] for name, array in expected.items()})
    model.close()


def test_one_that_fails_does_not_spoil_the_others(estimator, crops, monkeypatch):
    gate = Gate(monkeypatch)
    gated = PoseModel._run

    def fails_on_black(model, planes):
        found = gated(model, planes)
        if (planes == model._input(np.zeros_like(crops[:1]))).all(axis=(1, 2, 3)).any():
            raise ValueError("black")
        return found

    monkeypatch.setattr(PoseModel, "_run", fails_on_black)
    model = BatchedModel(estimator.model)
    first, _ = in_threads([lambda: model.outputs(crops[:1])])
    assert gate.entered.wait(10)
    orders = [crops[1:3], np.zeros_like(crops[:1]), crops[3:4]]
    threads, results = in_threads([lambda order=order: model.outputs(order) for order in orders])
    queued(model, 3)
    gate.open.set()
    for thread in [*first, *threads]:
        thread.join(10)
    assert isinstance(results[1], ValueError)
    same(results[0], estimator.model.outputs(crops[1:3]))
    same(results[2], estimator.model.outputs(crops[3:4]))
    model.close()


def test_crops_that_nobody_waits_for_never_reach_the_network(estimator, crops, monkeypatch):
    gate, stop = Gate(monkeypatch), threading.Event()
    model = BatchedModel(estimator.model)
    first, _ = in_threads([lambda: model.outputs(crops[:1])])
    assert gate.entered.wait(10)

    def given_up():
        STOP.set(stop)
        return model.outputs(crops[:5])

    threads, results = in_threads([given_up])
    queued(model, 1)
    stop.set()
    gate.open.set()
    for thread in [*first, *threads]:
        thread.join(10)
    assert isinstance(results[0], Abandoned)
    assert gate.sizes == [1]
    threads, results = in_threads([given_up])
    threads[0].join(10)
    assert isinstance(results[0], Abandoned)
    model.close()


def test_closing_finishes_what_was_ordered(estimator, crops, monkeypatch):
    gate = Gate(monkeypatch)
    model = BatchedModel(estimator.model)
    first, one = in_threads([lambda: model.outputs(crops[:1])])
    assert gate.entered.wait(10)
    second, two = in_threads([lambda: model.outputs(crops[1:3])])
    queued(model, 1)
    gate.open.set()
    model.close()
    for thread in [*first, *second]:
        thread.join(10)
    assert (len(one[0]["keypoints"]), len(two[0]["keypoints"])) == (1, 2)
    with pytest.raises(Abandoned):
        model.outputs(crops[:1])


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads")
def test_threads_of_pictures_give_way_to_the_network():
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def at_work():
        workers = Workers(Limits())
        try:
            return await workers.run(niceness)
        finally:
            workers.close()

    here = niceness()
    assert asyncio.run(at_work()) > here
    assert niceness() == here
