"""Images and experts by version: of those served, and of the newest that was before.

What is replaced a hundred times a day must not leave a hundred series behind.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from serving.metrics import definitions as define
from serving.metrics.families import counter


class VersionCounts:
    """Any thread may observe; versions change on one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families = (
            counter(define.VERSION_IMAGES, registry),
            counter(define.VERSION_EXPERT_RUNS, registry),
        )
        self._kept: dict[int, tuple[Counter, Counter]] = {}
        """Those served last come last."""

    def serve(self, served: Iterable[int]) -> None:
        """Tell which versions are served from now on."""
        served = set(served)
        images, runs = self._families
        for version in sorted(served):
            label = str(version)
            children = (images.labels(label), runs.labels(label))
            self._kept[version] = self._kept.pop(version, children)
        while len(self._kept) > len(served) + 1:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            for family in self._families:
                family.remove(str(oldest))

    def observe(self, version: int, images: int, runs: int) -> None:
        """Count answers; late ones of versions that are kept no more are left out."""
        if kept := self._kept.get(version):
            its_images, its_runs = kept
            its_images.inc(images)
            its_runs.inc(runs)
