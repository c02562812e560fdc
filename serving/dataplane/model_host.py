"""Which model version is served: loads, swaps, unloads, and follows the repository.

A swap loses no request: the new version is loaded and warm before it takes over, and the old one
answers what it has begun before it is closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving.dataplane.live_model import LiveModel, load_live_model
from serving.dataplane.metrics import EmbeddedMetrics
from serving.errors import ModelControlRefused, ModelNotFound, RideError
from serving.model.repository import latest_version, versions
from serving.settings import ModelControl, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionState:
    """A version in the repository: whether it is served, and a word on why not."""

    version: str
    ready: bool
    reason: str = ""


class ModelHost:
    """Holds the version that new requests go to. All methods belong to the event loop's thread."""

    def __init__(self, repository: Path, settings: Settings, metrics: EmbeddedMetrics) -> None:
        """Load the repository's latest version; see `load_live_model` for what it raises."""
        self.repository = repository
        self._settings = settings
        self._metrics = metrics
        self._loading = asyncio.Lock()
        self._failed: tuple[int, str] | None = None
        self._listeners: list[Callable[[], None]] = []
        self._live: LiveModel | None = load_live_model(repository, None, settings, metrics)
        metrics.answers.serve({self._live.engine.version: self._live.engine.manifest})

    @property
    def ready(self) -> bool:
        """Whether a version is loaded."""
        return self._live is not None

    @property
    def live(self) -> LiveModel:
        """The version that new requests go to; a `with` block of it keeps it open.

        Raises:
            ModelNotFound: if it was unloaded.
        """
        if self._live is None:
            raise ModelNotFound("the model was unloaded; load it again to use it")
        return self._live

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have this called whenever another version, or none, has come to be served."""
        self._listeners.append(call)

    async def load(self) -> None:
        """Load the latest version anew, whether or not it is served already (the load call).

        Raises:
            ModelControlRefused: unless the server was started with model control `explicit`.
            ModelRepositoryError: if it can't be served; what was served before still is.
        """
        self._require_explicit("load")
        async with self._loading:
            await self._swap(None)

    async def unload(self) -> None:
        """Serve no version; requests under way are answered.

        Raises:
            ModelControlRefused: unless the server was started with model control `explicit`.
        """
        self._require_explicit("unload")
        async with self._loading:
            if self._live is not None:
                self._retire(self._live)
                self._live = None
                self._tell()

    async def index(self) -> list[VersionState]:
        """Every version in the repository, newest last."""
        found = await asyncio.to_thread(versions, self.repository)
        served = None if self._live is None else self._live.engine.version
        failed, reason = self._failed or (None, "")
        known = sorted({*found, *([served] if served is not None else [])})
        return [
            VersionState(str(each), each == served, reason if each == failed else "")
            for each in known
        ]

    async def follow_repository(self) -> None:
        """Swap to another version whenever it becomes the latest, for as long as this runs."""
        while self._settings.model_control is ModelControl.POLL:
            await asyncio.sleep(self._settings.poll_seconds)
            async with self._loading:
                await self._swap_if_newer()

    def close(self) -> None:
        """Stop the live version; batches under way end first."""
        if self._live is not None:
            self._live.close()
            self._live = None

    async def _swap_if_newer(self) -> None:
        latest = None
        try:
            latest = await asyncio.to_thread(latest_version, self.repository)
            if self._live is None or latest != self._live.engine.version:
                await self._swap(latest)
        except (RideError, OSError) as error:
            # A version that is still being copied, most likely; said once, tried again.
            failed = (latest or 0, str(error))
            if failed != self._failed:
                logger.warning("can't take up version %s: %s", latest, error)
            self._failed = failed

    async def _swap(self, version: int | None) -> None:
        start = time.perf_counter()
        new = await asyncio.to_thread(
            load_live_model, self.repository, version, self._settings, self._metrics
        )
        old, self._live, self._failed = self._live, new, None
        self._metrics.answers.serve({new.engine.version: new.engine.manifest})
        if old is not None:
            self._retire(old)
        self._tell()
        logger.info("serving version %s after %.1f s", new.version, time.perf_counter() - start)

    def _tell(self) -> None:
        for call in self._listeners:
            call()

    def _retire(self, live: LiveModel) -> None:
        loop = asyncio.get_running_loop()
        # Threads are joined there, which would keep the event loop from answering others.
        live.retire(lambda: loop.run_in_executor(None, live.close))

    def _require_explicit(self, what: str) -> None:
        mode = self._settings.model_control
        if mode is not ModelControl.EXPLICIT:
            raise ModelControlRefused(
                f"this server does not {what} models by request, as its model control is {mode}; "
                "start it with --model-control explicit"
            )
