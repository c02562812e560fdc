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
from verify.preparation import PreparedImage
from verify.replies import Refusal, Reply, answers_of
from verify.server import InferenceServer

Pixels: TypeAlias = NDArray[np.uint8]
Classify: TypeAlias = Callable[[Pixels], Routed]
"""Prepared images, uint8 [N, H, W, 3], to their answers; safe to call from several threads."""

_BATCH = 32


class AskedEngine(Protocol):
    """An engine with a name for tables."""

    @property
    def name(self) -> str:
        """What it is called."""

    async def ask(self, images: Sequence[PreparedImage]) -> list[Reply | None]:
        """A reply to each image; None where it can't be asked, as it takes decoded images only."""


class EngineInProcess:
    """An engine of this process, in batches of 32."""

    def __init__(self, name: str, classify: Classify) -> None:
        self.name = name
        self._classify = classify

    async def ask(self, images: Sequence[PreparedImage]) -> list[Reply | None]:
        """See `AskedEngine`."""
        return await _ask_about_decoded(images, self._reply)

    async def _reply(self, pixels: Sequence[Pixels]) -> list[Reply]:
        batches = [np.stack(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
        work = (asyncio.to_thread(self._classify, batch) for batch in batches)
        return [answer for routed in await asyncio.gather(*work) for answer in answers_of(routed)]


class ServedModel:
    """A server's model: it gets the pixels, or the files and decodes them itself."""

    def __init__(self, server: InferenceServer, model: ModelDescription) -> None:
        self.name = f"{server.name}: {model.name}"
        self._server = server
        self._model = model

    async def ask(self, images: Sequence[PreparedImage]) -> list[Reply | None]:
        """See `AskedEngine`."""
        if self._model.input.datatype is Datatype.BYTES:
            return list(await self._server.ask(self._model, [image.file for image in images]))
        return await _ask_about_decoded(images, lambda rows: self._server.ask(self._model, rows))


async def _ask_about_decoded(
    images: Sequence[PreparedImage], ask: Callable[[list[Pixels]], Awaitable[list[Reply]]]
) -> list[Reply | None]:
    pixels = [image.pixels for image in images]
    replies = iter(await ask([each for each in pixels if not isinstance(each, Refusal)]))
    return [None if isinstance(each, Refusal) else next(replies) for each in pixels]
