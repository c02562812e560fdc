"""The stage scheduler: images of all requests share one queue a stage.

Work is per image. A worker thread takes a batch of rows of one stage, whatever requests they belong
to, runs it, answers the rows that are done and queues the others for the next stage. A request that
was cancelled, or whose deadline passed, loses its rows when they would be taken up next; the others
in their batch don't notice.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from serving.engine.batching import BatchPolicy, Run, StageEstimates, StageQueue
from serving.engine.graphs import Engine, StageRun, host
from serving.engine.jobs import (
    ORDINARY,
    Job,
    QueuedImage,
    Scheduled,
    StageBatch,
    Urgency,
    gather,
    note_steps,
    resolve,
)
from serving.engine.reports import BatchReport
from serving.engine.stage_costs import StageCosts
from serving.errors import DeadlineExceeded, InferenceError, Overloaded, RideError
from serving.model.routing import RoutingRule, RoutingState, Rows

logger = logging.getLogger(__name__)

_WORKER_NICENESS = 5

_RUN_MEMORY = 0.02
"""Weight of the newest request in the moving average of the time that requests run."""

_ARRIVAL_MEMORY = 0.1
"""Weight of the newest request in the moving average of the time between images."""


@dataclass(order=True, slots=True)
class _Entry:
    priority: int
    deadline: float
    order: int
    row: QueuedImage = field(compare=False)


@dataclass(frozen=True)
class _Computed:
    """What a stage said of a batch, where its rows stand now, and which of them go on."""

    run: StageRun
    state: RoutingState
    on: Rows


class Scheduler:
    """Runs a model version's stages on worker threads. Close it when nobody waits any more."""

    def __init__(
        self,
        engine: Engine,
        costs: StageCosts,
        workers: int,
        report: Callable[[BatchReport], None],
    ) -> None:
        self._engine = engine
        self._report = report
        self._estimates = StageEstimates(costs)
        self._policy = BatchPolicy(costs, self._estimates)
        self._queues: list[list[_Entry]] = [[] for _ in costs.seconds]
        self._lock = threading.Lock()
        self._sleepers: list[threading.Semaphore] = []
        self._order = count()
        self._idle = 0
        self._closed = False
        self._last_arrival = time.monotonic()
        self._arrival_gap = math.inf
        self._run_seconds = 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"ride-worker-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    async def route(
        self, images: NDArray[np.uint8], rule: RoutingRule, urgency: Urgency = ORDINARY
    ) -> Scheduled:
        """Classify images, uint8 [N, H, W, 3], that `Engine.check` accepts.

        If the caller is cancelled, rows that wait are dropped.

        Raises:
            DeadlineExceeded: if the deadline passes first.
            InferenceError: if the runtime fails.
        """
        loop = asyncio.get_running_loop()
        job = Job(len(images), rule, self._engine.manifest.num_classes, urgency, loop)
        rows = self._arriving(job, images)
        self._enqueue(1, rows, wake=len(rows))
        try:
            if urgency.deadline == math.inf:
                return await job.future
            async with asyncio.timeout(max(0.0, urgency.deadline - time.monotonic())):
                return await job.future
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            job.abandoned = True

    @property
    def queue_depths(self) -> list[int]:
        """Rows that wait for each stage, those of cancelled requests included."""
        return [len(queue) for queue in self._queues]

    def seconds_to_answer(self, arriving: int = 0) -> float:
        """How long a new image's answer will take, as expected.

        The rows that wait now, and so many that are to come before it, keep the workers first;
        then it takes what images took lately from the moment that they were taken up.
        """
        depths = self.queue_depths
        depths[0] += arriving
        ahead = self._estimates.backlog_seconds(depths) / len(self._threads)
        # Where all workers rest, what images took under load says nothing.
        return ahead if self._rests(depths) else ahead + self._run_seconds

    @property
    def rests(self) -> bool:
        """Whether no worker works and nothing waits."""
        return self._rests(self.queue_depths)

    def oldest_wait(self) -> float:
        """Seconds for which the first row in line for stage 1 has waited; 0 if none does."""
        try:
            first = self._queues[0][0]  # no lock: a row that was just taken will do
        except IndexError:
            return 0.0
        return time.monotonic() - first.row.queued_at

    def close(self) -> None:
        """Let running batches end, fail what waits still, and stop the threads."""
        with self._lock:
            self._closed = True
            self._wake(len(self._threads))
        for thread in self._threads:
            thread.join()
        left = [entry.row.job for queue in self._queues for entry in queue]
        for job in left:
            job.fail(Overloaded("the server is shutting down"))
        resolve(left)

    def _rests(self, depths: Sequence[int]) -> bool:
        return self._idle == len(self._threads) and not any(depths)

    def _arriving(self, job: Job, images: NDArray[np.uint8]) -> list[QueuedImage]:
        now = time.monotonic()
        gap = (now - self._last_arrival) / len(images)
        self._last_arrival = now
        if math.isinf(self._arrival_gap):  # the first
            self._arrival_gap = gap
        self._arrival_gap += _ARRIVAL_MEMORY * (gap - self._arrival_gap)
        return [QueuedImage(job, row, now, images, row) for row in range(len(images))]

    def _enqueue(self, stage: int, rows: Sequence[QueuedImage], wake: int) -> None:
        with self._lock:
            queue = self._queues[stage - 1]
            for row in rows:
                urgency = row.job.urgency
                entry = _Entry(urgency.priority, urgency.deadline, next(self._order), row)
                heapq.heappush(queue, entry)
            self._wake(wake)

    def _wake(self, workers: int) -> None:
        """Wake so many of those that sleep, the last to fall asleep first: its caches are warm."""
        for _ in range(min(workers, len(self._sleepers))):
            self._sleepers.pop().release()

    def _sleep(self, alarm: threading.Semaphore, seconds: float | None) -> None:
        """Let go of the lock until woken, or for so many seconds."""
        self._sleepers.append(alarm)
        self._lock.release()
        woken = alarm.acquire(timeout=seconds)
        self._lock.acquire()
        if not woken:
            if alarm in self._sleepers:
                self._sleepers.remove(alarm)
            else:  # woken at the very end
                alarm.acquire()

    def _work(self) -> None:
        _yield_to_others()
        alarm = threading.Semaphore(0)
        while (batch := self._next_batch(alarm)) is not None:
            self._run(batch)

    def _next_batch(self, alarm: threading.Semaphore) -> StageBatch | None:
        """Wait for work; None once the scheduler is closed."""
        with self._lock:
            self._idle += 1
            try:
                while not self._closed:
                    now = time.monotonic()
                    choice = self._policy.choose(
                        [_waiting(queue) for queue in self._queues], now, self._idle, self._gap(now)
                    )
                    if isinstance(choice, Run):
                        if rows := self._take(choice, now):
                            return StageBatch(choice.stage, rows, now)
                    else:
                        self._sleep(alarm, choice.seconds if choice else None)
                return None
            finally:
                self._idle -= 1

    def _gap(self, now: float) -> float:
        """Seconds between images, as expected: at least as long as none has come."""
        return max(self._arrival_gap, now - self._last_arrival)

    def _take(self, run: Run, now: float) -> list[QueuedImage]:
        """Rows in order of urgency, without those that nobody wants any more."""
        queue = self._queues[run.stage - 1]
        rows: list[QueuedImage] = []
        late: list[Job] = []
        while queue and len(rows) < run.size:
            row = heapq.heappop(queue).row
            if row.job.abandoned:
                continue
            if row.job.urgency.deadline <= now:
                row.job.fail(DeadlineExceeded())
                late.append(row.job)
            else:
                if row.job.taken_at is None:
                    row.job.taken_at = now
                rows.append(row)
        resolve(late)
        return rows

    def _run(self, batch: StageBatch) -> None:
        try:
            self._answer(batch, self._compute(batch))
        except Exception as error:  # whatever it was, those who wait must hear of it
            logger.exception("a batch of stage %d failed", batch.stage)
            sentence = str(error) if isinstance(error, InferenceError) else "the model failed"
            self._fail(batch, InferenceError(sentence))

    def _compute(self, batch: StageBatch) -> _Computed:
        rows, manifest = batch.rows, self._engine.manifest
        if batch.stage == 1:
            rules = [row.job.rule for row in rows]
            state = RoutingState.start(rules, manifest.num_experts, manifest.num_classes)
        else:
            places = [(row.state, row.place) for row in rows if row.state is not None]
            state = RoutingState.gather(places)
        call = state.call(batch.stage)
        run = self._engine.run_stage(call, gather(rows))
        return _Computed(run, state, state.advance(call, run.output))

    def _answer(self, batch: StageBatch, computed: _Computed) -> None:
        now, run, state, goes_on = time.monotonic(), computed.run, computed.state, computed.on
        note_steps(batch, now)
        if len(goes_on):
            features = host(run.features)
            on = [
                QueuedImage(
                    batch.rows[place].job, batch.rows[place].index, now, features, place, state
                )
                for place in goes_on.tolist()
            ]
            # This worker looks for work next, and has their features in its caches.
            self._enqueue(batch.stage + 1, on, wake=len(on) - 1)
        done = np.setdiff1d(np.arange(len(batch.rows)), goes_on, assume_unique=True)
        answers = state.answers(done)
        with self._lock:
            # All that the batch took, waiting for a processor included.
            seconds = now - batch.taken_at
            self._estimates.observe(batch.stage, len(batch.rows), len(done), seconds)
            finished = [
                row.job
                for i, row in enumerate(batch.rows[place] for place in done.tolist())
                if row.job.answer(row.index, answers, i)
            ]
            for job in finished:
                if job.taken_at is not None:
                    took = now - job.taken_at
                    self._run_seconds += _RUN_MEMORY * (took - self._run_seconds)
        resolve(finished)
        waited = np.array([batch.taken_at - row.queued_at for row in batch.rows])
        exemplar = batch.rows[done[0]].job.exemplar if len(done) else None
        self._report(
            BatchReport(batch.stage, len(batch.rows), waited, run.seconds, answers, exemplar)
        )

    def _fail(self, batch: StageBatch, error: RideError) -> None:
        jobs = [row.job for row in batch.rows]
        for job in jobs:
            job.fail(error)
        resolve(jobs)


def _yield_to_others() -> None:
    """Let the event loop have a processor first when there are not enough: others wait for it."""
    if sys.platform == "linux":  # where niceness is a thread's own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _WORKER_NICENESS)


def _waiting(queue: Sequence[_Entry]) -> StageQueue:
    return StageQueue(len(queue), queue[0].deadline) if queue else StageQueue(0)
