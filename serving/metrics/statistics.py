"""Statistics of every model since the server started, as Triton's statistics extension has them.

The models are those that clients call, and the graphs behind them: an image that runs through a
graph counts as one request to it, so that a client can see where time goes, stage by stage.

Source: the Triton Inference Server's protocol extension "statistics".
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from serving.engine.reports import BatchReport
from serving.model.repository import graph_model

_NS = 1e9
_VERSIONS_KEPT = 8


@dataclass
class _Duration:
    count: int = 0
    ns: int = 0

    def add(self, count: int, seconds: float) -> None:
        """`seconds` is the sum over `count` occurrences."""
        self.count += count
        self.ns += int(seconds * _NS)


_KINDS = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)


@dataclass
class _ModelStatistics:
    inference_count: int = 0
    execution_count: int = 0
    last_inference_ms: int = 0
    durations: dict[str, _Duration] = field(
        default_factory=lambda: {kind: _Duration() for kind in _KINDS}
    )
    batches: dict[int, _Duration] = field(default_factory=lambda: defaultdict(_Duration))

    def executed(self, rows: int, seconds: float) -> None:
        self.inference_count += rows
        self.execution_count += 1
        self.last_inference_ms = int(time.time() * 1_000)
        self.batches[rows].add(1, seconds)


@dataclass(frozen=True)
class RequestTimes:
    """Seconds of a request: until its first image was taken up, decoding, and all in all."""

    queue: float
    decoding: float
    total: float


class Statistics:
    """Counts for the models named at the start. Any thread may count and read."""

    def __init__(self, models: Iterable[str], version: int) -> None:
        self._version = str(version)
        self._models = {name: _ModelStatistics() for name in models}
        self._lock = threading.Lock()

    def observe_batch(self, report: BatchReport) -> None:
        """Count a batch for the graph of its stage."""
        rows, waited = report.rows, float(report.queue_seconds.sum())
        computed = rows * report.seconds
        with self._lock:
            graph = self._models[graph_model(report.stage)]
            graph.executed(rows, report.seconds)
            graph.durations["queue"].add(rows, waited)
            graph.durations["compute_infer"].add(rows, computed)
            graph.durations["success"].add(rows, waited + computed)
            for kind in ("compute_input", "compute_output"):
                graph.durations[kind].add(rows, 0.0)

    def observe_request(self, model: str, rows: int, times: RequestTimes) -> None:
        """Count an answered request to a model that clients call."""
        with self._lock:
            its = self._models[model]
            its.executed(rows, times.total)
            its.durations["success"].add(1, times.total)
            its.durations["queue"].add(1, times.queue)
            its.durations["compute_input"].add(1, times.decoding)
            computing = max(0.0, times.total - times.queue - times.decoding)
            its.durations["compute_infer"].add(1, computing)
            its.durations["compute_output"].add(1, 0.0)

    def observe_failure(self, model: str, seconds: float) -> None:
        """Count a request that was answered with an error; one to no model is no model's."""
        with self._lock:
            if model in self._models:
                self._models[model].durations["fail"].add(1, seconds)

    def describe(self, model: str | None = None) -> list[dict[str, Any]]:
        """Of one model, or of all: the protocol's `model_stats`.

        Raises:
            KeyError: if there is no such model.
        """
        names = list(self._models) if model is None else [model]
        with self._lock:
            return [self._described(name, self._models[name]) for name in names]

    def _described(self, name: str, its: _ModelStatistics) -> dict[str, Any]:
        return {
            "name": name,
            "version": self._version,
            "last_inference": its.last_inference_ms,
            "inference_count": its.inference_count,
            "execution_count": its.execution_count,
            "inference_stats": {
                kind: {"count": duration.count, "ns": duration.ns}
                for kind, duration in its.durations.items()
            },
            "batch_stats": [
                {"batch_size": size, "compute_infer": {"count": batch.count, "ns": batch.ns}}
                for size, batch in sorted(its.batches.items())
            ],
        }


class StatisticsOfVersions:
    """Those of each version go on when it is loaded again, of the newest that were."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[str, ...]], Statistics] = {}

    def of(self, version: int, models: tuple[str, ...]) -> Statistics:
        """Of a version that is being loaded, with the names of its models and graphs."""
        key = version, models
        found = self._known.pop(key, None) or Statistics(models, version)
        self._known[key] = found
        while len(self._known) > _VERSIONS_KEPT:
            del self._known[next(iter(self._known))]
        return found


class Stopwatch:
    """Times a request and counts it for its model, once, as answered or failed."""

    def __init__(self, statistics: Statistics, model: str) -> None:
        self._statistics = statistics
        self._model = model
        self._rows = 0
        self._decoding = 0.0
        self._times: RequestTimes | None = None

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def begin(self) -> None:
        """The request is here; how long it took to send is the client's affair."""
        self._start = time.perf_counter()

    def decoded(self) -> float:
        """Seconds that decoding took."""
        self._decoding = time.perf_counter() - self._start
        return self._decoding

    def answered(self, rows: int, queue_seconds: float) -> None:
        """So many rows, the first of which waited so long; it may yet fail to reach its client."""
        total = time.perf_counter() - self._start
        self._rows, self._times = rows, RequestTimes(queue_seconds, self._decoding, total)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._statistics.observe_failure(self._model, time.perf_counter() - self._start)
        elif self._times is not None:
            self._statistics.observe_request(self._model, self._rows, self._times)
