"""THE routing algorithm: which images go on to which expert, and what the answer is.

Pure: no I/O, no clock, numpy only. `RoutingState` is where rows stand between two stages, and
`advance` takes them past one; a server lets rows of different requests meet before each stage.
`route_rows` is the plain loop over it, for whoever has all rows at hand: the model inside Triton,
offline evaluation, a single batch.

Stage i is expert i and router i; stage 1 includes the backbone, and the last stage has no router.
The mean of the logits of experts 1..i, plus the model's correction for that prefix if it has one,
is the estimate. Router i scores it, and a row goes on to stage i + 1 where its score is above
threshold i and i is below its `max_experts` (RIDE, ICLR 2021, section 3.3). Each row is computed
from that row alone, so an answer does not depend on the batch it came in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class RoutingRule:
    """How eagerly rows go on. Rules of one model are equal where their numbers are.

    Attributes:
        thresholds: of routers 1..K-1, in [0, 1]; a row goes on where its score is above. Minus
            infinity sends every row on.
        max_experts: between 1 and K.
        corrections: optional fp32 [K, C], added to the mean logits of prefix 1..K; the model's, the
            same in all its rules.
    """

    thresholds: tuple[float, ...]
    max_experts: int
    corrections: Float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not all(0 <= each <= 1 or each == -math.inf for each in self.thresholds):
            raise ValueError("every threshold must lie between 0 and 1")
        if not 1 <= self.max_experts <= self.num_experts:
            raise ValueError(f"max_experts must lie between 1 and {self.num_experts}")

    @classmethod
    def every_expert(cls, num_experts: int, corrections: Float | None = None) -> RoutingRule:
        """The full ensemble's: all rows through all experts, whatever the scores."""
        return cls((-math.inf,) * (num_experts - 1), num_experts, corrections)

    @property
    def num_experts(self) -> int:
        """K, the number of experts of the full ensemble."""
        return len(self.thresholds) + 1


@dataclass(frozen=True)
class StageCall:
    """Run stage `stage` (from 1) on `rows` of the batch, which gives a `StageOutput`.

    `prefix_sum` [n, C] are the logits of the experts before, added up; zeros for stage 1.
    """

    stage: int
    rows: Rows
    prefix_sum: Float


@dataclass(frozen=True)
class StageOutput:
    """What a stage said of the n rows it was asked for.

    Attributes:
        logits: [n, C], of this stage's expert alone.
        score: [n], of its router; None after the last expert.
    """

    logits: Float
    score: Float | None


@dataclass(frozen=True)
class Routed:
    """The answers for a batch.

    Attributes:
        probabilities: fp32 [N, C].
        experts_used: int32 [N], from 1 to K.
        router_scores: fp32 [N, K-1]; NaN where a router was not asked.
    """

    probabilities: Float
    experts_used: NDArray[np.int32]
    router_scores: Float

    def __len__(self) -> int:
        return len(self.experts_used)

    def take(self, rows: Rows | NDArray[np.bool_]) -> Routed:
        """The answers for these rows alone, by their numbers or a mask."""
        return Routed(self.probabilities[rows], self.experts_used[rows], self.router_scores[rows])


@dataclass
class RoutingState:
    """Where N rows stand between one stage and the next. Each row may have a rule of its own.

    Attributes:
        sums: fp32 [N, C], the logits of the experts so far, added up.
        experts_used: int32 [N].
        router_scores: fp32 [N, K-1]; NaN where a router was not asked.
        thresholds: fp32 [N, K-1].
        max_experts: int32 [N].
        corrections: fp32 [K, C] or None, the model's, the same for every row.
    """

    sums: Float
    experts_used: NDArray[np.int32]
    router_scores: Float
    thresholds: Float
    max_experts: NDArray[np.int32]
    corrections: Float | None

    @classmethod
    def start(
        cls, rules: Sequence[RoutingRule], num_experts: int, num_classes: int
    ) -> RoutingState:
        """Rows that no expert has seen, one a rule; all rules are the same model's."""
        rows, routers = len(rules), num_experts - 1
        thresholds = np.array([rule.thresholds for rule in rules], dtype=np.float32)
        return cls(
            sums=np.zeros((rows, num_classes), dtype=np.float32),
            experts_used=np.zeros(rows, dtype=np.int32),
            router_scores=np.full((rows, routers), np.nan, dtype=np.float32),
            thresholds=thresholds.reshape(rows, routers),
            max_experts=np.array([rule.max_experts for rule in rules], dtype=np.int32),
            corrections=rules[0].corrections if rules else None,
        )

    @classmethod
    def gather(cls, places: Sequence[tuple[RoutingState, int]]) -> RoutingState:
        """One state of rows from several, each named by its state and its row there."""
        return cls(
            sums=np.stack([state.sums[row] for state, row in places]),
            experts_used=np.array([state.experts_used[row] for state, row in places]),
            router_scores=np.stack([state.router_scores[row] for state, row in places]),
            thresholds=np.stack([state.thresholds[row] for state, row in places]),
            max_experts=np.array([state.max_experts[row] for state, row in places]),
            corrections=places[0][0].corrections,
        )

    @classmethod
    def concatenate(cls, states: Sequence[RoutingState]) -> RoutingState:
        """The rows of several states, one state after the other; all are the same model's."""
        return cls(
            sums=np.concatenate([state.sums for state in states]),
            experts_used=np.concatenate([state.experts_used for state in states]),
            router_scores=np.concatenate([state.router_scores for state in states]),
            thresholds=np.concatenate([state.thresholds for state in states]),
            max_experts=np.concatenate([state.max_experts for state in states]),
            corrections=states[0].corrections,
        )

    def take(self, rows: Rows | slice) -> RoutingState:
        """A state of these rows alone; a slice shares its numbers with this one."""
        return RoutingState(
            sums=self.sums[rows],
            experts_used=self.experts_used[rows],
            router_scores=self.router_scores[rows],
            thresholds=self.thresholds[rows],
            max_experts=self.max_experts[rows],
            corrections=self.corrections,
        )

    def __len__(self) -> int:
        return len(self.experts_used)

    def call(self, stage: int, rows: Rows | None = None) -> StageCall:
        """What `rows`, or all, need next: to be run through `stage`."""
        rows = np.arange(len(self)) if rows is None else rows
        return StageCall(stage, rows, self.sums[rows])

    def advance(self, call: StageCall, output: StageOutput) -> Rows:
        """Take the rows of a call past its stage; returns those that go on to the next.

        Scores of rows that may not go on, because their rule allows them no further expert, decide
        nothing and are not kept.
        """
        stage, rows = call.stage, call.rows
        self.sums[rows] = call.prefix_sum + output.logits
        self.experts_used[rows] = stage
        if output.score is None:
            return rows[:0]
        may_go_on = self.max_experts[rows] > stage
        asked, score = rows[may_go_on], output.score[may_go_on]
        self.router_scores[asked, stage - 1] = score
        on: Rows = asked[score > self.thresholds[asked, stage - 1]]
        return on

    def answers(self, rows: Rows | None = None) -> Routed:
        """What the experts so far say of rows that go no further; of all, unless some are named."""
        rows = np.arange(len(self)) if rows is None else rows
        used = self.experts_used[rows]
        counts: Float = used[:, np.newaxis].astype(np.float32)
        estimates: Float = self.sums[rows] / counts
        if self.corrections is not None:
            estimates += self.corrections[used - 1]
        return Routed(softmax(estimates), used, self.router_scores[rows])


def route_rows(
    state: RoutingState,
    run_stage: Callable[[StageCall], StageOutput],
    still_wanted: Callable[[Rows], Rows] = lambda rows: rows,
) -> None:
    """Take all rows of a state that no expert has seen as far as they go.

    Stages are asked for in order, each at most once, and only about rows that are left; before each
    but the first, `still_wanted` may leave out some of these. What `run_stage` raises ends it.
    """
    rows: Rows = np.arange(len(state))
    stage = 1
    while len(rows):
        call = state.call(stage, rows)
        rows = still_wanted(state.advance(call, run_stage(call)))
        stage += 1


def route(
    batch_size: int,
    num_classes: int,
    rule: RoutingRule,
    run_stage: Callable[[StageCall], StageOutput],
) -> Routed:
    """The answers for a batch of N rows that have one rule; see `route_rows`."""
    state = RoutingState.start([rule] * batch_size, rule.num_experts, num_classes)
    route_rows(state, run_stage)
    return state.answers()


def softmax(logits: Float) -> Float:
    """Probabilities of logits [N, C], a row at a time."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: Float = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities
