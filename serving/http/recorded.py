"""Records every HTTP request, whatever route it is for, and tells its client the request's id."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics.request_recorder import HEADERS, RequestRecorder
from serving.tracing.request_ids import REQUEST_ID
from serving.tracing.timeline import Attribute

_ID_HEADER = REQUEST_ID.encode()
_READ = {name.encode(): name for name in HEADERS}
_NO_ROUTE = (404, 405)


class RecordedRequests:
    """ASGI middleware around all others: what they refuse is recorded as well."""

    def __init__(self, app: ASGIApp, recorder: RequestRecorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        name = f"{method} {scope['path']}"
        headers = _headers(scope["headers"])
        with self._recorder.record("http", name, headers, brings_work=method == "POST") as record:
            status = 500
            its_id = (_ID_HEADER, record.request.request_id.encode())

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    message["headers"] = [*message.get("headers", ()), its_id]
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                record.answered(str(status), failed=status >= 500)
                if record.traced:
                    record.describe(method if status in _NO_ROUTE else name, _told(scope, status))


def _told(scope: Scope, status: int) -> dict[str, Attribute]:
    """By OpenTelemetry's names."""
    return {
        "http.request.method": scope["method"],
        "url.path": scope["path"],
        "http.response.status_code": status,
    }


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {_READ[name]: value.decode("latin-1") for name, value in pairs if name in _READ}
