"""Images and experts by version: of those served, and of the newest that was before.

What is replaced a hundred times a day must not leave a hundred series behind.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from serving.metrics.measurements import version_measurements
from serving.metrics.registry import Registry

_NONE = np.empty(0, dtype=np.int32)


class VersionCounts:
    """Any thread may use it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._kept: dict[int, None] = {}
        """Those served last come last."""

    def serve(self, served: Iterable[int]) -> None:
        """Tell which versions are served from now on."""
        served = set(served)
        with self._lock:
            for version in sorted(served):
                self._kept.pop(version, None)
                self._kept[version] = None
                self._registry.record(version_measurements(version, _NONE))
            while len(self._kept) > len(served) + 1:
                oldest = next(iter(self._kept))
                del self._kept[oldest]
                for metric, _, labels in version_measurements(oldest, _NONE):
                    self._registry.remove(metric, *labels)

    def count(self, version: int, experts_used: NDArray[np.int32]) -> None:
        """Count answers [N]; late ones of versions that are kept no more are left out."""
        with self._lock:
            if version in self._kept:
                self._registry.record(version_measurements(version, experts_used))
