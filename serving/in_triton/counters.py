"""The metrics of serving/metrics/definitions.py in Triton's own /metrics.

Each increment is a message between two processes, which takes longer than all that is counted of an
image. So what happened is only noted here; twice a second a thread of its own adds it up and hands
it over. A histogram is three counters of the names that Prometheus gives its parts: for a histogram
Triton takes one value at a time, for a counter many at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serving.metrics import definitions as define
from serving.metrics.definitions import Kind, Metric, stage_label
from serving.metrics.measurements import (
    Measurement,
    answer_distributions,
    answer_measurements,
    model_measurements,
    own_rule_measurements,
    version_measurements,
)
from serving.model.manifest import Manifest
from serving.model.routing import Routed

_SECONDS_BETWEEN = 0.5

Labels = dict[str, str]


@dataclass
class _Notes:
    """What happened since it was handed over last."""

    answers: list[Routed] = field(default_factory=list)
    own_rule: list[NDArray[np.bool_]] = field(default_factory=list)
    """Of each of these, the images that the model's own rule answered."""
    stages: list[tuple[int, int, float]] = field(default_factory=list)
    """Stage, images, seconds."""
    requests: Counter[str] = field(default_factory=Counter)
    """By code."""


class Counters:
    """Counts of one instance of the model; Triton adds those of all instances up."""

    def __init__(self, version: int, manifest: Manifest) -> None:
        self._version = version
        self._costs = manifest.multiply_adds
        self._notes = _Notes()
        self._lock = threading.Lock()
        self._triton = TritonMetrics()
        self._triton.record(model_measurements(version, manifest))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._hand_over_regularly, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hand over what is left."""
        self._stop.set()
        self._thread.join()
        self._hand_over()

    def observe_stage(self, stage: int, rows: int, seconds: float) -> None:
        """Note a batch of a stage (from 1)."""
        with self._lock:
            self._notes.stages.append((stage, rows, seconds))

    def observe_images(self, routed: Routed, own_rule: NDArray[np.bool_]) -> None:
        """Note answers [N], and which of them are by the model's own rule."""
        with self._lock:
            self._notes.answers.append(routed)
            self._notes.own_rule.append(own_rule)

    def observe_requests(self, codes: Iterable[str]) -> None:
        """Note the codes of requests, of a fixed set, so that labels stay bounded."""
        with self._lock:
            self._notes.requests.update(codes)

    def _hand_over_regularly(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN):
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            notes, self._notes = self._notes, _Notes()
        for code, requests in notes.requests.items():
            self._triton.count(define.REQUESTS, requests, "triton", code)
        self._triton.count(define.COMPUTE_SECONDS, sum(run[2] for run in notes.stages))
        for stage in {stage for stage, _, _ in notes.stages}:
            rows, seconds = zip(*(run[1:] for run in notes.stages if run[0] == stage), strict=True)
            self._triton.observe(define.STAGE_BATCH_SIZE, np.array(rows), stage_label(stage))
            self._triton.observe(
                define.STAGE_COMPUTE_SECONDS, np.array(seconds), stage_label(stage)
            )
        if notes.answers:
            self._hand_over_images(notes.answers, np.concatenate(notes.own_rule))

    def _hand_over_images(self, answers: Sequence[Routed], own_rule: NDArray[np.bool_]) -> None:
        used = np.concatenate([routed.experts_used for routed in answers])
        scores = np.concatenate([routed.router_scores for routed in answers])
        self._triton.record(answer_measurements(used, scores, self._costs))
        self._triton.record(version_measurements(self._version, used))
        self._triton.record(own_rule_measurements(used[own_rule]))
        for metric, values, _, labels in answer_distributions(used, scores):
            self._triton.observe(metric, values, *labels)


def _named(metric: Metric, labels: tuple[str, ...]) -> Labels:
    return dict(zip(metric.labels, labels, strict=True))


class TritonMetrics:
    """Triton's families and metrics, each made when it is first needed."""

    def __init__(self) -> None:
        self._families: dict[str, Any] = {}
        self._metrics: dict[tuple[str, frozenset[tuple[str, str]]], Any] = {}

    def record(self, measurements: Iterable[Measurement]) -> None:
        """Set gauges, for as long as this lives, and add to counters."""
        for metric, value, labels in measurements:
            if metric.kind is Kind.COUNTER:
                self.count(metric, value, *labels)
            else:
                named, gauge = _named(metric, labels), pb_utils.MetricFamily.GAUGE
                self._metric(metric.name, metric, named, gauge).set(value)

    def count(self, metric: Metric, amount: float, *labels: str) -> None:
        """Add to a counter; one that has counted nothing is there all the same."""
        self._add(f"{metric.name}_total", metric, _named(metric, labels), amount)

    def observe(
        self, metric: Metric, values: NDArray[np.floating | np.integer], *labels: str
    ) -> None:
        """Add values to a histogram; each of its buckets has what is in those below it too."""
        if not len(values):
            return
        named = _named(metric, labels)
        cumulated = metric.bucket_counts(values).cumsum().tolist()
        for bound, count in zip(metric.bucket_names, cumulated, strict=True):
            self._add(f"{metric.name}_bucket", metric, {**named, "le": bound}, count)
        self._add(f"{metric.name}_sum", metric, named, float(values.sum()))
        self._add(f"{metric.name}_count", metric, named, len(values))

    def _add(self, name: str, metric: Metric, labels: Labels, amount: float) -> None:
        counter = self._metric(name, metric, labels, pb_utils.MetricFamily.COUNTER)
        if amount:
            counter.increment(amount)

    def _metric(self, name: str, metric: Metric, labels: Labels, kind: Any) -> Any:
        if name not in self._families:
            self._families[name] = pb_utils.MetricFamily(
                name=name, description=metric.help, kind=kind
            )
        key = name, frozenset(labels.items())
        if key not in self._metrics:
            self._metrics[key] = self._families[name].Metric(labels=labels)
        return self._metrics[key]
