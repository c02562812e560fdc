"""Triton servers that share the work: who answers a request, and who else if that one is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from typing import Self, TypeVar

from serving.errors import NoBackend
from serving.model.manifest import MODEL_NAME, Manifest
from serving.model.versions import ModelVersion, ModelVersions
from serving.triton.backend import TritonBackend
from serving.triton.errors import BackendLost

Result = TypeVar("Result")

_MOST_TRIES = 3


class TritonBackends:
    """The servers that share the work, watched while this is entered.

    All of it belongs to the event loop's thread.
    """

    def __init__(
        self, addresses: Sequence[str], versions: ModelVersions, model: str = MODEL_NAME
    ) -> None:
        """Servers that are asked for the model of this name."""
        self._backends = [TritonBackend(address, versions, model) for address in addresses]
        self._tries = min(_MOST_TRIES, len(addresses) + 1)
        self._turns = itertools.count(1)
        self._changed = asyncio.Condition()
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Returns once every server was asked whether it is ready; none need be."""
        for backend in self._backends:
            self._resources.push_async_callback(backend.close)
            watching = asyncio.create_task(backend.watch(self._changed))
            self._resources.callback(watching.cancel)
        async with self._changed:
            await self._changed.wait_for(lambda: not self._in_doubt)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    @property
    def ready(self) -> bool:
        """Whether a server is."""
        return any(backend.ready for backend in self._backends)

    @property
    def models(self) -> dict[int, Manifest]:
        """The versions that servers serve, as a rule one."""
        return {model.number: model.manifest for _, model in self._askable}

    @property
    def state(self) -> str:
        """Each server's in words, for their operator."""
        return ", ".join(f"{backend.address} {backend.state}" for backend in self._backends)

    def require_one(self) -> None:
        """For a request, before anything is spent on it.

        Raises:
            NoBackend: if no server can be asked, and none is in doubt.
        """
        if not self._askable and not self._in_doubt:
            raise self._no_backend()

    async def answer(
        self, ask: Callable[[TritonBackend, ModelVersion], Awaitable[Result]]
    ) -> Result:
        """What `ask` makes of a server; where that one is lost, of another or once more.

        Raises:
            NoBackend: if no server can be asked, or several were lost.
        """
        lost: list[TritonBackend] = []
        for _ in range(self._tries):
            backend, model = await self._choose(lost)
            try:
                with backend.busy(next(self._turns)):
                    return await ask(backend, model)
            except BackendLost as reason:
                backend.doubt(str(reason))
                lost.append(backend)
        raise NoBackend("the Triton servers failed on this request; try again in a moment")

    async def _choose(self, lost: Collection[TritonBackend]) -> tuple[TritonBackend, ModelVersion]:
        """The server that comes first by rank, if there are several one that was not lost."""
        if not self._askable:
            async with self._changed:
                await self._changed.wait_for(lambda: self._askable or not self._in_doubt)
        choices = self._askable
        if not choices:
            raise self._no_backend()
        others = [choice for choice in choices if choice[0] not in lost]
        return min(others or choices, key=lambda choice: choice[0].rank)

    @property
    def _askable(self) -> list[tuple[TritonBackend, ModelVersion]]:
        return [(backend, backend.model) for backend in self._backends if backend.model]

    @property
    def _in_doubt(self) -> bool:
        return any(backend.in_doubt for backend in self._backends)

    def _no_backend(self) -> NoBackend:
        reasons = (backend.for_clients for backend in self._backends if backend.for_clients)
        return NoBackend(next(reasons, "no Triton server is ready; try again in a moment"))
