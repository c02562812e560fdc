"""`grpc.health.v1`: the server and each model, as ServerReady and ModelReady say.

The package's own servicer keeps what it was told beside what is so, and of several who watch one
service it forgets all as soon as one leaves.
"""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.dataplane.catalogue import require_client_model
from serving.dataplane.dataplane import DataPlane
from serving.errors import ModelNotFound, Overloaded
from serving.grpc.answering import SERVICE

MOST_WATCHERS = 128
"""Streams of Watch at the same time: they stay open, and must leave calls to others."""

_WHOLE_SERVER = ("", SERVICE)

_STATUS = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """A service is the server, by no name or its own, or a model."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._ended = False
        self._watchers = 0
        self._change = asyncio.Event()
        plane.host.when_changed(self._changed)

    def end(self) -> None:
        """Nothing is served any more; those who watch are told, and their streams end."""
        self._ended = True
        self._changed()

    async def Check(self, request: Any, _: Any) -> Any:
        """The status now.

        Raises:
            ModelNotFound: if there is no such service.
        """
        return _STATUS(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> None:
        """The status now, and again whenever it is another one.

        Raises:
            Overloaded: if too many watch already.
        """
        if self._watchers >= MOST_WATCHERS:
            raise Overloaded
        self._watchers += 1
        try:
            await self._tell(request.service, context)
        finally:
            self._watchers -= 1

    async def _tell(self, service: str, context: Any) -> None:
        told = None
        while True:
            change = self._change  # taken first: what changes while we write is not missed
            try:
                status = self._status(service)
            except ModelNotFound:  # it may come
                status = _STATUS.SERVICE_UNKNOWN
            if status != told:
                await context.write(_STATUS(status=status))
                told = status
            if self._ended:
                return
            await change.wait()

    def _status(self, service: str) -> Any:
        return _STATUS.SERVING if self._serves(service) else _STATUS.NOT_SERVING

    def _serves(self, service: str) -> bool:
        if service in _WHOLE_SERVER:
            return self._plane.ready and not self._ended
        try:
            self._plane.find(service, None)
        except ModelNotFound:
            require_client_model(service)
            return False
        return not self._ended

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
