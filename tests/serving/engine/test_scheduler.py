"""The stage scheduler on the bundled model's graphs: who runs with whom, and who is dropped."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.engine.graphs import Engine
from serving.engine.jobs import Urgency
from serving.engine.reports import BatchReport
from serving.engine.scheduler import Scheduler
from serving.engine.stage_costs import StageCosts
from serving.errors import DeadlineExceeded, InferenceError, Overloaded
from serving.model.routing import Routed, RoutingRule

Pixels = NDArray[np.uint8]
FLAT = StageCosts((1, 8), ((0.001, 0.001),) * 3)
"""Batches up to 8 cost what one row costs: rows that wait are run together."""


class Gate:
    """Stops the worker after each batch, until it is let on; keeps what it reported."""

    def __init__(self) -> None:
        self.reports: list[BatchReport] = []
        self._batch_done = threading.Semaphore(0)
        self._let_on = threading.Semaphore(0)
        self.closed = False

    def __call__(self, report: BatchReport) -> None:
        self.reports.append(report)
        self._batch_done.release()
        if not self.closed:
            self._let_on.acquire()

    async def next_batch(self) -> BatchReport:
        """Wait until a batch is done; the worker stands still then."""
        assert await asyncio.to_thread(self._batch_done.acquire, timeout=60)
        return self.reports[-1]

    def let_on(self) -> None:
        self._let_on.release()

    def open(self) -> None:
        self.closed = True
        self._let_on.release(1_000)


@contextmanager
def scheduler_of(
    engine: Engine,
    report: Callable[[BatchReport], None] = lambda _: None,
    workers: int = 1,
    costs: StageCosts = FLAT,
) -> Iterator[Scheduler]:
    scheduler = Scheduler(engine, costs, workers, report)
    try:
        yield scheduler
    finally:
        if isinstance(report, Gate):
            report.open()
        scheduler.close()


async def held_up(scheduler: Scheduler, gate: Gate, engine: Engine, image: Pixels) -> None:
    """Keep the only worker busy, so that what comes next waits together."""
    await scheduler.route(image, engine.rule(max_experts=1))
    await gate.next_batch()


def assert_answers(routed: Routed, expected: Routed) -> None:
    np.testing.assert_array_equal(routed.experts_used, expected.experts_used)
    np.testing.assert_allclose(routed.probabilities, expected.probabilities, rtol=0, atol=1e-5)
    np.testing.assert_allclose(routed.router_scores, expected.router_scores, rtol=0, atol=1e-5)


def test_images_of_several_requests_run_together_in_every_stage(
    engine: Engine, pixels: Pixels
) -> None:
    gate, every = Gate(), engine.rule(threshold=0.0)

    async def three_requests() -> list[Routed]:
        with scheduler_of(engine, gate) as scheduler:
            await held_up(scheduler, gate, engine, pixels[:1])
            waiting = [
                asyncio.create_task(scheduler.route(pixels[i : i + 1], every)) for i in range(3)
            ]
            await asyncio.sleep(0)
            gate.open()
            return [scheduled.routed for scheduled in await asyncio.gather(*waiting)]

    answers = asyncio.run(three_requests())
    assert [(report.stage, report.rows) for report in gate.reports] == [
        (1, 1), (1, 3), (2, 3), (3, 3),
    ]  # fmt: skip
    for i, answer in enumerate(answers):
        assert_answers(answer, engine.classify(pixels[i : i + 1], every))


def test_an_image_that_is_done_does_not_wait_for_its_batch(engine: Engine, pixels: Pixels) -> None:
    gate = Gate()

    async def one_goes_on() -> None:
        with scheduler_of(engine, gate) as scheduler:
            await held_up(scheduler, gate, engine, pixels[:1])
            short = asyncio.create_task(
                scheduler.route(pixels[:1], engine.rule(threshold=0.0, max_experts=1))
            )
            long = asyncio.create_task(scheduler.route(pixels[1:2], engine.rule(threshold=0.0)))
            await asyncio.sleep(0)
            gate.let_on()
            report = await gate.next_batch()
            assert (report.stage, report.rows, len(report.done)) == (1, 2, 1)
            assert (await short).routed.experts_used.tolist() == [1]
            assert not long.done()
            gate.open()
            assert (await long).routed.experts_used.tolist() == [3]

    asyncio.run(one_goes_on())


def test_cancelling_one_of_three_drops_its_rows_and_nobody_else_notices(
    engine: Engine, pixels: Pixels
) -> None:
    gate, every = Gate(), engine.rule(threshold=0.0)

    async def cancel_the_second() -> list[Routed]:
        with scheduler_of(engine, gate) as scheduler:
            await held_up(scheduler, gate, engine, pixels[:1])
            tasks = [
                asyncio.create_task(scheduler.route(pixels[i : i + 1], every)) for i in range(3)
            ]
            await asyncio.sleep(0)
            gate.let_on()
            report = await gate.next_batch()
            assert (report.stage, report.rows) == (1, 3)
            tasks[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[1]
            gate.open()
            return [(await tasks[i]).routed for i in (0, 2)]

    first, third = asyncio.run(cancel_the_second())
    assert [(report.stage, report.rows) for report in gate.reports[2:]] == [(2, 2), (3, 2)]
    assert_answers(first, engine.classify(pixels[0:1], every))
    assert_answers(third, engine.classify(pixels[2:3], every))


def test_a_deadline_that_passes_between_stages_drops_its_rows(
    engine: Engine, pixels: Pixels
) -> None:
    gate, every = Gate(), engine.rule(threshold=0.0)

    async def one_is_late() -> Routed:
        with scheduler_of(engine, gate) as scheduler:
            await held_up(scheduler, gate, engine, pixels[:1])
            hurried = Urgency(deadline=time.monotonic() + 0.3)
            late = asyncio.create_task(scheduler.route(pixels[:1], every, hurried))
            patient = asyncio.create_task(scheduler.route(pixels[1:2], every))
            await asyncio.sleep(0)
            gate.let_on()
            assert (await gate.next_batch()).rows == 2
            with pytest.raises(DeadlineExceeded, match="deadline passed"):
                await late
            gate.open()
            return (await patient).routed

    assert_answers(asyncio.run(one_is_late()), engine.classify(pixels[1:2], every))
    assert [(report.stage, report.rows) for report in gate.reports[2:]] == [(2, 1), (3, 1)]


def test_priority_goes_first_and_then_the_earlier_deadline(engine: Engine, pixels: Pixels) -> None:
    gate, one = Gate(), engine.rule(max_experts=1)
    single = StageCosts((1,), ((0.001,),) * 3)
    soon, later = time.monotonic() + 100, time.monotonic() + 200
    urgencies = {
        "ordinary": Urgency(),
        "later": Urgency(later),
        "soon": Urgency(soon),
        "first": Urgency(priority=1),
        "last": Urgency(soon, priority=10),
    }
    order: list[str] = []

    async def all_at_once() -> None:
        with scheduler_of(engine, gate, costs=single) as scheduler:
            await held_up(scheduler, gate, engine, pixels[:1])

            async def route(name: str) -> None:
                await scheduler.route(pixels[:1], one, urgencies[name])
                order.append(name)

            tasks = [asyncio.create_task(route(name)) for name in urgencies]
            await asyncio.sleep(0)
            gate.open()
            await asyncio.gather(*tasks)

    asyncio.run(all_at_once())
    assert order == ["first", "soon", "later", "ordinary", "last"]


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from([0.0, 0.4, 0.7, 1.0]), st.integers(1, 3)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 3),
    st.sampled_from([1, 2, 5, 16]),
)
def test_every_request_gets_what_it_would_get_alone(
    engine: Engine,
    pixels: Pixels,
    requests: Sequence[tuple[int, float, int]],
    workers: int,
    largest_batch: int,
) -> None:
    """Whatever the requests' sizes and rules, the workers and the batches."""
    costs = StageCosts((1, largest_batch + 1), ((0.001, 0.001),) * 3)
    cases = []
    for i, (size, threshold, most) in enumerate(requests):
        rows = np.arange(i * 7, i * 7 + size) % len(pixels)
        cases.append((pixels[rows], engine.rule(threshold=threshold, max_experts=most)))

    async def all_at_once() -> list[Routed]:
        with scheduler_of(engine, workers=workers, costs=costs) as scheduler:
            scheduled = await asyncio.gather(*(scheduler.route(*case) for case in cases))
            assert scheduler.queue_depths == [0, 0, 0]
            return [each.routed for each in scheduled]

    for routed, (images, rule) in zip(asyncio.run(all_at_once()), cases, strict=True):
        assert_far_from_thresholds(routed, rule)
        assert_answers(routed, engine.classify(images, rule))


def assert_far_from_thresholds(routed: Routed, rule: RoutingRule) -> None:
    """A score within rounding of its threshold would make the comparison meaningless."""
    distance = np.abs(routed.router_scores - np.array(rule.thresholds, dtype=np.float32))
    assert not (distance < 1e-5).any()


def test_a_graph_that_fails_fails_its_batch_and_the_next_one_is_answered(
    engine: Engine, pixels: Pixels
) -> None:
    """Stage 2 is another graph, which its inputs do not fit."""
    broken = replace(engine, sessions={**engine.sessions, "stage_2": engine.sessions["stage_1"]})

    async def both() -> None:
        with scheduler_of(broken) as scheduler:
            with pytest.raises(InferenceError, match="stage_2 failed"):
                await scheduler.route(pixels[:3], broken.rule(threshold=0.0))
            routed = (await scheduler.route(pixels[:3], broken.rule(max_experts=1))).routed
            assert_answers(routed, engine.classify(pixels[:3], engine.rule(max_experts=1)))

    asyncio.run(both())


def test_closing_fails_what_still_waits(engine: Engine, pixels: Pixels) -> None:
    gate = Gate()

    async def close_too_early() -> None:
        with scheduler_of(engine, gate) as scheduler:
            await held_up(scheduler, gate, engine, pixels[:1])
            waiting = asyncio.create_task(scheduler.route(pixels[:1], engine.rule()))
            await asyncio.sleep(0)
            closing = asyncio.create_task(asyncio.to_thread(scheduler.close))
            await asyncio.sleep(0.05)
            gate.open()
            await closing
            with pytest.raises(Overloaded, match="shutting down"):
                await waiting

    asyncio.run(close_too_early())


def test_what_waits_is_told_in_seconds_of_work(engine: Engine, pixels: Pixels) -> None:
    gate = Gate()

    async def four_wait() -> None:
        with scheduler_of(engine, gate) as scheduler:
            assert scheduler.seconds_to_answer() == 0
            assert scheduler.oldest_wait() == 0
            await held_up(scheduler, gate, engine, pixels[:1])
            waiting = asyncio.create_task(scheduler.route(pixels[:4], engine.rule()))
            await asyncio.sleep(0.05)
            assert scheduler.queue_depths == [4, 0, 0]
            assert scheduler.oldest_wait() >= 0.04
            now, later = scheduler.seconds_to_answer(), scheduler.seconds_to_answer(arriving=1)
            assert 0 < now < later < math.inf
            gate.open()
            await waiting

    asyncio.run(four_wait())


def test_features_may_stay_on_a_device_between_the_graphs(engine: Engine, pixels: Pixels) -> None:
    """IO binding as on an accelerator, with the CPU as the device."""
    bound, rule = replace(engine, device="cpu"), engine.rule(threshold=0.5)
    feeds = list(bound.every_stage(pixels[:2]))[1].feeds
    assert not isinstance(feeds["features"], np.ndarray)
    assert_answers(bound.classify(pixels, rule), engine.classify(pixels, rule))

    async def scheduled() -> Routed:
        with scheduler_of(bound) as scheduler:
            return (await scheduler.route(pixels, rule)).routed

    assert_answers(asyncio.run(scheduled()), engine.classify(pixels, rule))
