"""A Prometheus histogram that takes many values at once, as batches bring them."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from serving.metric_definitions import Metric


class BatchHistogram(Collector):
    """Histograms of one name, with at most one label. Any thread may observe."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._metric = metric
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()
        if not metric.labels:
            self._add("")
        registry.register(self)

    def observe(self, values: NDArray[np.floating | np.integer], label: str = "") -> None:
        """Count finite values [N]."""
        counts = self._metric.bucket_counts(values)
        with self._lock:
            if label not in self._counts:
                self._add(label)
            self._counts[label] += counts
            self._sums[label] += float(values.sum())

    def collect(self) -> Iterable[Family]:
        """For a scrape."""
        metric = self._metric
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        with self._lock:
            for label, counts in self._counts.items():
                cumulated = counts.cumsum().tolist()
                buckets = list(zip(metric.bucket_names, cumulated, strict=True))
                family.add_metric([label] if metric.labels else [], buckets, self._sums[label])
        return [family]

    def _add(self, label: str) -> None:
        self._counts[label] = np.zeros(len(self._metric.bucket_names), dtype=np.int64)
        self._sums[label] = 0.0
