"""Metrics of what this process runs itself: the stages of the model, and decoding before them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.engine.reports import BatchReport
from serving.metrics import definitions as define
from serving.metrics.definitions import stage_label
from serving.metrics.histograms import ExemplarLabels
from serving.metrics.registry import Registry
from serving.tracing.request_context import exemplar_of_request


class _BatchNote(NamedTuple):
    stage: int
    rows: int
    queue_seconds: NDArray[np.float64]
    seconds: float
    full_ensemble_s: float


class StageMetrics:
    """Counts and times batches and decoding. Any thread may observe."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._batches = registry.notes(self._add_up)
        self._decoded = registry.notes(self._add_up_decoded)

    def observe_batch(self, report: BatchReport, full_ensemble_s: float) -> None:
        """Count what a stage did.

        `full_ensemble_s` is how long all experts would have run on the images that began with it.
        """
        self._batches.add(
            _BatchNote(
                report.stage, report.rows, report.queue_seconds, report.seconds, full_ensemble_s
            )
        )

    def observe_decoding(self, seconds: float) -> None:
        """Time a request's images."""
        self._decoded.add((seconds, exemplar_of_request()))

    def _add_up(self, batches: Sequence[_BatchNote]) -> None:
        by_stage = defaultdict(list)
        for batch in batches:
            by_stage[stage_label(batch.stage)].append(batch)
        for stage, its_batches in by_stage.items():
            self._add_up_stage(stage, its_batches)

    def _add_up_stage(self, stage: str, batches: Sequence[_BatchNote]) -> None:
        seconds = np.array([batch.seconds for batch in batches])
        rows = np.array([batch.rows for batch in batches])
        waited = np.concatenate([batch.queue_seconds for batch in batches])
        full_ensemble_s = sum(batch.full_ensemble_s for batch in batches)
        self._registry.count(define.COMPUTE_SECONDS, float(seconds.sum()))
        self._registry.count(define.FULL_ENSEMBLE_SECONDS, full_ensemble_s)
        self._registry.observe(define.STAGE_BATCH_SIZE, rows, stage)
        self._registry.observe(define.STAGE_QUEUE_SECONDS, waited, stage)
        self._registry.observe(define.STAGE_COMPUTE_SECONDS, seconds, stage)

    def _add_up_decoded(self, decoded: Sequence[tuple[float, ExemplarLabels | None]]) -> None:
        if decoded:
            seconds, exemplars = zip(*decoded, strict=True)
            self._registry.observe(define.DECODING_SECONDS, np.array(seconds), exemplars=exemplars)
