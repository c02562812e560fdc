"""Bounds what a client may send and how long it may take, whatever route it is for."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import Overloaded, RequestTimeout, RequestTooLarge


class BodyLimit:
    """ASGI middleware: raises from `receive`, inside the route that reads the body.

    Raises:
        RequestTooLarge: once more than `max_bytes` were announced or received.
        RequestTimeout: if the whole body is not there `timeout_s` after the request began.
        Overloaded: if the bodies of all requests under way come to more than `max_total_bytes`.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, max_total_bytes: int, timeout_s: float
    ) -> None:
        self._app = app
        self.max_bytes = max_bytes
        self.max_total_bytes = max_total_bytes
        self.timeout_s = timeout_s
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self, scope, receive)
        try:
            await self._app(scope, body.receive, send)
        finally:
            self.held_bytes -= body.received


class _Body:
    """One request's body on its way in."""

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive) -> None:
        self.received = 0
        self._limit = limit
        self._announced = _content_length(scope)
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + limit.timeout_s
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # what follows the body is only the client's hanging up
            return await self._receive()
        self._require_size(self._announced)
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout("the request's body did not arrive in time") from None
        size = len(message.get("body", b""))
        self.received += size
        self._limit.held_bytes += size
        self._complete = not message.get("more_body", False)
        self._require_size(self.received)
        if self._limit.held_bytes > self._limit.max_total_bytes:
            raise Overloaded("the server is busy with large requests; try again in a moment")
        return message

    def _require_size(self, size: int) -> None:
        if size > self._limit.max_bytes:
            raise RequestTooLarge(f"the body is larger than {self._limit.max_bytes} bytes")


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
