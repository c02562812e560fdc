"""Prometheus metrics: of answers and requests, and of the stages where this process runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    exposition,
)
from prometheus_client.openmetrics import exposition as openmetrics

from serving import metric_definitions as define
from serving.audit.metrics import AuditMetrics
from serving.drift import StageDrift, expected_go_on
from serving.histograms import BatchHistogram
from serving.image_counts import ImageCounts
from serving.manifest import MODEL_NAME, Manifest, MultiplyAdds
from serving.metric_definitions import stage_label
from serving.metric_families import counter, gauge
from serving.request_context import exemplar_of_request
from serving.routing import Routed
from serving.scheduler import BatchReport


@dataclass(frozen=True)
class Exposition:
    """What a scrape gets, and of which type it is."""

    content: bytes
    content_type: str


class Metrics:
    """Counts what was served, into the registry that it receives."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        self._images = counter(define.IMAGES, registry)
        self._degraded = counter(define.DEGRADED, registry)
        self._experts_per_image = BatchHistogram(define.EXPERTS_PER_IMAGE, registry)
        self._runs = counter(define.EXPERT_RUNS, registry)
        self._runs_avoided = counter(define.EXPERT_RUNS_AVOIDED, registry)
        self._multiply_adds = counter(define.MULTIPLY_ADDS, registry)
        self._multiply_adds_avoided = counter(define.MULTIPLY_ADDS_AVOIDED, registry)
        self._scores = BatchHistogram(define.ROUTER_SCORE, registry)
        self._thresholds = gauge(define.ROUTER_THRESHOLD, registry)
        self._own_rule_images = counter(define.OWN_RULE_IMAGES, registry)
        self._expected_go_on = gauge(define.EXPECTED_GO_ON, registry)
        self._versions = _VersionCounts(registry)
        self._requests = counter(define.REQUESTS, registry)
        duration = define.REQUEST_DURATION
        self._duration = Histogram(
            duration.name,
            duration.help,
            duration.labels,
            registry=registry,
            buckets=duration.buckets,
        )
        self._by_request: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._info = gauge(define.MODEL_INFO, registry)

    def serve(self, served: Mapping[int, Manifest]) -> None:
        """Tell which versions are served from now on."""
        for changing in (self._info, self._thresholds, self._expected_go_on):
            changing.clear()
        self._versions.serve(served)
        for version, manifest in sorted(served.items()):  # the newest has the last word
            self._info.labels(MODEL_NAME, str(version)).set(1)
            for expert in range(1, manifest.num_experts + 1):
                self._runs.labels(str(expert))
                self._own_rule_images.labels(str(expert))
            for router, threshold in enumerate(manifest.thresholds, 1):
                self._thresholds.labels(str(router)).set(threshold)
            for stage, expected in enumerate(expected_go_on(manifest), 1):
                share = expected.on / expected.reached
                self._expected_go_on.labels(stage_label(stage)).set(share)

    def observe_images(
        self,
        routed: Routed,
        costs: MultiplyAdds,
        version: int,
        first_from: Mapping[str, str] | None = None,
    ) -> None:
        """Count answers, at least one; the first is of the request of this exemplar, if any."""
        counts = ImageCounts.of(routed.experts_used, routed.router_scores, costs)
        self._images.inc(counts.images)
        self._multiply_adds.inc(counts.multiply_adds)
        self._multiply_adds_avoided.inc(counts.multiply_adds_avoided)
        self._runs_avoided.inc(counts.expert_runs_avoided)
        for expert, count in enumerate(counts.expert_runs, 1):
            if count:
                self._runs.labels(str(expert)).inc(count)
        self._versions.observe(version, counts.images, sum(counts.expert_runs))
        self._experts_per_image.observe(routed.experts_used, "", first_from)
        for router, scores in enumerate(counts.router_scores, 1):
            if len(scores):
                first_asked = np.isfinite(routed.router_scores[0, router - 1])
                self._scores.observe(scores, str(router), first_from if first_asked else None)

    def observe_degraded(self, images: int) -> None:
        """Count images that were answered at reduced cost."""
        self._degraded.inc(images)

    def observe_own_rule(self, experts_used: NDArray[np.int32]) -> None:
        """Count images [N] that were answered by the model's own rule."""
        for experts, count in enumerate(np.bincount(experts_used).tolist()):
            if count:
                self._own_rule_images.labels(str(experts)).inc(count)

    def observe_request(self, protocol: str, code: str, duration_s: float | None) -> None:
        """Count a request, and its time if it has one that matters.

        `code` comes from a fixed table, so that labels stay bounded.
        """
        key = (protocol, code)
        if key not in self._by_request:  # finding a labelled metric costs more than counting
            children = (self._requests.labels(*key), self._duration.labels(protocol))
            self._by_request[key] = children
        requests, duration = self._by_request[key]
        exemplar = exemplar_of_request()
        requests.inc(1, exemplar)
        if duration_s is not None:
            duration.observe(duration_s, exemplar)

    def exposition(self, accept: str = "") -> Exposition:
        """What a scrape gets that accepts these types: OpenMetrics, or the older text."""
        if "application/openmetrics-text" in accept:
            content: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return Exposition(content, openmetrics.CONTENT_TYPE_LATEST)
        content = exposition.generate_latest(self.registry)
        return Exposition(content, exposition.CONTENT_TYPE_PLAIN_0_0_4)


class _VersionCounts:
    """Images and experts by version: of those served, and of the newest that was before.

    Whatever is replaced a hundred times a day must not leave a hundred series behind.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families = (
            counter(define.VERSION_IMAGES, registry),
            counter(define.VERSION_EXPERT_RUNS, registry),
        )
        self._kept: dict[int, tuple[Counter, Counter]] = {}
        """Those served last come last."""

    def serve(self, served: Mapping[int, Manifest]) -> None:
        images, runs = self._families
        for version in served:
            label = str(version)
            children = (images.labels(label), runs.labels(label))
            self._kept[version] = self._kept.pop(version, children)
        while len(self._kept) > len(served) + 1:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            for family in self._families:
                family.remove(str(oldest))

    def observe(self, version: int, images: int, runs: int) -> None:
        """Late answers of versions that are kept no more are counted elsewhere only."""
        if version in self._kept:
            its_images, its_runs = self._kept[version]
            its_images.inc(images)
            its_runs.inc(runs)


class StageMetrics(Metrics):
    """Counts what the stages do as well."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._compute = counter(define.COMPUTE_SECONDS, registry)
        self._full_ensemble = counter(define.FULL_ENSEMBLE_SECONDS, registry)
        self._batch_size = BatchHistogram(define.STAGE_BATCH_SIZE, registry)
        self._queue_seconds = BatchHistogram(define.STAGE_QUEUE_SECONDS, registry)
        self._compute_seconds = BatchHistogram(define.STAGE_COMPUTE_SECONDS, registry)
        self._decoding = BatchHistogram(define.DECODING_SECONDS, registry)
        self._queue_depth = gauge(define.QUEUE_DEPTH, registry)
        self._level = gauge(define.DEGRADATION_LEVEL, registry)
        self._loop_lag = gauge(define.EVENT_LOOP_LAG, registry)
        self._objective = gauge(define.LATENCY_OBJECTIVE, registry)
        self._go_on = gauge(define.GO_ON, registry)
        self._evidence = gauge(define.DRIFT_EVIDENCE, registry)
        self._drift = gauge(define.DRIFT_DETECTED, registry)
        self.audit = AuditMetrics(registry)

    def observe_batch(
        self, report: BatchReport, costs: MultiplyAdds, version: int, full_ensemble_s: float
    ) -> None:
        """Count what a stage did, and the answers that came of it.

        `full_ensemble_s` is how long all experts would have run on the images that began with it.
        """
        stage = stage_label(report.stage)
        self._compute.inc(report.seconds)
        self._full_ensemble.inc(full_ensemble_s)
        self._batch_size.observe(np.array([report.rows]), stage)
        self._queue_seconds.observe(report.queue_seconds, stage)
        self._compute_seconds.observe(np.array([report.seconds]), stage)
        if len(report.done):
            self.observe_images(report.done, costs, version, report.exemplar)

    def observe_decoding(self, seconds: float) -> None:
        """Time a request's images."""
        self._decoding.observe(np.array([seconds]), "", exemplar_of_request())

    def observe_load(
        self, queue_depths: Sequence[int], degradation_level: int, loop_lag_s: float
    ) -> None:
        """The state of things as it is now, for the next scrape."""
        self._queue_depth.clear()
        for stage, depth in enumerate(queue_depths, 1):
            self._queue_depth.labels(stage_label(stage)).set(depth)
        self._level.set(degradation_level)
        self._loop_lag.set(loop_lag_s)

    def observe_drift(self, stages: Sequence[StageDrift]) -> None:
        """How images behave, for the next scrape."""
        for gone in (self._go_on, self._evidence, self._drift):
            gone.clear()
        for drift in stages:
            stage = stage_label(drift.stage)
            if drift.observed.share is not None:
                self._go_on.labels(stage).set(drift.observed.share)
            self._evidence.labels(stage).set(drift.evidence)
            self._drift.labels(stage).set(drift.detected)

    def set_objective(self, seconds: float) -> None:
        """What overload control works for."""
        self._objective.set(seconds)
