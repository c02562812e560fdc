"""Definitions of metrics as prometheus_client has them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.metrics.definitions import Metric


def counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    """A definition's counter."""
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    """A definition's gauge."""
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)
