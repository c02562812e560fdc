"""Classifies encoded images with a model of Triton servers: decodes here, asks there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from serving.dataplane.classification import Answer, Classified, classified
from serving.errors import DeadlineExceeded, NoBackend
from serving.images.decode import ImageLimits
from serving.images.decoders import EncodedImage, ImageDecoders
from serving.images.waiting_room import WaitingRoom
from serving.metrics.answers import AnswerMetrics
from serving.metrics.registry import Registry
from serving.model.manifest import ImageSpec
from serving.model.parameters import NO_PARAMETERS, CostParameters
from serving.model.top_k import check_top_k
from serving.model.versions import ModelVersion
from serving.settings import Settings
from serving.tracing.request_context import exemplar_of_request, note_answer, note_step
from serving.triton.backend import TritonBackend
from serving.triton.backends import TritonBackends


class TritonFront:
    """What stands in for the embedded model where Triton runs it."""

    def __init__(self, backends: TritonBackends, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self._metrics = AnswerMetrics(registry, lambda: backends.models)
        self._backends = backends
        limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._decoders = ImageDecoders(limits, settings.threads)
        self._room = WaitingRoom(settings.most_images, settings.max_waiting_images)

    def close(self) -> None:
        """Stop the threads that decode."""
        self._decoders.close()

    @property
    def ready(self) -> bool:
        """Whether a Triton server is."""
        return self._backends.ready

    @property
    def served(self) -> ModelVersion:
        """The newest version that a Triton server serves.

        Raises:
            NoBackend: if none is ready.
        """
        models = self._backends.models
        if not models:
            raise NoBackend("no Triton server is ready; try again in a moment")
        newest = max(models)
        return ModelVersion(newest, models[newest])

    @contextmanager
    def admit(self) -> Iterator[_AdmittedImages]:
        """Take in a request before anything of it is read.

        Raises:
            NoBackend: if no Triton server can be asked.
        """
        self._backends.require_one()
        yield _AdmittedImages(self)

    async def classify(
        self, parameters: CostParameters, images: Sequence[EncodedImage], top_k: int
    ) -> Classified:
        """All images, or an error that names the first bad one.

        Raises:
            InvalidRequest: for no or too many images, a bad one, or parameters out of range.
            DeadlineExceeded: if it takes longer than a request may.
            Overloaded: if too many images wait already, here or there.
            NoBackend: if no Triton server can be asked, or several were lost.
            BackendFault: if one failed, or its answer does not fit the model.
        """
        prepared = _PreparedImages(self._decoders, images)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.request_timeout_s

        async def ask(backend: TritonBackend, model: ModelVersion) -> Classified:
            check_top_k(model.manifest, top_k)
            pixels = await prepared.pixels(model.manifest.image)
            start = time.monotonic()
            try:
                answer = await backend.infer(model, pixels, parameters, deadline - loop.time())
            finally:
                note_step("triton", start, **{"server.address": backend.address})
            self._observe(model, answer, parameters)
            return classified(str(model.number), model.manifest, images, answer, top_k)

        with self._room.admit(len(images)):
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._backends.answer(ask)
            except TimeoutError:
                raise DeadlineExceeded from None

    def _observe(self, model: ModelVersion, answer: Answer, parameters: CostParameters) -> None:
        manifest, routed = model.manifest, answer.routed
        costs, exemplar = manifest.multiply_adds, exemplar_of_request()
        self._metrics.observe(routed, costs, model.number, exemplar)
        if answer.degraded:
            self._metrics.observe_degraded(len(routed))
        elif parameters.rule(manifest) == NO_PARAMETERS.rule(manifest):
            self._metrics.observe_own_rule(routed.experts_used)
        note_answer(routed.experts_used, degraded=answer.degraded)


class _AdmittedImages:
    """A request that some Triton server will answer."""

    def __init__(self, front: TritonFront) -> None:
        self._front = front
        self._parameters = NO_PARAMETERS

    def ask_for(self, parameters: CostParameters) -> None:
        """Have it cost what they say; Triton knows whether the model can."""
        self._parameters = parameters

    async def classify(self, images: Sequence[EncodedImage], top_k: int) -> Classified:
        """As `TritonFront.classify`."""
        return await self._front.classify(self._parameters, images, top_k)


class _PreparedImages:
    """A request's images as tensors, decoded once however many servers are tried."""

    def __init__(self, decoders: ImageDecoders, images: Sequence[EncodedImage]) -> None:
        self._decoders = decoders
        self._images = images
        self._by_spec: dict[ImageSpec, NDArray[np.uint8]] = {}

    async def pixels(self, spec: ImageSpec) -> NDArray[np.uint8]:
        """The images as a version of the model wants them, uint8 [N, H, W, 3].

        Servers may serve different versions, if only while they are being updated.
        """
        if spec not in self._by_spec:
            self._by_spec[spec] = await self._decoders.decode(self._images, spec)
        return self._by_spec[spec]
