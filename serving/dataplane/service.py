"""The one place that every transport of the embedded server calls: admit, decode, route, count."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serving.dataplane.classification import (
    Answer,
    Classified,
    Classify,
    classified,
)
from serving.dataplane.gauges import observe_gauges
from serving.dataplane.live_model import LiveModel
from serving.dataplane.metrics import EmbeddedMetrics
from serving.dataplane.model_host import ModelHost
from serving.engine.loop_lag import LoopLag
from serving.engine.overload import Load
from serving.engine.scheduler import ORDINARY, Urgency
from serving.errors import Overloaded
from serving.images.decode import ImageLimits
from serving.images.decoders import EncodedImage, ImageDecoders
from serving.images.waiting_room import WaitingRoom
from serving.metrics.statistics import RequestTimes
from serving.model.manifest import IMAGE_MODEL_NAME, MODEL_NAME
from serving.model.parameters import ClassifyParameters
from serving.model.routing import RoutingRule
from serving.model.top_k import check_top_k
from serving.model.versions import ModelVersion
from serving.settings import Settings
from serving.tracing.request_context import note_answer


class ClassificationService:
    """Classifies images with whichever version is live."""

    def __init__(self, host: ModelHost, settings: Settings, metrics: EmbeddedMetrics) -> None:
        self.host = host
        self.settings = settings
        self.metrics = metrics
        limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._decoders = ImageDecoders(limits, settings.threads)
        self._room = WaitingRoom(settings.max_images_per_request, settings.max_waiting_images)
        self.loop_lag = LoopLag()
        observe_gauges(
            metrics.registry,
            host,
            self.loop_lag,
            lambda live: self._load(live).level,
            settings.latency_objective_s,
        )

    def close(self) -> None:
        """Let running work end and stop all threads."""
        self._decoders.close()
        self.host.close()

    @property
    def served(self) -> ModelVersion:
        """The version that new requests go to.

        Raises:
            ModelNotFound: if it was unloaded.
        """
        engine = self.host.live.engine
        return ModelVersion(engine.version, engine.manifest)

    @contextmanager
    def accept(self, parameters: ClassifyParameters) -> Iterator[Classify]:
        """Look at a request before its images are read; the value classifies them.

        Raises:
            ModelNotFound: if the model was unloaded.
            InvalidRequest: if a parameter is out of range or contradicts another.
            Overloaded: if no answer would come in time.
        """
        with self.host.live as live:
            rule = live.rule(parameters)
            self.require_time(live)
            yield lambda images: self.classify(live, images, rule, parameters.top_k)

    async def classify(
        self,
        live: LiveModel,
        images: Sequence[EncodedImage],
        rule: RoutingRule,
        top_k: int,
        urgency: Urgency = ORDINARY,
    ) -> Classified:
        """Classify encoded images; all of them, or an error that names the first bad one.

        Raises:
            InvalidRequest: for no or too many images, a bad one, or `top_k` out of range.
            DeadlineExceeded: if the deadline passes first.
            Overloaded: if too many images wait already.
        """
        manifest = live.engine.manifest
        check_top_k(manifest, top_k)
        answer = await self.infer_encoded(live, images, rule, urgency)
        return classified(live.version, manifest, images, answer, top_k)

    async def infer_encoded(
        self,
        live: LiveModel,
        images: Sequence[EncodedImage],
        rule: RoutingRule,
        urgency: Urgency = ORDINARY,
    ) -> Answer:
        """Decode and route encoded images; all of them, or an error that names the first bad one.

        Raises:
            InvalidRequest: for no or too many images, or a bad one.
            DeadlineExceeded: if the deadline passes first.
            Overloaded: if too many images wait already.
        """
        with _Stopwatch(live, IMAGE_MODEL_NAME) as stopwatch, self._room.admit(len(images)):
            allowed = self._allowed(live, rule)
            pixels = await self._decoders.decode(images, live.engine.manifest.image)
            self.metrics.stages.observe_decoding(stopwatch.decoded())
            return await self._routed(live, pixels, rule, allowed, urgency, stopwatch)

    async def infer(
        self,
        live: LiveModel,
        images: NDArray[np.uint8],
        rule: RoutingRule,
        urgency: Urgency = ORDINARY,
    ) -> Answer:
        """Classify prepared images, uint8 [N, H, W, 3].

        Raises:
            InvalidRequest: for a tensor of another type or shape, or too many rows.
            DeadlineExceeded: if the deadline passes first.
            Overloaded: if too many images wait already.
        """
        with _Stopwatch(live, MODEL_NAME) as stopwatch:
            live.engine.check(images)
            with self._room.admit(len(images)):
                allowed = self._allowed(live, rule)
                return await self._routed(live, images, rule, allowed, urgency, stopwatch)

    async def _routed(
        self,
        live: LiveModel,
        images: NDArray[np.uint8],
        asked: RoutingRule,
        allowed: RoutingRule,
        urgency: Urgency,
        stopwatch: _Stopwatch,
    ) -> Answer:
        scheduled = await live.scheduler.route(images, allowed, urgency)
        live.observe_answers(images, scheduled.routed, allowed)
        degraded = allowed is not asked
        if degraded:
            self.metrics.answers.observe_degraded(len(images))
        note_answer(scheduled.routed.experts_used, degraded=degraded)
        stopwatch.answered(len(images), scheduled.queue_seconds)
        return Answer(scheduled.routed, degraded)

    def require_time(self, live: LiveModel) -> int:
        """The degradation level; for a transport, before it spends anything on a request.

        Raises:
            Overloaded: if no answer would come in time.
        """
        load = self._load(live)
        if load.refuse:
            raise Overloaded
        return load.level

    def _allowed(self, live: LiveModel, rule: RoutingRule) -> RoutingRule:
        """The rule that the server's load leaves of the one that was asked for."""
        return live.ladder.apply(rule, self.require_time(live))

    def _load(self, live: LiveModel) -> Load:
        scheduler, decoders = live.scheduler, self._decoders
        expected = scheduler.seconds_to_answer(decoders.under_way) + decoders.seconds_left
        wait = max(scheduler.oldest_wait(), expected) + self.loop_lag.seconds
        return live.overload.observe(wait, time.monotonic())


class _Stopwatch:
    """Times a request's parts, in seconds, for the model's statistics, whatever comes of it."""

    def __init__(self, live: LiveModel, model: str) -> None:
        self._statistics = live.statistics
        self._model = model
        self._rows = 0
        self._decoding = 0.0
        self._queue = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def decoded(self) -> float:
        """Seconds that it took."""
        self._decoding = time.perf_counter() - self._start
        return self._decoding

    def answered(self, rows: int, queue_seconds: float) -> None:
        self._rows, self._queue = rows, queue_seconds

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        total = time.perf_counter() - self._start
        if kind is not None:
            self._statistics.observe_failure(self._model, total)
        else:
            times = RequestTimes(self._queue, self._decoding, total)
            self._statistics.observe_request(self._model, self._rows, times)
