"""A Prometheus histogram that takes many values at once, as batches bring them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class BatchHistogram(Collector):
    """Histograms of one name, with at most one label. Any thread may observe."""

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        label: str | None = None,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = () if label is None else (label,)
        self._bounds = np.array([*buckets, np.inf], dtype=np.float64)
        self._names = [str(bound) for bound in map(float, buckets)] + ["+Inf"]
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()
        if label is None:
            self._add("")
        registry.register(self)

    def observe(self, values: NDArray[np.floating | np.integer], label: str = "") -> None:
        """Count finite values [N]."""
        places = np.searchsorted(self._bounds, values)  # the first bound that is not below
        counts = np.bincount(places, minlength=len(self._bounds))
        with self._lock:
            if label not in self._counts:
                self._add(label)
            self._counts[label] += counts
            self._sums[label] += float(values.sum())

    def collect(self) -> Iterable[Metric]:
        """For a scrape."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            for label, counts in self._counts.items():
                cumulated = counts.cumsum().tolist()
                buckets = list(zip(self._names, cumulated, strict=True))
                family.add_metric([label] if self._labels else [], buckets, self._sums[label])
        return [family]

    def _add(self, label: str) -> None:
        self._counts[label] = np.zeros(len(self._bounds), dtype=np.int64)
        self._sums[label] = 0.0
