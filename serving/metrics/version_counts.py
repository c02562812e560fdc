"""Images and experts by version: of those served, and of the newest that was before.

What is replaced a hundred times a day must not leave a hundred series behind. A version that comes
back goes on where it was: counters never fall.
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
        self._sums: dict[int, list[float]] = {}
        """What each of these counters has come to, of every version that was ever served."""

    def serve(self, served: Iterable[int]) -> None:
        """Tell which versions are served from now on."""
        served = set(served)
        with self._lock:
            for version in sorted(served):
                new = version not in self._kept
                self._kept.pop(version, None)
                self._kept[version] = None
                if new:
                    self._show(version)
            while len(self._kept) > len(served) + 1:
                oldest = next(iter(self._kept))
                del self._kept[oldest]
                for metric, _, labels in version_measurements(oldest, _NONE):
                    self._registry.remove(metric, *labels)

    def count(self, version: int, experts_used: NDArray[np.int32]) -> None:
        """Count answers [N]; late ones of a version that is kept no more show once it is back."""
        with self._lock:
            measured = version_measurements(version, experts_used)
            before = self._sums.get(version, [0.0] * len(measured))
            self._sums[version] = [
                total + each.value for total, each in zip(before, measured, strict=True)
            ]
            if version in self._kept:
                self._registry.record(measured)

    def _show(self, version: int) -> None:
        zeros = version_measurements(version, _NONE)
        sums = self._sums.get(version, [0.0] * len(zeros))
        self._registry.record(
            each._replace(value=total) for each, total in zip(zeros, sums, strict=True)
        )
