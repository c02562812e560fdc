"""Metrics of requests, whatever they are for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving.metrics import definitions as define
from serving.metrics.histograms import ExemplarLabels
from serving.metrics.registry import Registry
from serving.tracing.request_context import exemplar_of_request


class _RequestNote(NamedTuple):
    protocol: str
    code: str
    duration_s: float | None
    exemplar: ExemplarLabels | None


class RequestMetrics:
    """Counts and times requests. Any thread may observe."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._notes = registry.notes(self._add_up)

    def observe(self, protocol: str, code: str, duration_s: float | None) -> None:
        """Count a request, and its time if it has one that matters.

        `code` comes from a fixed table, so that labels stay bounded.
        """
        self._notes.add(_RequestNote(protocol, code, duration_s, exemplar_of_request()))

    def _add_up(self, requests: Sequence[_RequestNote]) -> None:
        by_code = defaultdict(list)
        timed = defaultdict(list)
        for protocol, code, duration_s, exemplar in requests:
            by_code[protocol, code].append(exemplar)
            if duration_s is not None:
                timed[protocol].append((duration_s, exemplar))
        for labels, exemplars in by_code.items():
            newest = next(filter(None, reversed(exemplars)), None)
            self._registry.count(define.REQUESTS, len(exemplars), *labels, exemplar=newest)
        for protocol, its_requests in timed.items():
            durations, theirs = zip(*its_requests, strict=True)
            self._registry.observe(
                define.REQUEST_DURATION, np.array(durations), protocol, exemplars=theirs
            )
