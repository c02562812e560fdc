"""The metrics of metric_definitions.py in Triton's own /metrics.

Each increment is a message between two processes, which takes longer than all that is counted of an
image. So counts are added up here and handed over twice a second by a thread of their own. A
histogram is three counters of the names that Prometheus gives its parts: Triton takes one value at
a time for a histogram, and a counter takes many at once.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from serving import metric_definitions as define
from serving.image_counts import ImageCounts
from serving.manifest import MODEL_NAME, MultiplyAdds
from serving.metric_definitions import Metric, stage_label
from serving.routing import Routed

_SECONDS_BETWEEN = 0.5

Labels = tuple[tuple[str, str], ...]


class Counters:
    """Counts of one instance of the model; Triton adds those of all instances up."""

    def __init__(self, version: int, num_experts: int) -> None:
        self._pending: dict[tuple[str, Labels], float] = defaultdict(float)
        self._families: dict[str, Any] = {}
        self._metrics: dict[tuple[str, Labels], Any] = {}
        self._help: dict[str, str] = {}
        self._lock = threading.Lock()
        info = define.MODEL_INFO
        self._info_family = pb_utils.MetricFamily(
            name=info.name, description=info.help, kind=pb_utils.MetricFamily.GAUGE
        )
        labels = dict(zip(info.labels, (MODEL_NAME, str(version)), strict=True))
        self._info = self._info_family.Metric(labels=labels)
        self._info.set(1)
        for expert in range(1, num_experts + 1):
            self._count(define.EXPERT_RUNS, 0, str(expert))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._hand_over_regularly, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hand over what is left."""
        self._stop.set()
        self._thread.join()
        self._hand_over()

    def observe_stage(self, stage: int, rows: int, seconds: float) -> None:
        """Count a batch of a stage (from 1)."""
        label = stage_label(stage)
        self._observe(define.STAGE_BATCH_SIZE, np.array([rows]), label)
        self._observe(define.STAGE_COMPUTE_SECONDS, np.array([seconds]), label)

    def observe_images(self, routed: Routed, costs: MultiplyAdds) -> None:
        """Count answers."""
        counts = ImageCounts.of(routed, costs)
        self._count(define.IMAGES, counts.images)
        self._count(define.EXPERT_RUNS_AVOIDED, counts.expert_runs_avoided)
        self._count(define.MULTIPLY_ADDS, counts.multiply_adds)
        self._count(define.MULTIPLY_ADDS_AVOIDED, counts.multiply_adds_avoided)
        for expert, runs in enumerate(counts.expert_runs, 1):
            self._count(define.EXPERT_RUNS, runs, str(expert))
        self._observe(define.EXPERTS_PER_IMAGE, routed.experts_used)
        for router, scores in enumerate(counts.router_scores, 1):
            self._observe(define.ROUTER_SCORE, scores, str(router))

    def observe_requests(self, code: str, requests: int) -> None:
        """Count requests with an outcome of a fixed set, so that labels stay bounded."""
        self._count(define.REQUESTS, requests, "triton", code)

    def _count(self, metric: Metric, amount: float, *labels: str) -> None:
        named = tuple(zip(metric.labels, labels, strict=True))
        self._add(f"{metric.name}_total", metric, named, amount)

    def _observe(
        self, metric: Metric, values: NDArray[np.floating | np.integer], *labels: str
    ) -> None:
        if not len(values):
            return
        named = tuple(zip(metric.labels, labels, strict=True))
        cumulated = metric.bucket_counts(values).cumsum()
        for bound, count in zip(metric.bucket_names, cumulated.tolist(), strict=True):
            self._add(f"{metric.name}_bucket", metric, (*named, ("le", bound)), count)
        self._add(f"{metric.name}_sum", metric, named, float(values.sum()))
        self._add(f"{metric.name}_count", metric, named, len(values))

    def _add(self, name: str, metric: Metric, labels: Labels, amount: float) -> None:
        with self._lock:
            self._help[name] = metric.help
            self._pending[name, labels] += amount

    def _hand_over_regularly(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN):
            self._hand_over()

    def _hand_over(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, defaultdict(float)
        for key, amount in pending.items():
            if key not in self._metrics or amount:
                self._metric(*key).increment(amount)

    def _metric(self, name: str, labels: Labels) -> Any:
        if name not in self._families:
            self._families[name] = pb_utils.MetricFamily(
                name=name, description=self._help[name], kind=pb_utils.MetricFamily.COUNTER
            )
        if (name, labels) not in self._metrics:
            self._metrics[name, labels] = self._families[name].Metric(labels=dict(labels))
        return self._metrics[name, labels]
