"""THE routing algorithm: which images go on to which expert, and what the answer is.

Pure: no I/O, no clock, numpy only. `route` is a generator that *yields* the work it wants done (an
expert or a router on some rows) and is *sent* the outcome, so the same lines decide in the
embedded server, in Triton's Python backend and in offline evaluation; only the driver that runs
the graphs differs.

After expert i the mean of the logits of experts 1..i, plus the model's correction for that prefix
if it has one, is the estimate. Router i scores it, and a row goes on to expert i + 1 where its
score is above threshold i and i is below its `max_experts` (RIDE, ICLR 2021, section 3.3). Each
row is computed from that row alone, so an answer does not depend on the batch it came in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class RoutingRule:
    """How eagerly rows go on.

    Attributes:
        thresholds: of routers 1..K-1, in [0, 1]; a row goes on where its score is above.
        max_experts: between 1 and K.
        corrections: optional fp32 [K, C], added to the mean logits of prefix 1..K.
    """

    thresholds: tuple[float, ...]
    max_experts: int
    corrections: Float | None = None

    def __post_init__(self) -> None:
        if not all(0.0 <= threshold <= 1.0 for threshold in self.thresholds):
            raise ValueError("every threshold must lie between 0 and 1")
        if not 1 <= self.max_experts <= self.num_experts:
            raise ValueError(f"max_experts must lie between 1 and {self.num_experts}")

    @property
    def num_experts(self) -> int:
        """K, the number of experts of the full ensemble."""
        return len(self.thresholds) + 1


@dataclass(frozen=True)
class ExpertCall:
    """Run expert `expert` (from 1) on `rows` of the batch; send back an `ExpertOutput`."""

    expert: int
    rows: Rows


@dataclass(frozen=True)
class ExpertOutput:
    """What an expert said of the rows it was asked for: logits [n, C], embedding [n, D]."""

    logits: Float
    embedding: Float


@dataclass(frozen=True)
class RouterCall:
    """Run router `router` (from 1) on an embedding [n, D] and prefix logits [n, C].

    `rows` are the batch rows they belong to. Send back the scores, fp32 [n].
    """

    router: int
    rows: Rows
    embedding: Float
    prefix_logits: Float


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


Call = ExpertCall | RouterCall
Reply = ExpertOutput | Float
Routing = Generator[Call, Reply, Routed]


def route(batch_size: int, num_classes: int, rule: RoutingRule) -> Routing:
    """Route a batch of N rows; see the module's description.

    Yields `ExpertCall` (send back `ExpertOutput`) and `RouterCall` (send back scores); returns
    `Routed`. Experts are asked in order, each at most once, and only about rows that are left.
    """
    sums = np.zeros((batch_size, num_classes), dtype=np.float32)
    experts_used = np.zeros(batch_size, dtype=np.int32)
    scores = np.full((batch_size, rule.num_experts - 1), np.nan, dtype=np.float32)
    rows: Rows = np.arange(batch_size)
    for expert in range(1, rule.max_experts + 1):
        if not len(rows):
            break
        output = yield ExpertCall(expert, rows)
        assert isinstance(output, ExpertOutput)
        sums[rows] += output.logits
        experts_used[rows] = expert
        if expert == rule.max_experts:
            break
        prefix_logits = _prefix_logits(sums[rows], expert, rule.corrections)
        score = yield RouterCall(expert, rows, output.embedding, prefix_logits)
        assert isinstance(score, np.ndarray)
        scores[rows, expert - 1] = score
        rows = rows[score > rule.thresholds[expert - 1]]
    estimates = _prefix_logits(sums, experts_used, rule.corrections)
    return Routed(softmax(estimates), experts_used, scores)


def drive(
    routing: Routing,
    run_expert: Callable[[ExpertCall], ExpertOutput],
    run_router: Callable[[RouterCall], Float],
) -> Routed:
    """Run a routing to its end with one function that runs experts and one that runs routers."""
    try:
        call = next(routing)
        while True:
            reply = run_expert(call) if isinstance(call, ExpertCall) else run_router(call)
            call = routing.send(reply)
    except StopIteration as stop:
        routed: Routed = stop.value
        return routed


def softmax(logits: Float) -> Float:
    """Probabilities of logits [N, C], a row at a time."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: Float = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _prefix_logits(
    sums: Float, experts: int | NDArray[np.int32], corrections: Float | None
) -> Float:
    """Mean over `experts` (one number, or one a row) and the correction of that prefix."""
    count = np.asarray(experts, dtype=np.float32)
    means: Float = sums / (count[:, np.newaxis] if count.ndim else count)
    if corrections is not None:
        means = means + corrections[np.asarray(experts) - 1]
    return means
