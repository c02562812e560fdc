"""One stage of the model on a batch, and what batches of each stage cost here.

Between stages rows of different requests may meet; within one they stay together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engine.graphs import Engine, StageInputs, host
from serving.model.routing import Float, RoutingState, Rows

_WORTH_IT = 0.97
"""A larger batch must take less than this share of a smaller one's time a row."""

_REPEATS = 2
"""The first run of a size also warms it up."""

_SURELY_TRIED = 16
_MOST_SECONDS_MEASURING = 0.5
_LARGEST_BATCH = 256


@dataclass(frozen=True)
class StageResult:
    """What a stage did with a batch of N rows.

    Attributes:
        on: the rows that go on to the next stage.
        features: fp32 [N, ..], what the next stage takes; they may still be on the device.
        seconds: that the stage's graph took.
        embedding: fp32 [N, D], of the stage's expert; None where it wasn't asked for.
    """

    on: Rows
    features: StageInputs
    seconds: float
    embedding: Float | None = None


def run_stage(
    engine: Engine,
    stage: int,
    inputs: NDArray[Any],
    state: RoutingState,
    *,
    embedding: bool = False,
) -> StageResult:
    """Take a batch through a stage (from 1), changing `state`.

    `inputs` are images, uint8 [N, H, W, 3], for stage 1 and features, fp32 [N, ..], for others.

    Raises:
        InferenceError: if the runtime fails.
    """
    call = state.call(stage, np.arange(len(inputs)))
    start = time.perf_counter()
    run = engine.run_stage(call, inputs, embedding=embedding)
    seconds = time.perf_counter() - start
    on = state.advance(call, run.output)
    return StageResult(on, run.features, seconds, run.embedding)


@dataclass(frozen=True)
class StageCosts:
    """Seconds that each stage takes on batches, as measured on this machine.

    Attributes:
        sizes: batch sizes, rising from 1.
        seconds: of each stage, one number a size.
    """

    sizes: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]

    def of(self, stage: int, rows: int) -> float:
        """Seconds of a stage (from 1) on so many rows; between the sizes, a straight line."""
        seconds = self.seconds[stage - 1]
        if rows >= self.sizes[-1]:
            return seconds[-1] * rows / self.sizes[-1]
        for (low, cheap), (high, dear) in pairwise(zip(self.sizes, seconds, strict=True)):
            if rows <= high:
                return cheap + (dear - cheap) * (rows - low) / (high - low)
        return seconds[0]

    @property
    def best_batch(self) -> int:
        """The largest size measured: beyond it, a row of a batch costs no less."""
        return self.sizes[-1]


def through_all_stages(engine: Engine, rows: int) -> RoutingState:
    """Rows that no expert has seen, and that every expert will: no score makes them stop."""
    manifest = engine.manifest
    rule = engine.rule(threshold=0.0)
    state = RoutingState.start([rule] * rows, manifest.num_experts, manifest.num_classes)
    state.thresholds[:] = -np.inf  # a score of 0 is not above a threshold of 0
    return state


def measure_costs(engine: Engine) -> StageCosts:
    """Time every stage on batches of 1, 2, 4, .. for as long as a larger batch is worth it.

    This also warms the graphs up. Every row is sent through every stage.

    Raises:
        InferenceError: if the runtime fails.
    """
    deadline = time.perf_counter() + _MOST_SECONDS_MEASURING
    measured: dict[int, NDArray[np.float64]] = {}
    for size in (2**power for power in range(_LARGEST_BATCH.bit_length())):
        measured[size] = np.min([_time_stages(engine, size) for _ in range(_REPEATS)], axis=0)
        # A few sizes are always tried: another program may have disturbed one of them.
        tried_enough = size >= _SURELY_TRIED and _worthwhile(measured) < size
        if tried_enough or time.perf_counter() > deadline:
            break
    best = _worthwhile(measured)
    kept = {size: seconds.tolist() for size, seconds in measured.items() if size <= best}
    return StageCosts(tuple(kept), tuple(zip(*kept.values(), strict=True)))


def _worthwhile(measured: Mapping[int, NDArray[np.float64]]) -> int:
    """The smallest size at which a row costs hardly more than at the best one."""
    each = {size: float(seconds.sum()) / size for size, seconds in measured.items()}
    return next(size for size in each if _WORTH_IT * each[size] <= min(each.values()))


def _time_stages(engine: Engine, size: int) -> Sequence[float]:
    manifest = engine.manifest
    spec, experts = manifest.image, manifest.num_experts
    inputs: NDArray[Any] = np.full((size, spec.height, spec.width, 3), 128, dtype=np.uint8)
    state = through_all_stages(engine, size)
    times = []
    for stage in range(1, experts + 1):
        start = time.perf_counter()
        inputs = host(run_stage(engine, stage, inputs, state).features)
        times.append(time.perf_counter() - start)
    return times
