"""The one façade that every transport of the embedded server calls.

A request is admitted before anything of it is read. What `DataPlane.admit` gives holds the version
that it began with, its rule and what load leaves of it, and is asked for the answer; transports
only translate.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.dataplane.catalogue import ModelDescription, require_client_model
from serving.dataplane.classification import Answer, Classified, classified
from serving.dataplane.gauges import observe_gauges
from serving.dataplane.inference import EXTENSIONS, InferRequest, InferResponse, response_of
from serving.dataplane.live_model import LiveModel
from serving.dataplane.metrics import EmbeddedMetrics
from serving.dataplane.model_host import ModelHost
from serving.dataplane.shared_memory import EXTENSION as SHARED_MEMORY
from serving.dataplane.shared_memory import SharedMemoryRegions
from serving.dataplane.stored_tensors import loaded, pieces_of, stored
from serving.dataplane.tensors import Array
from serving.dataplane.urgency import take_urgency
from serving.engine.jobs import ORDINARY, Urgency
from serving.engine.loop_lag import LoopLag
from serving.engine.overload import Allowed
from serving.errors import InvalidRequest, Overloaded
from serving.images.decode import ImageLimits
from serving.images.decoders import EncodedImage, ImageDecoders
from serving.images.formats import BY_DEFAULT
from serving.images.waiting_room import WaitingRoom
from serving.metrics.registry import Registry
from serving.metrics.statistics import Stopwatch
from serving.model.manifest import IMAGE_MODEL_NAME, MODEL_NAME
from serving.model.parameters import (
    CostParameters,
    parse_cost_parameters,
    without_reserved,
)
from serving.model.routing import RoutingRule
from serving.model.top_k import check_top_k
from serving.model.versions import ModelVersion
from serving.settings import Settings
from serving.tracing.request_context import note_answer


class DataPlane:
    """Answers requests with whichever version is live, and tells what there is."""

    def __init__(
        self,
        host: ModelHost,
        settings: Settings,
        metrics: EmbeddedMetrics,
        formats: tuple[str, ...] = BY_DEFAULT,
    ) -> None:
        self.host = host
        self.settings = settings
        self.metrics = metrics
        self.loop_lag = LoopLag()
        self.shared_memory = SharedMemoryRegions(
            enabled=settings.shared_memory,
            max_input_bytes=settings.max_body_bytes,
            max_total_bytes=settings.max_total_body_bytes,
        )
        limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels, formats)
        self.decoders = ImageDecoders(limits, settings.threads)
        self.room = WaitingRoom(settings.most_images, settings.max_waiting_images)
        observe_gauges(
            metrics.registry,
            host,
            self.loop_lag,
            lambda live: live.overload.observe(self._wait(live), time.monotonic()).level,
            settings.latency_objective_s,
        )

    def close(self) -> None:
        """Let running work end and stop all threads."""
        self.decoders.close()
        self.host.close()

    @contextmanager
    def admit(
        self,
        model: str = IMAGE_MODEL_NAME,
        version: str | None = None,
    ) -> Iterator[AdmittedRequest]:
        """Take in a request, for the length of a `with` block, before it is read.

        It counts as a failure of its model if the block raises, else as answered once it was.

        Raises:
            ModelNotFound: if there is no such model, not in that version, or it was unloaded.
            InvalidRequest: for a name that takes no requests.
            Overloaded: if no answer would come in time.
        """
        with self.host.live as live, Stopwatch(live.statistics, model) as stopwatch:
            description = live.catalogue.find_for_requests(model, version)
            wait_s = self._wait(live)
            if live.overload.refuses(wait_s):
                self._weigh(live, wait_s)
            yield AdmittedRequest(self, live, description, stopwatch, live.own_rule)

    def weigh(self, live: LiveModel) -> int:
        """Tell overload control of a request whose work is there: each is told once.

        Returns:
            The degradation level.

        Raises:
            Overloaded: if no answer would come in time.
        """
        return self._weigh(live, self._wait(live))

    @staticmethod
    def _weigh(live: LiveModel, wait_s: float) -> int:
        load = live.overload.observe(wait_s, time.monotonic())
        if load.refuse:
            raise Overloaded
        return load.level

    def _wait(self, live: LiveModel) -> float:
        """Seconds until a new answer would be there, as expected."""
        scheduler, decoders = live.scheduler, self.decoders
        expected = scheduler.seconds_to_answer(decoders.under_way) + decoders.seconds_left
        return max(scheduler.oldest_wait(), expected) + self.loop_lag.seconds

    @property
    def ready(self) -> bool:
        """Whether a version is served."""
        return self.host.ready

    @property
    def registry(self) -> Registry:
        """Of all its metrics."""
        return self.metrics.registry

    @property
    def served(self) -> ModelVersion:
        """The version that new requests go to.

        Raises:
            ModelNotFound: if it was unloaded.
        """
        engine = self.host.live.engine
        return ModelVersion(engine.version, engine.manifest)

    @property
    def extensions(self) -> tuple[str, ...]:
        """What is implemented of Triton's extensions and switched on."""
        return (*EXTENSIONS, SHARED_MEMORY) if self.shared_memory.enabled else EXTENSIONS

    def find(self, name: str, version: str | None) -> ModelDescription:
        """What is to be told of a model: one that clients call, or a graph behind it.

        Raises:
            ModelNotFound: if there is none, or not in that version.
        """
        return self.host.live.catalogue.find(name, version)

    def statistics(self, name: str | None, version: str | None) -> dict[str, Any]:
        """A model's statistics, or those of all.

        Raises:
            ModelNotFound: if there is none, or not in that version.
        """
        live = self.host.live
        if name:
            live.catalogue.find(name, version)
        return {"model_stats": live.statistics.describe(name or None)}

    async def index(self, *, ready: bool) -> list[dict[str, str]]:
        """Both models in every version of the repository, or in the one that is served."""
        states = await self.host.index()
        return [
            {
                "name": name,
                "version": state.version,
                "state": "READY" if state.ready else "UNAVAILABLE",
                "reason": state.reason,
            }
            for name in (MODEL_NAME, IMAGE_MODEL_NAME)
            for state in states
            if state.ready or not ready
        ]

    async def load_model(self, name: str, parameters: Collection[str]) -> None:
        """Load the latest version; both models are one. See `ModelHost.load`.

        Raises:
            ModelNotFound: if there is no model of this name.
            InvalidRequest: for parameters, which would bring a configuration or files.
        """
        require_client_model(name)
        if parameters:
            raise InvalidRequest("a model is loaded as it is in the repository: no parameters")
        await self.host.load()

    async def unload_model(self, name: str) -> None:
        """Serve it no more. See `ModelHost.unload`.

        Raises:
            ModelNotFound: if there is no model of this name.
        """
        require_client_model(name)
        await self.host.unload()


@dataclass
class AdmittedRequest:
    """A request that will be answered by the version that it began with.

    Attributes:
        model: what is asked, as clients see it.
        stopwatch: told of what is done for it.
        rule: what the request asks for; the model's own rule where it says nothing.
        urgency: its place in the queues.
    """

    plane: DataPlane
    live: LiveModel
    model: ModelDescription
    stopwatch: Stopwatch
    rule: RoutingRule
    urgency: Urgency = ORDINARY

    def ask_for(self, parameters: CostParameters) -> None:
        """Have it cost what they say.

        Raises:
            InvalidRequest: if one is out of range or contradicts another.
        """
        self.rule = self.live.rule(parameters)

    async def classify(self, images: Sequence[EncodedImage], top_k: int) -> Classified:
        """Classify encoded images; all of them, or an error that names the first bad one.

        Raises:
            InvalidRequest: for no or too many images, a bad one, or `top_k` out of range.
            DeadlineExceeded: if the deadline passes first.
            Overloaded: if too many images wait already.
        """
        manifest = self.live.engine.manifest
        check_top_k(manifest, top_k)
        answer = await self._answer_images(images)
        return classified(self.live.version, manifest, images, answer, top_k)

    async def infer(self, request: InferRequest, time_left_s: float | None = None) -> InferResponse:
        """Answer tensors; `time_left_s` is how long the transport will wait.

        Raises:
            InvalidRequest: for parameters out of range, an image that can't be read, too many rows,
                shared memory that does not hold the input or has no room for an output.
            RegionNotFound: if it names a region of shared memory that is not registered.
            DeadlineExceeded: if its own or its transport's deadline passes first.
            Overloaded: if too many images wait already.
        """
        # Found before any work is done, and held: they may be unregistered meanwhile.
        pieces = pieces_of(request.outputs, self.plane.shared_memory)
        parameters = without_reserved(request.parameters)
        self.urgency = take_urgency(parameters, time_left_s)
        self.ask_for(parse_cost_parameters(parameters))
        async with loaded(request.data, self.plane.shared_memory) as data:
            answer = await self._answer(data)
        names = self.live.engine.manifest.class_names
        return await stored(response_of(self.model, request, answer, names), pieces)

    async def _answer(self, data: Array) -> Answer:
        if self.model.name == MODEL_NAME:
            return await self._answer_pixels(data)
        images = [EncodedImage(file, f"row {row}") for row, file in enumerate(data.tolist())]
        return await self._answer_images(images)

    async def _answer_images(self, images: Sequence[EncodedImage]) -> Answer:
        """All of them, or an error that names the first bad one."""
        plane = self.plane
        self.stopwatch.begin()
        with plane.room.admit(len(images)):
            allowed = self._allowed()
            pixels = await plane.decoders.decode(images, self.live.engine.manifest.image)
            plane.metrics.stages.observe_decoding(self.stopwatch.decoded())
            return await self._routed(pixels, allowed)

    async def _answer_pixels(self, images: NDArray[np.uint8]) -> Answer:
        """Of prepared images, uint8 [N, H, W, 3]."""
        self.stopwatch.begin()
        self.live.engine.check(images)
        with self.plane.room.admit(len(images)):
            return await self._routed(images, self._allowed())

    def _allowed(self) -> Allowed:
        """What load leaves of the rule."""
        return self.live.ladder.apply(self.rule, self.plane.weigh(self.live))

    async def _routed(self, images: NDArray[np.uint8], allowed: Allowed) -> Answer:
        live = self.live
        scheduled = await live.scheduler.route(images, allowed.rule, self.urgency)
        live.observe_answers(images, scheduled.routed, allowed)
        note_answer(scheduled.routed.experts_used, degraded=allowed.degraded)
        self.stopwatch.answered(len(images), scheduled.queue_seconds)
        return Answer(scheduled.routed, allowed.degraded)
