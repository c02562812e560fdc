"""Images and experts by version: of those served, and of the newest that was before.

What is replaced a hundred times a day must not leave a hundred series behind.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from serving.metrics.definitions import VERSION_EXPERT_RUNS, VERSION_IMAGES, Metric
from serving.metrics.measurements import Measurement


class VersionCounts:
    """Any thread may record; versions change on one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families = {
            metric: Counter(metric.name, metric.help, metric.labels, registry=registry)
            for metric in (VERSION_IMAGES, VERSION_EXPERT_RUNS)
        }
        self._kept: dict[int, dict[Metric, Counter]] = {}
        """Those served last come last."""

    def serve(self, served: Iterable[int]) -> None:
        """Tell which versions are served from now on."""
        served = set(served)
        for version in sorted(served):
            label = str(version)
            children = {metric: family.labels(label) for metric, family in self._families.items()}
            self._kept[version] = self._kept.pop(version, children)
        while len(self._kept) > len(served) + 1:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            for family in self._families.values():
                family.remove(str(oldest))

    def record(self, version: int, measurements: Iterable[Measurement]) -> None:
        """Count answers; late ones of versions that are kept no more are left out."""
        if kept := self._kept.get(version):
            for metric, amount, _ in measurements:
                kept[metric].inc(amount)
