"""A short cut past the web framework for the routes that carry the load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.errors import error_response

Endpoint = Callable[[Request], Awaitable[Response]]


class FastRoute(Protocol):
    """A route that finds its parameters in the request by itself."""

    def endpoint(self, scope: Scope) -> Endpoint | None:
        """What answers a POST request, if this route does."""


class FastLane:
    """ASGI middleware: calls the endpoints of a few routes by itself.

    Everything else goes to the application, which has the same endpoints, for its documentation.
    Matching a request against every route and resolving its dependencies costs more than all that
    this server does for one image besides running the model.
    """

    def __init__(self, app: ASGIApp, *routes: FastRoute) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoint(scope)
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await endpoint(Request(scope, receive))
        except Exception as error:  # noqa: BLE001, it is logged where it is answered
            response = error_response(error)
        await response(scope, receive, send)

    def _endpoint(self, scope: Scope) -> Endpoint | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        for route in self._routes:
            if endpoint := route.endpoint(scope):
                return endpoint
        return None
