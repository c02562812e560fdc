"""Engines that are asked about images, all in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from serving.dataplane.catalogue import ModelDescription
from serving.dataplane.tensors import Datatype
from serving.model.routing import Routed
from verify.decoding import DecodedImage
from verify.responses import Rejection, Response, predictions_of
from verify.server import InferenceServer

Pixels: TypeAlias = NDArray[np.uint8]
ClassifyPixels: TypeAlias = Callable[[Pixels], Routed]
"""Decoded images, uint8 [N, H, W, 3], to their answers; safe to call from several threads."""

_BATCH = 32


class ComparedEngine(Protocol):
    """An engine with a name for tables."""

    @property
    def name(self) -> str:
        """What it is called."""

    async def infer(self, images: Sequence[DecodedImage]) -> list[Response | None]:
        """A response to each image; None where there is no decoded image, and it takes no other."""


class LocalEngine:
    """An engine of this process, in batches of 32."""

    def __init__(self, name: str, classify: ClassifyPixels) -> None:
        self.name = name
        self._classify = classify

    async def infer(self, images: Sequence[DecodedImage]) -> list[Response | None]:
        """See `ComparedEngine`."""
        return await _infer_decoded(images, self._predict)

    async def _predict(self, pixels: Sequence[Pixels]) -> list[Response]:
        batches = [np.stack(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
        work = (asyncio.to_thread(self._classify, batch) for batch in batches)
        return [
            answer for routed in await asyncio.gather(*work) for answer in predictions_of(routed)
        ]


class RemoteModel:
    """A server's model: it gets the pixels, or the files and decodes them itself."""

    def __init__(self, server: InferenceServer, model: ModelDescription) -> None:
        self.name = f"{server.name}: {model.name}"
        self._server = server
        self._model = model

    async def infer(self, images: Sequence[DecodedImage]) -> list[Response | None]:
        """See `ComparedEngine`."""
        if self._model.input.datatype is Datatype.BYTES:
            return list(await self._server.infer(self._model, [image.file for image in images]))
        return await _infer_decoded(images, lambda rows: self._server.infer(self._model, rows))


async def _infer_decoded(
    images: Sequence[DecodedImage], infer: Callable[[list[Pixels]], Awaitable[list[Response]]]
) -> list[Response | None]:
    pixels = [image.pixels for image in images]
    responses = iter(await infer([each for each in pixels if not isinstance(each, Rejection)]))
    return [None if isinstance(each, Rejection) else next(responses) for each in pixels]
