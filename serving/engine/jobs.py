"""A request's images between the event loop, where it waits, and the workers, which answer them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import RideError
from serving.model.routing import Routed, RoutingRule, RoutingState
from serving.tracing.request_context import current_request
from serving.tracing.timeline import Timeline

logger = logging.getLogger(__name__)

DEFAULT_PRIORITY = 5


@dataclass(frozen=True)
class Urgency:
    """What a request says of its place in the queues.

    Attributes:
        deadline: `time.monotonic()` after which nobody wants the answer.
        priority: lower goes first, whatever the deadlines.
    """

    deadline: float = math.inf
    priority: int = DEFAULT_PRIORITY


ORDINARY = Urgency()


@dataclass(frozen=True)
class Scheduled:
    """A request's answers, and for how long its first image waited to be taken up (seconds)."""

    routed: Routed
    queue_seconds: float


class Job:
    """A request's images, N of them, and the answers as they come."""

    def __init__(
        self,
        size: int,
        rule: RoutingRule,
        num_classes: int,
        urgency: Urgency,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.rule = rule
        self.urgency = urgency
        self.loop = loop
        request = current_request()  # worker threads can't ask for it
        self.exemplar = None if request is None else request.exemplar
        self.timeline = None if request is None else request.timeline
        self.future: asyncio.Future[Scheduled] = loop.create_future()
        self.abandoned = False
        self.arrived_at = time.monotonic()
        self.taken_at: float | None = None
        self.error: RideError | None = None
        self._left = size
        self._routed = Routed(
            np.empty((size, num_classes), dtype=np.float32),
            np.empty(size, dtype=np.int32),
            np.empty((size, rule.num_experts - 1), dtype=np.float32),
        )

    def answer(self, row: int, batch: Routed, place: int) -> bool:
        """Take over a row's answer from a batch's; whether it was the last one."""
        self._routed.probabilities[row] = batch.probabilities[place]
        self._routed.experts_used[row] = batch.experts_used[place]
        self._routed.router_scores[row] = batch.router_scores[place]
        self._left -= 1
        return not self._left

    def fail(self, error: RideError) -> None:
        self.abandoned = True
        self.error = error

    def resolve(self) -> None:
        """On the event loop: tell who waits."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            waited = (self.taken_at or self.arrived_at) - self.arrived_at
            self.future.set_result(Scheduled(self._routed, waited))


@dataclass(frozen=True, slots=True)
class QueuedImage:
    """An image between two stages: its request, and where its state and next input lie."""

    job: Job
    index: int
    queued_at: float
    inputs: NDArray[Any]
    place: int
    state: RoutingState | None = None


@dataclass
class StageBatch:
    """Rows of one stage that run together, of whatever requests."""

    stage: int
    rows: list[QueuedImage]
    taken_at: float


def resolve(jobs: Sequence[Job]) -> None:
    """Wake each event loop once, whatever the number of its requests that are done."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = defaultdict(list)
    for job in jobs:
        by_loop[job.loop].append(job)
    for loop, its_jobs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve_all, its_jobs)
        except RuntimeError:  # this loop is closed, and whoever waited there is gone
            logger.debug("an answer found its event loop closed")


def _resolve_all(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.resolve()


def note_steps(batch: StageBatch, now: float) -> None:
    """For each request that is traced: how long its images waited for this stage, and ran."""
    traced: dict[Timeline, list[float]] = defaultdict(list)
    for row in batch.rows:
        if row.job.timeline is not None:
            traced[row.job.timeline].append(row.queued_at)
    name = f"stage {batch.stage}"
    for timeline, queued_at in traced.items():
        about = {"ride.images": len(queued_at), "ride.batch_size": len(batch.rows)}
        timeline.add(f"queue for {name}", min(queued_at), batch.taken_at)
        timeline.add(name, batch.taken_at, now, **about)


def gather(rows: Sequence[QueuedImage]) -> NDArray[Any]:
    """The rows' inputs side by side; without a copy where they are a whole array already."""
    first = rows[0]
    whole = len(rows) == len(first.inputs) and all(
        row.inputs is first.inputs and row.place == i for i, row in enumerate(rows)
    )
    return first.inputs if whole else np.stack([row.inputs[row.place] for row in rows])
