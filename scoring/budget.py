"""Thresholds for a mean number of experts, found on a sample of the inputs themselves.

The model's own settings (its gears, its thresholds) say how the thresholds of its routers belong
together. Between them, and on to the ends where every image stops or goes on, thresholds are
interpolated; of all these settings, the most eager one that keeps to the budget is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from scoring.errors import InputError, ScoringError, ScoringStopped
from scoring.parts import Part, PartKey
from scoring.pipeline import Pipeline, PipelineSettings
from scoring.reader import ShardTask
from scoring.records import Record, Shard
from scoring.request import KeptFields, ScoringRequest
from serving.engine.graphs import Engine
from serving.model.manifest import Manifest
from serving.model.routing import Float

_IMAGES = 2048
_PLACES = 64
_STEPS = 250
"""Settings between two of the model's own."""


@dataclass(frozen=True)
class BudgetSolution:
    """Thresholds [K-1], and the mean experts that they give on so many sample images."""

    thresholds: tuple[float, ...]
    mean_experts: float
    images: int


def solve_budget(
    engine: Engine,
    shards: Sequence[Shard],
    mean_experts: float,
    request: ScoringRequest,
    watch: Callable[[], bool] = lambda: False,
) -> BudgetSolution:
    """The most eager thresholds with which a sample takes at most so many experts on average.

    The sample is 2,048 images from up to 64 places spread over the inputs, the same each time.

    Args:
        engine: the model.
        shards: the inputs.
        mean_experts: the budget.
        request: how to work.
        watch: as of `Pipeline.run`.

    Raises:
        ScoringError: if the budget can't be kept, no image can be read, or it was stopped.
    """
    experts = engine.manifest.num_experts
    if not 1 <= mean_experts <= experts:
        raise ScoringError(
            f"--budget is a mean number of experts, between 1 and {experts}, not {mean_experts:g}"
        )
    settings = PipelineSettings(
        KeptFields(1), _IMAGES, request.rows_of_a_batch, request.threads, request.limits
    )
    scores = _router_scores(engine, _SampleShard(tuple(shards)), settings, watch)
    best = BudgetSolution((1.0,) * (experts - 1), 1.0, len(scores))
    for thresholds in _settings(engine.manifest):
        mean = _mean_experts(scores, thresholds)
        if best.mean_experts < mean <= mean_experts:
            best = BudgetSolution(thresholds, mean, len(scores))
    return best


@dataclass(frozen=True)
class _SampleShard:
    """Images from places spread over some shards, as a shard of its own."""

    shards: tuple[Shard, ...]
    rows: int | None = None

    def read(self, skip: int = 0) -> Iterator[Record]:
        places = np.linspace(0, len(self.shards) - 1, _PLACES).round().astype(int)
        chosen = np.unique(places).tolist()
        each = -(-_IMAGES // len(chosen))
        records = (record for i in chosen for record in islice(self.shards[i].read(), each))
        yield from islice(records, skip, None)


def _router_scores(
    engine: Engine, sample: Shard, settings: PipelineSettings, watch: Callable[[], bool]
) -> Float:
    """What every router says of every image of a sample, fp32 [N, K-1]."""
    scores: dict[PartKey, Float] = {}

    def emit(part: Part) -> None:
        answered = part.experts_used[: len(part)] > 0
        scores[part.key] = part.router_scores[: len(part)][answered]

    eager = engine.rule(threshold=0.0)
    if not Pipeline(engine, eager, settings, emit).run([ShardTask(0, sample)], watch):
        raise ScoringStopped("stopped before the first image was scored")
    if not any(map(len, scores.values())):
        raise InputError("--budget needs a sample of the inputs, and none of it can be decoded")
    return np.concatenate([scores[key] for key in sorted(scores)])


def _settings(manifest: Manifest) -> Iterator[tuple[float, ...]]:
    """Settings of the thresholds from the most frugal to the most eager."""
    routers = manifest.num_experts - 1
    own = [gear.thresholds for gear in manifest.gears.values()] or [manifest.thresholds]
    ends = [(1.0,) * routers, (0.0,) * routers]
    points = np.array(sorted({*own, *ends}, key=lambda each: -sum(each)))
    for start, end in pairwise(points):
        for share in np.linspace(0, 1, _STEPS, endpoint=False):
            yield tuple((start + share * (end - start)).astype(np.float32).tolist())
    yield ends[1]


def _mean_experts(scores: Float, thresholds: tuple[float, ...]) -> float:
    # A score is missing (NaN) where a router before said 0, which no threshold lets go on.
    goes_on = np.logical_and.accumulate(scores > np.array(thresholds, np.float32), axis=1)
    return float(1 + goes_on.sum(axis=1).mean())
