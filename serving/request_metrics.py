"""Counts requests, whatever route they are for, and times those that bring work."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics import Metrics


class RequestMetrics:
    """ASGI middleware that counts every request, and times those that bring work.

    Probes and scrapes come all the time and take next to none; they would hide what clients wait.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            duration_s = time.perf_counter() - start if scope["method"] == "POST" else None
            self._metrics.observe_request("http", str(status), duration_s)
