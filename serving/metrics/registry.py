"""The metrics of a server, as Prometheus scrapes them, each found by its definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import prometheus_client as prometheus
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client import Metric as Family
from prometheus_client import exposition as plain
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from serving.metrics.definitions import ALL_METRICS, Kind, Metric, Server
from serving.metrics.histograms import BatchHistogram, ExemplarLabels
from serving.metrics.measurements import Measurement
from serving.metrics.notes import Note, Notes

Labelled = TypeVar("Labelled", Counter, Gauge)


@dataclass(frozen=True)
class Exposition:
    """What a scrape gets, and of which type it is."""

    content: bytes
    content_type: str


class Registry(Collector):
    """All metrics that a server is said to have. Any thread may count, one scrapes."""

    def __init__(self, server: Server) -> None:
        # A second series for each counter, which costs a scrape a quarter of its time.
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._counters: dict[Metric, Counter] = {}
        self._gauges: dict[Metric, Gauge] = {}
        self._histograms: dict[Metric, BatchHistogram] = {}
        for metric in ALL_METRICS:
            if server in metric.servers:
                self._add(metric)
        self._notes: list[Notes[Any]] = []
        self._readers: list[Callable[[], Iterable[Measurement]]] = []
        self._read: set[Gauge] = set()
        """With labels: those that the readers set last."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def count(
        self, metric: Metric, amount: float, *labels: str, exemplar: ExemplarLabels | None = None
    ) -> None:
        """Add to a counter, for the request of this exemplar, if any."""
        its_labels = None if exemplar is None else dict(exemplar)
        _child(self._counters[metric], labels).inc(amount, its_labels)

    def record(self, measurements: Iterable[Measurement]) -> None:
        """Set gauges, and add to counters."""
        for metric, value, labels in measurements:
            if metric.kind is Kind.GAUGE:
                _child(self._gauges[metric], labels).set(value)
            else:
                self.count(metric, value, *labels)

    def observe(
        self,
        metric: Metric,
        values: NDArray[np.floating | np.integer],
        *labels: str,
        exemplars: Sequence[ExemplarLabels | None] = (),
    ) -> None:
        """Add values [N] to a histogram of at most one label; exemplars [N], or none at all."""
        self._histograms[metric].observe(values, *labels, exemplars=exemplars)

    def remove(self, metric: Metric, *labels: str) -> None:
        """Forget what a counter has under these labels."""
        self._counters[metric].remove(*labels)

    def notes(self, add_up: Callable[[list[Note]], object]) -> Notes[Note]:
        """Notes that are added up before each scrape at the latest."""
        notes = Notes(add_up)
        self._notes.append(notes)
        return notes

    def read_when_scraped(self, read: Callable[[], Iterable[Measurement]]) -> None:
        """Have gauges read at each scrape; under labels that are not read any more, they go."""
        self._readers.append(read)

    def exposition(self, accept: str = "") -> Exposition:
        """What a scrape gets that accepts these types: OpenMetrics, or the older text."""
        if "application/openmetrics-text" in accept:
            # Our names need no escaping, and looking at each of their letters takes a third longer.
            content: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
                self._registry, escaping=openmetrics.ALLOWUTF8
            )
            return Exposition(content, openmetrics.CONTENT_TYPE_LATEST)
        content = plain.generate_latest(self._registry)
        return Exposition(content, plain.CONTENT_TYPE_PLAIN_0_0_4)

    def collect(self) -> Iterator[Family]:
        """For a scrape, up to date."""
        for notes in self._notes:
            notes.add_up()
        self._read_gauges()
        families = (self._counters, self._gauges, self._histograms)
        for family in chain.from_iterable(each.values() for each in families):
            yield from family.collect()

    def _read_gauges(self) -> None:
        for gauge in self._read:
            gauge.clear()
        measured = [measurement for read in self._readers for measurement in read()]
        self._read = {
            self._gauges[metric]
            for metric, _, labels in measured
            if labels and metric.kind is Kind.GAUGE
        }
        self.record(measured)

    def _add(self, metric: Metric) -> None:
        described = metric.name, metric.help, metric.labels
        match metric.kind:
            case Kind.COUNTER:
                self._counters[metric] = Counter(*described, registry=None)
            case Kind.GAUGE:
                self._gauges[metric] = Gauge(*described, registry=None)
            case Kind.HISTOGRAM:
                self._histograms[metric] = BatchHistogram(metric)


def _child(family: Labelled, labels: tuple[str, ...]) -> Labelled:
    return family.labels(*labels) if labels else family
