"""A Prometheus histogram that takes many values at once, as batches bring them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from serving.metrics.definitions import Metric

ExemplarLabels = Mapping[str, str]
"""By which a metric points to a request."""


class _Series:
    """What was counted under one label."""

    def __init__(self, buckets: int) -> None:
        self.counts = np.zeros(buckets, dtype=np.int64)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        """The newest of each bucket."""

    def buckets(self, names: Iterable[str]) -> list[tuple[str, int] | tuple[str, int, Exemplar]]:
        """As `HistogramMetricFamily` takes them: each has what is in those below it too."""
        cumulated = zip(names, self.counts.cumsum().tolist(), strict=True)
        return [
            (name, count, self.exemplars[place]) if place in self.exemplars else (name, count)
            for place, (name, count) in enumerate(cumulated)
        ]


class BatchHistogram(Collector):
    """Histograms of one name, with at most one label. Any thread may observe."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._series: dict[str, _Series] = {}
        self._lock = threading.Lock()
        if not metric.labels:
            self._find("")

    def observe(
        self,
        values: NDArray[np.floating | np.integer],
        label: str = "",
        *,
        exemplars: Sequence[ExemplarLabels | None] = (),
    ) -> None:
        """Count finite values [N]; those of requests with an exemplar have it at their place."""
        places = self._metric.bucket_places(values)
        with self._lock:
            series = self._find(label)
            series.counts += np.bincount(places, minlength=len(series.counts))
            series.sum += float(values.sum())
            newest = {int(places[i]): i for i, exemplar in enumerate(exemplars) if exemplar}
            for place, i in newest.items():
                exemplar = Exemplar(dict(exemplars[i] or {}), float(values[i]), time.time())
                series.exemplars[place] = exemplar

    def collect(self) -> Iterable[Family]:
        """For a scrape."""
        metric = self._metric
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        with self._lock:
            for label, series in self._series.items():
                labels = [label] if metric.labels else []
                family.add_metric(labels, series.buckets(metric.bucket_names), series.sum)
        return [family]

    def _find(self, label: str) -> _Series:
        if label not in self._series:
            self._series[label] = _Series(len(self._metric.bucket_names))
        return self._series[label]
