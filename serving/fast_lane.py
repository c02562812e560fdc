"""A short cut past the web framework for the routes that carry the load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http_errors import error_response
from serving.http_inference import CLASSIFY_PATH, InferenceRoutes

Endpoint = Callable[[Request], Awaitable[Response]]


class FastLane:
    """ASGI middleware: calls the endpoints of `InferenceRoutes` for the paths that it knows.

    Everything else goes to the application, which has the same endpoints, for its documentation.
    Matching a request against every route and resolving its dependencies costs more than all that
    this server does for one image besides running the model.
    """

    def __init__(self, app: ASGIApp, routes: InferenceRoutes) -> None:
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
        path: str = scope["path"]
        if path == CLASSIFY_PATH:
            return self._routes.classify
        match path.split("/"):
            case ["", "v2", "models", model, "infer"] if model:
                scope["path_params"] = {"model": model}
            case ["", "v2", "models", model, "versions", version, "infer"] if model and version:
                scope["path_params"] = {"model": model, "version": version}
            case _:
                return None
        return self._routes.infer
