"""Prometheus metrics: of answers and requests, and of the stages where this process runs them.

What happened is only noted, which costs next to nothing; it is added up, many at a time, once many
notes have come together or somebody looks.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import prometheus_client as prometheus
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.openmetrics import exposition as openmetrics

from serving.audit.metrics import AuditMetrics
from serving.engine.reports import BatchReport
from serving.metrics import definitions as define
from serving.metrics.definitions import stage_label
from serving.metrics.drift import StageDrift, expected_go_on
from serving.metrics.families import counter, gauge
from serving.metrics.histograms import BatchHistogram, Labels
from serving.metrics.version_counts import VersionCounts
from serving.model.image_counts import ImageCounts
from serving.model.manifest import MODEL_NAME, Manifest, MultiplyAdds
from serving.model.routing import Float, Routed
from serving.tracing.request_context import exemplar_of_request

_MOST_NOTES = 256
"""Of a kind; few enough that adding them up keeps nobody waiting."""

Note = TypeVar("Note")


@dataclass(frozen=True)
class Exposition:
    """What a scrape gets, and of which type it is."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class _Request:
    protocol: str
    code: str
    duration_s: float | None
    exemplar: Labels | None


@dataclass(frozen=True, slots=True)
class _Answers:
    """Answers without their probabilities, which would be many; the exemplar is of the first."""

    experts_used: NDArray[np.int32]
    router_scores: Float
    exemplar: Labels | None


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: int
    queue_seconds: NDArray[np.float64]
    seconds: float
    full_ensemble_s: float


class Metrics:
    """Counts what was served, into the registry that it receives. Any thread may observe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        # A second series for each counter, which costs a scrape a quarter of its time.
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
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
        self._versions = VersionCounts(registry)
        self._requests = counter(define.REQUESTS, registry)
        self._duration = BatchHistogram(define.REQUEST_DURATION, registry)
        self._info = gauge(define.MODEL_INFO, registry)
        self._adding_up = threading.Lock()
        self._request_notes: deque[_Request] = deque()
        self._answer_notes: deque[tuple[int, MultiplyAdds, _Answers]] = deque()
        self._own_rule_notes: deque[NDArray[np.int32]] = deque()

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
        first_from: Labels | None = None,
    ) -> None:
        """Count answers, at least one; the first is of the request of this exemplar, if any."""
        answers = _Answers(routed.experts_used, routed.router_scores, first_from)
        self._note(self._answer_notes, (version, costs, answers))

    def observe_degraded(self, images: int) -> None:
        """Count images that were answered at reduced cost."""
        self._degraded.inc(images)

    def observe_own_rule(self, experts_used: NDArray[np.int32]) -> None:
        """Count images [N] that were answered by the model's own rule."""
        self._note(self._own_rule_notes, experts_used)

    def observe_request(self, protocol: str, code: str, duration_s: float | None) -> None:
        """Count a request, and its time if it has one that matters.

        `code` comes from a fixed table, so that labels stay bounded.
        """
        request = _Request(protocol, code, duration_s, exemplar_of_request())
        self._note(self._request_notes, request)

    def exposition(self, accept: str = "") -> Exposition:
        """What a scrape gets that accepts these types: OpenMetrics, or the older text."""
        self.add_up()
        if "application/openmetrics-text" in accept:
            # Our names need no escaping, and looking at each of their letters takes a third longer.
            content: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
                self.registry, escaping=openmetrics.ALLOWUTF8
            )
            return Exposition(content, openmetrics.CONTENT_TYPE_LATEST)
        content = exposition.generate_latest(self.registry)
        return Exposition(content, exposition.CONTENT_TYPE_PLAIN_0_0_4)

    def add_up(self) -> None:
        """Bring the registry up to date with what was observed."""
        with self._adding_up:
            self._add_up()

    def _note(self, notes: deque[Note], note: Note) -> None:
        notes.append(note)
        if len(notes) >= _MOST_NOTES:
            self.add_up()

    def _add_up(self) -> None:
        self._add_up_requests(_taken(self._request_notes))
        by_version = defaultdict(list)
        for version, costs, answers in _taken(self._answer_notes):
            by_version[version, costs].append(answers)
        for (version, costs), its_answers in by_version.items():
            self._add_up_images(its_answers, costs, version)
        if own_rule := _taken(self._own_rule_notes):
            for experts, images in enumerate(np.bincount(np.concatenate(own_rule)).tolist()):
                if images:
                    self._own_rule_images.labels(str(experts)).inc(images)

    def _add_up_requests(self, requests: Sequence[_Request]) -> None:
        for (protocol, code), count in Counter(
            (request.protocol, request.code) for request in requests
        ).items():
            exemplars = [
                request.exemplar
                for request in requests
                if request.exemplar and (request.protocol, request.code) == (protocol, code)
            ]
            newest = dict(exemplars[-1]) if exemplars else None
            self._requests.labels(protocol, code).inc(count, newest)
        timed = defaultdict(list)
        for request in requests:
            if request.duration_s is not None:
                timed[request.protocol].append((request.duration_s, request.exemplar))
        for protocol, its_requests in timed.items():
            durations, theirs = zip(*its_requests, strict=True)
            self._duration.observe(np.array(durations), protocol, theirs)

    def _add_up_images(
        self, answers: Sequence[_Answers], costs: MultiplyAdds, version: int
    ) -> None:
        used = np.concatenate([each.experts_used for each in answers])
        scores = np.concatenate([each.router_scores for each in answers])
        exemplars = _of_rows(answers)
        counts = ImageCounts.of(used, scores, costs)
        self._images.inc(counts.images)
        self._multiply_adds.inc(counts.multiply_adds)
        self._multiply_adds_avoided.inc(counts.multiply_adds_avoided)
        self._runs_avoided.inc(counts.expert_runs_avoided)
        for expert, count in enumerate(counts.expert_runs, 1):
            self._runs.labels(str(expert)).inc(count)
        self._versions.observe(version, counts.images, sum(counts.expert_runs))
        self._experts_per_image.observe(used, "", exemplars)
        for router, given in enumerate(counts.router_scores, 1):
            if len(given):
                asked = np.isfinite(scores[:, router - 1]).tolist()
                of_asked = [each for each, was in zip(exemplars, asked, strict=False) if was]
                self._scores.observe(given, str(router), of_asked)


def _taken(notes: deque[Note]) -> list[Note]:
    """Take out what is there now; others may add meanwhile."""
    return [notes.popleft() for _ in range(len(notes))]


def _of_rows(answers: Sequence[_Answers]) -> list[Labels | None]:
    """Exemplars, one a row; empty if no row has one."""
    if not any(each.exemplar for each in answers):
        return []
    rows: list[Labels | None] = []
    for each in answers:
        rows += [each.exemplar, *[None] * (len(each.experts_used) - 1)]
    return rows


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
        self._batch_notes: deque[tuple[int, _Batch]] = deque()
        self._decoding_notes: deque[tuple[float, Labels | None]] = deque()

    def observe_batch(
        self, report: BatchReport, costs: MultiplyAdds, version: int, full_ensemble_s: float
    ) -> None:
        """Count what a stage did, and the answers that came of it.

        `full_ensemble_s` is how long all experts would have run on the images that began with it.
        """
        batch = _Batch(report.rows, report.queue_seconds, report.seconds, full_ensemble_s)
        if len(report.done):
            self.observe_images(report.done, costs, version, report.exemplar)
        self._note(self._batch_notes, (report.stage, batch))

    def observe_decoding(self, seconds: float) -> None:
        """Time a request's images."""
        self._note(self._decoding_notes, (seconds, exemplar_of_request()))

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

    def _add_up(self) -> None:
        super()._add_up()
        by_stage = defaultdict(list)
        for stage, batch in _taken(self._batch_notes):
            by_stage[stage].append(batch)
        for stage, batches in by_stage.items():
            self._add_up_batches(stage_label(stage), batches)
        if decoded := _taken(self._decoding_notes):
            seconds, exemplars = zip(*decoded, strict=True)
            self._decoding.observe(np.array(seconds), "", exemplars)

    def _add_up_batches(self, stage: str, batches: Sequence[_Batch]) -> None:
        seconds = np.array([batch.seconds for batch in batches])
        self._compute.inc(float(seconds.sum()))
        self._full_ensemble.inc(sum(batch.full_ensemble_s for batch in batches))
        self._batch_size.observe(np.array([batch.rows for batch in batches]), stage)
        self._queue_seconds.observe(
            np.concatenate([batch.queue_seconds for batch in batches]), stage
        )
        self._compute_seconds.observe(seconds, stage)
