"""Prometheus metrics of the embedded server."""

from __future__ import annotations

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.manifest import Manifest
from serving.routing import Routed

_SCORE_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """Counts what was served, into the registry that it receives.

    "Avoided" compares each image with the full ensemble, which runs every expert and no router.
    """

    def __init__(self, registry: CollectorRegistry, manifest: Manifest, version: int) -> None:
        self.registry = registry
        self._manifest = manifest
        experts = range(1, manifest.num_experts + 1)
        self._images = Counter("ride_images", "Images classified.", registry=registry)
        self._experts_per_image = Histogram(
            "ride_experts_per_image",
            "Experts that an image took; the mean is the headline.",
            buckets=[float(expert) for expert in experts],
            registry=registry,
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
        self._scores = Histogram(
            "ride_router_score",
            "Scores that routers gave; above the threshold an image goes on.",
            ["router"],
            buckets=_SCORE_BUCKETS,
            registry=registry,
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
        info = Gauge(
            "ride_model_info",
            "Always 1; tells what is served.",
            ["model", "version"],
            registry=registry,
        )
        info.labels("ride", str(version)).set(1)
        for expert in experts:
            self._runs.labels(str(expert))

    def observe_images(self, routed: Routed) -> None:
        """Count a batch of answers."""
        costs = self._manifest.multiply_adds
        used = routed.experts_used
        asked = np.isfinite(routed.router_scores)
        spent = sum(
            costs.spent(int(experts), int(routers))
            for experts, routers in zip(used, asked.sum(axis=1), strict=True)
        )
        self._images.inc(len(routed))
        self._multiply_adds.inc(spent)
        self._multiply_adds_avoided.inc(max(0, len(routed) * costs.all_experts - spent))
        self._runs_avoided.inc(len(routed) * self._manifest.num_experts - int(used.sum()))
        for expert in range(1, self._manifest.num_experts + 1):
            self._runs.labels(str(expert)).inc(int((used >= expert).sum()))
        for experts in used:
            self._experts_per_image.observe(int(experts))
        for router in range(asked.shape[1]):
            histogram = self._scores.labels(str(router + 1))
            for score in routed.router_scores[asked[:, router], router]:
                histogram.observe(float(score))

    def observe_request(self, protocol: str, code: str, duration_s: float) -> None:
        """Count a request. `code` comes from a fixed table, so that labels stay bounded."""
        self._requests.labels(protocol, code).inc()
        self._duration.labels(protocol).observe(duration_s)
