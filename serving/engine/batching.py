"""What a free worker should do next: which stage to run, on how many rows, or to wait. Pure.

A larger batch costs less a row on some machines and not on others, so every decision rests on what
batches cost here (`StageCosts`) and on how rows behaved so far (`StageEstimates`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serving.engine.stage_costs import StageCosts

_MEMORY = 0.05
"""Weight of the newest batch in a moving average."""

_URGENT_FACTOR = 2.0
"""A row is urgent once its deadline is nearer than so many times what it may still need."""


@dataclass(frozen=True)
class StageQueue:
    """What waits for a stage: how many rows, and the earliest deadline among them (clock time)."""

    rows: int
    deadline: float = math.inf


@dataclass(frozen=True)
class Run:
    """Run `size` rows of a stage (from 1)."""

    stage: int
    size: int


@dataclass(frozen=True)
class Wait:
    """Look again after so many seconds, or when rows arrive."""

    seconds: float


class StageEstimates:
    """How rows behave, learnt while serving: moving averages over batches.

    Attributes:
        stop_share: of each stage's rows, those that stopped there.
        row_seconds: of each stage, what one row costs a worker.
    """

    def __init__(self, costs: StageCosts) -> None:
        stages, best = len(costs.seconds), costs.best_batch
        self.row_seconds = [costs.of(stage, best) / best for stage in range(1, stages + 1)]
        self.stop_share = [0.5] * (stages - 1) + [1.0]

    def observe(self, stage: int, rows: int, stopped: int, seconds: float) -> None:
        """Learn from a batch of a stage (from 1)."""
        i = stage - 1
        self.stop_share[i] += _MEMORY * (stopped / rows - self.stop_share[i])
        self.row_seconds[i] += _MEMORY * (seconds / rows - self.row_seconds[i])

    def seconds_left(self, stage: int) -> float:
        """Worker time that a row needs on average, from a stage (from 1) to its answer."""
        left = 0.0
        pairs = zip(self.row_seconds[stage - 1 :], self.stop_share[stage - 1 :], strict=True)
        for seconds, stop in reversed(list(pairs)):
            left = seconds + (1 - stop) * left
        return left

    def backlog_seconds(self, rows: Sequence[int]) -> float:
        """Worker time that the rows waiting for each stage need."""
        return sum(count * self.seconds_left(i + 1) for i, count in enumerate(rows) if count)


@dataclass(frozen=True)
class BatchPolicy:
    """Decides by what finishes most images a second.

    Within a stage the earliest deadline goes first. Between stages, a row that may miss its
    deadline goes first; else the stage that finishes most images a second. On a CPU, where a batch
    costs what its rows cost, that is always the latest stage with rows; where small batches are
    dear, a later stage waits until enough rows have come together to beat a full earlier one.
    """

    costs: StageCosts
    estimates: StageEstimates

    def choose(
        self, queues: Sequence[StageQueue], now: float, idle_workers: int, arrival_gap: float
    ) -> Run | Wait | None:
        """What to do.

        Args:
            queues: of each stage.
            now: clock time.
            idle_workers: those with nothing to do, the one that asks included.
            arrival_gap: seconds until the next image arrives, as expected.

        Returns:
            What to run, how long to wait for company, or None if nothing waits.
        """
        options = [
            Run(stage, self.size(queue.rows, idle_workers))
            for stage, queue in enumerate(queues, 1)
            if queue.rows
        ]
        if not options:
            return None
        urgent = [run for run in options if self._is_urgent(queues[run.stage - 1], run, now)]
        if urgent:
            return min(urgent, key=lambda run: queues[run.stage - 1].deadline)
        best = max(options, key=self.finished_per_second)
        # Only at stage 1 rows arrive from outside; those of later stages come from work under way.
        if best.stage == 1 and idle_workers == 1 and self.wait_pays(best.size, arrival_gap):
            return Wait(arrival_gap)
        return best

    def size(self, rows: int, idle_workers: int) -> int:
        """Rows to take at once: a fair share for every idle worker, at most the best batch."""
        return min(math.ceil(rows / max(1, idle_workers)), self.costs.best_batch)

    def finished_per_second(self, run: Run) -> float:
        """Images that a batch finishes in a second of its time."""
        finished = run.size * self.estimates.stop_share[run.stage - 1]
        return finished / self.costs.of(run.stage, run.size)

    def wait_pays(self, rows: int, arrival_gap: float) -> bool:
        """Whether to wait for one more image makes the sum of all delays smaller.

        To run now delays each row by its batch's time, and the image to come by what is left of
        that time and its own. To wait delays each row by the gap and the larger batch's time. Where
        cost grows as the batch does, waiting never pays.
        """
        if rows >= self.costs.best_batch:
            return False
        now, together = self.costs.of(1, rows), self.costs.of(1, rows + 1)
        run = rows * now + max(0.0, now - arrival_gap) + self.costs.of(1, 1)
        wait = rows * (arrival_gap + together) + together
        return wait < run

    def _is_urgent(self, queue: StageQueue, run: Run, now: float) -> bool:
        later = range(run.stage + 1, len(self.costs.seconds) + 1)
        needed = self.costs.of(run.stage, run.size) + sum(self.costs.of(i, 1) for i in later)
        return queue.deadline - now < _URGENT_FACTOR * needed
