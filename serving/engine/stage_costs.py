"""What batches of each stage cost on this machine: measured at the start, which warms up too."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from serving.engine.graphs import Engine, host

_WORTH_IT = 0.97
"""A larger batch must take less than this share of a smaller one's time a row."""

_REPEATS = 2
"""The first run of a size also warms it up."""

_SURELY_TRIED = 16
_MOST_SECONDS_MEASURING = 0.5
_LARGEST_BATCH = 256


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
    spec = engine.manifest.image
    grey = np.full((size, spec.height, spec.width, 3), 128, dtype=np.uint8)
    times = []
    start = time.perf_counter()
    for step in engine.every_stage(grey):
        host(step.run.features)
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    return times
