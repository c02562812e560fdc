"""Bounds what a client may send and how long it may take, whatever route it is for."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import RequestTimeout, RequestTooLarge


class BodyLimit:
    """ASGI middleware: raises from `receive`, inside the route that reads the body.

    Raises:
        RequestTooLarge: once more than `max_bytes` were announced or received.
        RequestTimeout: if the whole body is not there `timeout_s` after the request began.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await self._app(scope, self._bounded(scope, receive), send)

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        announced = _content_length(scope)
        received = 0
        complete = False

        async def bounded() -> Message:
            nonlocal received, complete
            if complete:  # what follows the body is only the client's hanging up
                return await receive()
            if announced > self._max_bytes:
                raise self._too_large()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeout("the request's body did not arrive in time") from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._max_bytes:
                raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"the body is larger than {self._max_bytes} bytes")


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
