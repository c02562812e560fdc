"""Metrics in a registry of Prometheus' client, each found by its definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.metrics.definitions import Kind, Metric
from serving.metrics.histograms import BatchHistogram, ExemplarLabels
from serving.metrics.measurements import Measurement

Family = TypeVar("Family", Counter, Gauge)


class Families:
    """Counters, gauges and histograms that what happens is added to. Any thread may."""

    def __init__(self, registry: CollectorRegistry, *metrics: Metric) -> None:
        self._counters: dict[Metric, Counter] = {}
        self._gauges: dict[Metric, Gauge] = {}
        self._histograms: dict[Metric, BatchHistogram] = {}
        for metric in metrics:
            described = metric.name, metric.help, metric.labels
            if metric.kind is Kind.HISTOGRAM:
                self._histograms[metric] = BatchHistogram(metric, registry)
            elif metric.kind is Kind.COUNTER:
                self._counters[metric] = Counter(*described, registry=registry)
            else:
                self._gauges[metric] = Gauge(*described, registry=registry)

    def record(self, measurements: Iterable[Measurement]) -> None:
        """Set gauges, and add to counters."""
        for metric, value, labels in measurements:
            if metric in self._gauges:
                _child(self._gauges[metric], labels).set(value)
            else:
                _child(self._counters[metric], labels).inc(value)

    def count(
        self, metric: Metric, amount: float, *labels: str, exemplar: ExemplarLabels | None = None
    ) -> None:
        """Add to a counter, for the request of this exemplar, if any."""
        its_labels = None if exemplar is None else dict(exemplar)
        _child(self._counters[metric], labels).inc(amount, its_labels)

    def observe(
        self,
        metric: Metric,
        values: NDArray[np.floating | np.integer],
        *labels: str,
        exemplars: Sequence[ExemplarLabels | None] = (),
    ) -> None:
        """Add values [N] to a histogram of at most one label; exemplars [N], or none at all."""
        self._histograms[metric].observe(values, *labels, exemplars=exemplars)

    def clear(self, *gauges: Metric) -> None:
        """Forget what gauges with labels show."""
        for metric in gauges:
            self._gauges[metric].clear()


def _child(family: Family, labels: tuple[str, ...]) -> Family:
    return family.labels(*labels) if labels else family


class ObservableGauges(Collector):
    """Gauges whose values are asked for at each scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        metrics: Sequence[Metric],
        read: Callable[[], Iterable[Measurement]],
    ) -> None:
        """`read` gives the values of these metrics as they are now, under all labels there are."""
        self._metrics = metrics
        self._read = read
        registry.register(self)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """For a scrape."""
        families = {
            metric: GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for metric in self._metrics
        }
        for metric, value, labels in self._read():
            families[metric].add_metric(labels, value)
        return families.values()
