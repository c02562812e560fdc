"""The one place that every transport calls: decode, route, count, answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidRequest, Overloaded, RequestTooLarge, RideError
from serving.images import ImageLimits, decode_image
from serving.live_model import LiveModel
from serving.loop_lag import LoopLag
from serving.manifest import IMAGE_MODEL_NAME, MODEL_NAME, ImageSpec, Manifest
from serving.metrics import Metrics
from serving.model_host import ModelHost
from serving.overload import Load
from serving.routing import Routed, RoutingRule
from serving.scheduler import ORDINARY, Urgency
from serving.settings import Settings
from serving.statistics import RequestTimes

_DECODE_MEMORY = 0.05
"""Weight of the newest image in the moving average of the time that decoding takes."""


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image (JPEG, PNG, ..) and the name that the client gave it, if any."""

    data: bytes
    name: str | None = None


@dataclass(frozen=True)
class Label:
    """A class and its probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Classification:
    """The answer for one image.

    Attributes:
        name: the client's name for the image, if it gave one.
        labels: the most probable classes, best first.
        experts_used: from 1 to K.
        router_scores: of the routers that were asked, in order.
        compute_share: multiply-adds spent, as a share of the full ensemble's.
    """

    name: str | None
    labels: tuple[Label, ...]
    experts_used: int
    router_scores: tuple[float, ...]
    compute_share: float


@dataclass(frozen=True)
class Answer:
    """What a request gets; `degraded` if too much load made it cost less than it asked for."""

    routed: Routed
    degraded: bool


@dataclass(frozen=True)
class Classified:
    """The answers for a request's images, by a version; see `Answer` for `degraded`."""

    version: str
    degraded: bool
    results: list[Classification]


class ClassificationService:
    """Classifies images with whichever version is live."""

    def __init__(self, host: ModelHost, settings: Settings, metrics: Metrics) -> None:
        self.host = host
        self.settings = settings
        self.metrics = metrics
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._threads = settings.threads
        self._decoders = ThreadPoolExecutor(self._threads, thread_name_prefix="ride-decoder")
        self.loop_lag = LoopLag()
        self._waiting = 0
        self._decoding = 0
        self._decode_seconds = 0.0

    def close(self) -> None:
        """Let running work end and stop all threads."""
        self._decoders.shutdown(cancel_futures=True)
        self.host.close()

    def exposition(self) -> bytes:
        """The metrics, as Prometheus scrapes them."""
        if not self.host.ready:
            return self.metrics.exposition((), 0)
        live = self.host.live
        level = self._load(live).level
        return self.metrics.exposition(live.scheduler.queue_depths, level)

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
        live.engine.check_top_k(top_k)
        answer = await self.infer_encoded(live, images, rule, urgency)
        manifest = live.engine.manifest
        results = [
            _classification(manifest, answer.routed, row, image.name, top_k)
            for row, image in enumerate(images)
        ]
        return Classified(live.version, answer.degraded, results)

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
        with _Stopwatch(live, IMAGE_MODEL_NAME) as stopwatch:
            allowed = self._admit(live, len(images), rule)
            try:
                pixels = await self._decoded(live, images)
                stopwatch.decoded()
                return await self._routed(live, pixels, rule, allowed, urgency, stopwatch)
            finally:
                self._leave(len(images))

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
            allowed = self._admit(live, len(images), rule)
            try:
                return await self._routed(live, images, rule, allowed, urgency, stopwatch)
            finally:
                self._leave(len(images))

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
        degraded = allowed is not asked
        if degraded:
            self.metrics.observe_degraded(len(images))
        stopwatch.answered(len(images), scheduled.queue_seconds)
        return Answer(scheduled.routed, degraded)

    def _admit(self, live: LiveModel, count: int, rule: RoutingRule) -> RoutingRule:
        """Take room for `count` images, all of it on the event loop's one thread.

        The value is the rule that the server's load allows. `_leave` gives the room back.
        """
        if count == 0:
            raise InvalidRequest("the request holds no image")
        # What will never fit is too large, rather than to be tried again.
        most = min(self.settings.max_images_per_request, self.settings.max_waiting_images)
        if count > most:
            raise RequestTooLarge(f"a request may hold {most} images, not {count}")
        level = self.require_time(live)
        if self._waiting + count > self.settings.max_waiting_images:
            raise _busy()
        self._waiting += count
        return live.ladder.apply(rule, level)

    def require_time(self, live: LiveModel) -> int:
        """The degradation level; for a transport, before it spends anything on a request.

        Raises:
            Overloaded: if no answer would come in time.
        """
        load = self._load(live)
        if load.refuse:
            raise _busy()
        return load.level

    def _leave(self, count: int) -> None:
        self._waiting -= count

    def _load(self, live: LiveModel) -> Load:
        decoding = self._decoding * self._decode_seconds / self._threads
        scheduler = live.scheduler
        expected = scheduler.seconds_to_answer(self._decoding) + decoding
        wait = max(scheduler.oldest_wait(), expected) + self.loop_lag.seconds
        return live.overload.observe(wait, time.monotonic())

    async def _decoded(self, live: LiveModel, images: Sequence[EncodedImage]) -> NDArray[np.uint8]:
        """All images, uint8 [N, H, W, 3], decoded side by side."""
        loop, spec = asyncio.get_running_loop(), live.engine.manifest.image
        self._decoding += len(images)
        futures = [
            loop.run_in_executor(self._decoders, self._decode, image, spec) for image in images
        ]
        try:
            return np.stack([await future for future in futures])
        except BaseException:
            for future in futures:
                future.cancel()
            # Those that already run end by themselves; their outcome is not wanted any more.
            await asyncio.gather(*futures, return_exceptions=True)
            raise
        finally:
            self._decoding -= len(images)

    def _decode(self, image: EncodedImage, spec: ImageSpec) -> NDArray[np.uint8]:
        start = time.perf_counter()
        try:
            pixels = decode_image(image.data, spec, self._limits)
        except RideError as error:
            if image.name is None:
                raise
            raise type(error)(f"{image.name}: {error}") from error
        took = time.perf_counter() - start
        self._decode_seconds += _DECODE_MEMORY * (took - self._decode_seconds)
        return pixels


def _busy() -> Overloaded:
    return Overloaded("the server is busy; try again in a moment")


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

    def decoded(self) -> None:
        self._decoding = time.perf_counter() - self._start

    def answered(self, rows: int, queue_seconds: float) -> None:
        self._rows, self._queue = rows, queue_seconds

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        total = time.perf_counter() - self._start
        if kind is not None:
            self._statistics.observe_failure(self._model, total)
        else:
            times = RequestTimes(self._queue, self._decoding, total)
            self._statistics.observe_request(self._model, self._rows, times)


def _classification(
    manifest: Manifest, routed: Routed, row: int, name: str | None, top_k: int
) -> Classification:
    probabilities = routed.probabilities[row]
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    scores = routed.router_scores[row]
    asked = tuple(float(score) for score in scores[np.isfinite(scores)])
    experts = int(routed.experts_used[row])
    spent = manifest.multiply_adds.spent(experts, len(asked))
    return Classification(
        name=name,
        labels=tuple(
            Label(manifest.class_names[index], int(index), float(probabilities[index]))
            for index in best
        ),
        experts_used=experts,
        router_scores=asked,
        compute_share=spent / manifest.multiply_adds.all_experts,
    )
