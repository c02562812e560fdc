"""The one place that every transport calls: decode, route, count, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.engine import Engine
from serving.errors import InvalidRequest, Overloaded, RequestTooLarge, RideError
from serving.images import ImageLimits, decode_image
from serving.metrics import Metrics
from serving.parameters import CostParameters
from serving.routing import Routed, RoutingRule
from serving.settings import Settings

Item = TypeVar("Item")
Result = TypeVar("Result")

_ROWS_PER_TASK = 16
"""Rows that one worker routes at a time: enough to amortise calls, few enough to share out."""


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


class ClassificationService:
    """Classifies images with one engine on a pool of worker threads."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self.engine = engine
        self.settings = settings
        self.metrics = metrics
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="ride")
        self._waiting = 0

    def close(self) -> None:
        """Let running work end and stop the worker threads."""
        self._pool.shutdown(cancel_futures=True)

    def rule(self, parameters: CostParameters) -> RoutingRule:
        """The routing rule that a request's parameters ask for.

        Raises:
            InvalidRequest: if one is out of range or contradicts another.
        """
        return self.engine.rule(**parameters.model_dump(include=set(CostParameters.model_fields)))

    def check_top_k(self, top_k: int) -> None:
        """Raise InvalidRequest unless the model has that many classes."""
        classes = self.engine.manifest.num_classes
        if not 1 <= top_k <= classes:
            raise InvalidRequest(f"top_k must lie between 1 and {classes}, not {top_k}")

    async def classify(
        self, images: Sequence[EncodedImage], rule: RoutingRule, top_k: int
    ) -> list[Classification]:
        """Classify encoded images; all of them, or an error that names the first bad one.

        Raises:
            InvalidRequest: for no or too many images, a bad one, or `top_k` out of range.
            Overloaded: if too many images wait already.
        """
        self.check_top_k(top_k)
        routed = await self.infer_encoded(images, rule)
        return [
            self._classification(routed, row, image.name, top_k) for row, image in enumerate(images)
        ]

    async def infer_encoded(self, images: Sequence[EncodedImage], rule: RoutingRule) -> Routed:
        """Decode and route encoded images; all of them, or an error that names the first bad one.

        Raises:
            InvalidRequest: for no or too many images, or a bad one.
            Overloaded: if too many images wait already.
        """
        with self._admitted(len(images)):
            decoded = await self._on_workers(self._decode, images)
            return await self._route(np.stack(decoded), rule)

    async def infer(self, images: NDArray[np.uint8], rule: RoutingRule) -> Routed:
        """Classify prepared images, uint8 [N, H, W, 3].

        Raises:
            InvalidRequest: for a tensor of another type or shape, or too many rows.
            Overloaded: if too many images wait already.
        """
        self.engine.check(images)
        with self._admitted(len(images)):
            return await self._route(images, rule)

    async def _route(self, images: NDArray[np.uint8], rule: RoutingRule) -> Routed:
        parts = [
            images[start : start + _ROWS_PER_TASK]
            for start in range(0, len(images), _ROWS_PER_TASK)
        ]
        routed = _concatenate(
            await self._on_workers(lambda part: self.engine.classify(part, rule), parts)
        )
        self.metrics.observe_images(routed)
        return routed

    async def _on_workers(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> list[Result]:
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(self._pool, function, item) for item in items]
        try:
            return [await future for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            # Those that already run end by themselves; their outcome is not wanted any more.
            await asyncio.gather(*futures, return_exceptions=True)
            raise

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        """Hold room for `count` images, all of it on the event loop's one thread."""
        if count == 0:
            raise InvalidRequest("the request holds no image")
        # What will never fit is too large, rather than to be tried again.
        most = min(self.settings.max_images_per_request, self.settings.max_waiting_images)
        if count > most:
            raise RequestTooLarge(f"a request may hold {most} images, not {count}")
        if self._waiting + count > self.settings.max_waiting_images:
            raise Overloaded("the server is busy; try again in a moment")
        self._waiting += count
        try:
            yield
        finally:
            self._waiting -= count

    def _decode(self, image: EncodedImage) -> NDArray[np.uint8]:
        try:
            return decode_image(image.data, self.engine.manifest.image, self._limits)
        except RideError as error:
            if image.name is None:
                raise
            raise type(error)(f"{image.name}: {error}") from error

    def _classification(
        self, routed: Routed, row: int, name: str | None, top_k: int
    ) -> Classification:
        manifest = self.engine.manifest
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


def _concatenate(parts: Sequence[Routed]) -> Routed:
    return Routed(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.experts_used for part in parts]),
        np.concatenate([part.router_scores for part in parts]),
    )
