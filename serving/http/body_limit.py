"""Bounds what a client may send and how long it may take, whatever route it is for.

Bodies come out plain: compressed ones are inflated here, within the same bounds.
"""

from __future__ import annotations

import asyncio

from starlette.concurrency import iterate_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import InvalidRequest, Overloaded, RequestTimeout, RequestTooLarge
from serving.http.compression import inflated, named_coding

_LENGTH, _CODING = b"content-length", b"content-encoding"
_OF_THE_BODY = {_LENGTH, _CODING, b"content-type", b"inference-header-content-length"}
"""Headers that say how a body is to be read."""


class BodyLimit:
    """ASGI middleware: raises from `receive`, inside the route that reads the body.

    Raises:
        InvalidRequest: if headers say two things of the body, or it can't be decompressed.
        UnsupportedEncoding: for compression of another kind than gzip and deflate.
        RequestTooLarge: once more than `max_bytes` were announced, received or inflated.
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
            self.held_bytes -= body.held


class _Body:
    """One request's body on its way in."""

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive) -> None:
        self.held = 0
        self._limit = limit
        self._scope = scope
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + limit.timeout_s
        self._received = 0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # what follows the body is only the client's hanging up
            return await self._receive()
        coding = None
        if not self._received:
            said = _said_of_the_body(self._scope)
            announced = said.get(_LENGTH, b"")
            self._require_size(int(announced) if announced.isdigit() else 0)
            if _CODING in said:
                coding = named_coding(said[_CODING].decode("latin-1"))
        message = await self._arriving()
        if coding is None or message["type"] != "http.request":
            return message
        return await self._inflated(message, coding)

    async def _arriving(self) -> Message:
        """The next of it, in time and within the bounds."""
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise RequestTimeout("the request's body did not arrive in time") from None
        size = len(message.get("body", b""))
        self._received += size
        self._complete = not message.get("more_body", False)
        self._require_size(self._received)
        self._hold(size)
        return message

    async def _inflated(self, message: Message, coding: str) -> Message:
        """All of it, in one message, or the news that the client hung up."""
        parts = [message.get("body", b"")]
        while not self._complete:
            message = await self._arriving()
            if message["type"] != "http.request":
                return message
            parts.append(message.get("body", b""))
        plain = []
        pieces = inflated(b"".join(parts), coding, self._limit.max_bytes)
        async for piece in iterate_in_threadpool(pieces):
            self._hold(len(piece))
            plain.append(piece)
        return {"type": "http.request", "body": b"".join(plain), "more_body": False}

    def _hold(self, size: int) -> None:
        self.held += size
        self._limit.held_bytes += size
        if self._limit.held_bytes > self._limit.max_total_bytes:
            raise Overloaded("the server is busy with large requests; try again in a moment")

    def _require_size(self, size: int) -> None:
        if size > self._limit.max_bytes:
            raise RequestTooLarge(f"the body is larger than {self._limit.max_bytes} bytes")


def _said_of_the_body(scope: Scope) -> dict[bytes, bytes]:
    """The headers that say how the body is to be read.

    Raises:
        InvalidRequest: if one is there twice and says two things: whoever stands between client
            and server may have believed the other.
    """
    said: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _OF_THE_BODY and said.setdefault(name, value) != value:
            raise InvalidRequest(f"the header {name.decode()} is there twice, with two values")
    return said
