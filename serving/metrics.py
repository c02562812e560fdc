"""Prometheus metrics: of answers and requests, and of the stages where this process runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving import metric_definitions as define
from serving.histograms import BatchHistogram
from serving.image_counts import ImageCounts
from serving.manifest import MODEL_NAME, Manifest, MultiplyAdds
from serving.metric_definitions import stage_label
from serving.routing import Routed
from serving.scheduler import BatchReport


class Metrics:
    """Counts what was served, into the registry that it receives."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(metric: define.Metric) -> Counter:
            return Counter(metric.name, metric.help, metric.labels, registry=registry)

        self._images = counter(define.IMAGES)
        self._degraded = Counter(
            "ride_images_degraded",
            "Images classified at reduced cost, because the server had too much to do.",
            registry=registry,
        )
        self._experts_per_image = BatchHistogram(define.EXPERTS_PER_IMAGE, registry)
        self._runs = counter(define.EXPERT_RUNS)
        self._runs_avoided = counter(define.EXPERT_RUNS_AVOIDED)
        self._multiply_adds = counter(define.MULTIPLY_ADDS)
        self._multiply_adds_avoided = counter(define.MULTIPLY_ADDS_AVOIDED)
        self._scores = BatchHistogram(define.ROUTER_SCORE, registry)
        self._requests = counter(define.REQUESTS)
        self._duration = Histogram(
            "ride_request_duration_seconds",
            "Time from a request's arrival to its answer; GET requests are left out.",
            ["protocol"],
            registry=registry,
        )
        self._by_request: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        info = define.MODEL_INFO
        self._info = Gauge(info.name, info.help, info.labels, registry=registry)

    def serve(self, served: Mapping[int, Manifest]) -> None:
        """Tell which versions are served from now on."""
        self._info.clear()
        for version, manifest in served.items():
            self._info.labels(MODEL_NAME, str(version)).set(1)
            for expert in range(1, manifest.num_experts + 1):
                self._runs.labels(str(expert))

    def observe_images(self, routed: Routed, costs: MultiplyAdds) -> None:
        """Count answers, at least one."""
        counts = ImageCounts.of(routed.experts_used, routed.router_scores, costs)
        self._images.inc(counts.images)
        self._multiply_adds.inc(counts.multiply_adds)
        self._multiply_adds_avoided.inc(counts.multiply_adds_avoided)
        self._runs_avoided.inc(counts.expert_runs_avoided)
        for expert, count in enumerate(counts.expert_runs, 1):
            self._runs.labels(str(expert)).inc(count)
        self._experts_per_image.observe(routed.experts_used)
        for router, scores in enumerate(counts.router_scores, 1):
            if len(scores):
                self._scores.observe(scores, str(router))

    def observe_degraded(self, images: int) -> None:
        """Count images that were answered at reduced cost."""
        self._degraded.inc(images)

    def observe_request(self, protocol: str, code: str, duration_s: float | None) -> None:
        """Count a request, and its time if it has one that matters.

        `code` comes from a fixed table, so that labels stay bounded.
        """
        key = (protocol, code)
        if key not in self._by_request:  # finding a labelled metric costs more than counting
            children = (self._requests.labels(*key), self._duration.labels(protocol))
            self._by_request[key] = children
        requests, duration = self._by_request[key]
        requests.inc()
        if duration_s is not None:
            duration.observe(duration_s)

    def exposition(self) -> bytes:
        """What a scrape gets."""
        return generate_latest(self.registry)


class StageMetrics(Metrics):
    """Counts what the stages do as well."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._batch_size = BatchHistogram(define.STAGE_BATCH_SIZE, registry)
        self._queue_seconds = BatchHistogram(define.STAGE_QUEUE_SECONDS, registry)
        self._compute_seconds = BatchHistogram(define.STAGE_COMPUTE_SECONDS, registry)
        self._queue_depth = Gauge(
            "ride_queue_depth", "Images that wait for a stage.", ["stage"], registry=registry
        )
        self._level = Gauge(
            "ride_degradation_level",
            "0 while answers cost what was asked for; each level is a cheaper gear of the model.",
            registry=registry,
        )

    def observe_batch(self, report: BatchReport, costs: MultiplyAdds) -> None:
        """Count what a stage did, and the answers that came of it."""
        stage = stage_label(report.stage)
        self._batch_size.observe(np.array([report.rows]), stage)
        self._queue_seconds.observe(report.queue_seconds, stage)
        self._compute_seconds.observe(np.array([report.seconds]), stage)
        if len(report.done):
            self.observe_images(report.done, costs)

    def observe_load(self, queue_depths: Sequence[int], degradation_level: int) -> None:
        """The state of things as it is now, for the next scrape."""
        self._queue_depth.clear()
        for stage, depth in enumerate(queue_depths, 1):
            self._queue_depth.labels(stage_label(stage)).set(depth)
        self._level.set(degradation_level)
