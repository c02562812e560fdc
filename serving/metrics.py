"""Prometheus metrics: of answers and requests, and of the stages where this process runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.histograms import BatchHistogram
from serving.manifest import MODEL_NAME, Manifest, MultiplyAdds
from serving.routing import Routed
from serving.scheduler import BatchReport

_SCORE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))
_EXPERT_BUCKETS = tuple(float(experts) for experts in range(1, 9))
_BATCH_BUCKETS = tuple(float(2**power) for power in range(9))
_SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """Counts what was served, into the registry that it receives.

    "Avoided" compares each image with the full ensemble, which runs every expert and no router.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._images = Counter("ride_images", "Images classified.", registry=registry)
        self._degraded = Counter(
            "ride_images_degraded",
            "Images classified at reduced cost, because the server had too much to do.",
            registry=registry,
        )
        self._experts_per_image = BatchHistogram(
            "ride_experts_per_image",
            "Experts that an image took; the mean is the headline.",
            _EXPERT_BUCKETS,
            registry,
        )
        self._runs = Counter(
            "ride_expert_runs", "Images that each expert ran on.", ["expert"], registry=registry
        )
        self._runs_avoided = Counter(
            "ride_expert_runs_avoided",
            "Runs of an expert on an image that the full ensemble would have done in addition.",
            registry=registry,
        )
        self._multiply_adds = Counter(
            "ride_multiply_adds", "Multiply-adds spent on images.", registry=registry
        )
        self._multiply_adds_avoided = Counter(
            "ride_multiply_adds_avoided",
            "Multiply-adds that the full ensemble would have spent in addition.",
            registry=registry,
        )
        self._scores = BatchHistogram(
            "ride_router_score",
            "Scores that routers gave; above the threshold an image goes on.",
            _SCORE_BUCKETS,
            registry,
            "router",
        )
        self._requests = Counter(
            "ride_requests", "Requests answered.", ["protocol", "code"], registry=registry
        )
        self._duration = Histogram(
            "ride_request_duration_seconds",
            "Time from a request's arrival to its answer.",
            ["protocol"],
            registry=registry,
        )
        self._by_request: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._info = Gauge(
            "ride_model_info",
            "Always 1; tells what is served.",
            ["model", "version"],
            registry=registry,
        )

    def serve(self, served: Mapping[int, Manifest]) -> None:
        """Tell which versions are served from now on."""
        self._info.clear()
        for version, manifest in served.items():
            self._info.labels(MODEL_NAME, str(version)).set(1)
            for expert in range(1, manifest.num_experts + 1):
                self._runs.labels(str(expert))

    def observe_images(self, routed: Routed, costs: MultiplyAdds) -> None:
        """Count answers, at least one."""
        used, experts, images = routed.experts_used, len(costs.experts), len(routed)
        asked = np.isfinite(routed.router_scores)
        # Each image pays for the backbone, its experts and the routers that it asked.
        runs = [int((used >= expert).sum()) for expert in range(1, experts + 1)]
        spent = images * costs.backbone
        spent += sum(count * cost for count, cost in zip(runs, costs.experts, strict=True))
        routers = asked.sum(axis=0).tolist()
        spent += sum(count * cost for count, cost in zip(routers, costs.routers, strict=True))
        self._images.inc(images)
        self._multiply_adds.inc(spent)
        self._multiply_adds_avoided.inc(max(0, images * costs.all_experts - spent))
        self._runs_avoided.inc(images * experts - sum(runs))
        for expert, count in enumerate(runs, 1):
            self._runs.labels(str(expert)).inc(count)
        self._experts_per_image.observe(used)
        for router, rows in enumerate(asked.T, 1):
            if rows.any():
                self._scores.observe(routed.router_scores[rows, router - 1], str(router))

    def observe_degraded(self, images: int) -> None:
        """Count images that were answered at reduced cost."""
        self._degraded.inc(images)

    def observe_request(self, protocol: str, code: str, duration_s: float) -> None:
        """Count a request. `code` comes from a fixed table, so that labels stay bounded."""
        key = (protocol, code)
        if key not in self._by_request:  # finding a labelled metric costs more than counting
            children = (self._requests.labels(*key), self._duration.labels(protocol))
            self._by_request[key] = children
        requests, duration = self._by_request[key]
        requests.inc()
        duration.observe(duration_s)

    def exposition(self) -> bytes:
        """What a scrape gets."""
        return generate_latest(self.registry)


class StageMetrics(Metrics):
    """Counts what the stages do as well.

    A stage is named for its expert; that of the first includes the backbone.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self._batch_size = BatchHistogram(
            "ride_stage_batch_size",
            "Images that a stage ran together.",
            _BATCH_BUCKETS,
            registry,
            "stage",
        )
        self._queue_seconds = BatchHistogram(
            "ride_stage_queue_seconds",
            "Time that an image waited for a stage.",
            _SECONDS_BUCKETS,
            registry,
            "stage",
        )
        self._compute_seconds = BatchHistogram(
            "ride_stage_compute_seconds",
            "Time that a batch took in a stage's graphs.",
            _SECONDS_BUCKETS,
            registry,
            "stage",
        )
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
        stage = f"expert_{report.stage}"
        self._batch_size.observe(np.array([report.rows]), stage)
        self._queue_seconds.observe(report.queue_seconds, stage)
        self._compute_seconds.observe(np.array([sum(run.seconds for run in report.graphs)]), stage)
        if len(report.done):
            self.observe_images(report.done, costs)

    def observe_load(self, queue_depths: Sequence[int], degradation_level: int) -> None:
        """The state of things as it is now, for the next scrape."""
        self._queue_depth.clear()
        for stage, depth in enumerate(queue_depths, 1):
            self._queue_depth.labels(f"expert_{stage}").set(depth)
        self._level.set(degradation_level)
