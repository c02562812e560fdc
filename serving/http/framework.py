"""What both HTTP applications are made of: limits, errors, documentation, routes that both have."""

from __future__ import annotations

from importlib.metadata import version as distribution_version

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serving.dataplane.classification import ImagePlane
from serving.http.body_limit import BodyLimit
from serving.http.console import console_router
from serving.http.errors import ErrorBody, handle_errors
from serving.http.fast_lane import FastLane, FastRoute
from serving.http.model import model_router
from serving.http.paths import FrameworkPaths, RootPath
from serving.http.protocol_bodies import LiveBody, ReadyBody
from serving.http.protocol_json import HEADER_LENGTH
from serving.http.recorded import RecordedRequests
from serving.metrics.request_recorder import RequestRecorder
from serving.tracing.request_ids import REQUEST_ID


def bounded(
    app: FastAPI, plane: ImagePlane, recorder: RequestRecorder, *fast: FastRoute
) -> ASGIApp:
    """An application whose requests are bounded and recorded; `fast` routes pass the framework."""
    settings = plane.settings
    limited: ASGIApp = BodyLimit(
        FastLane(FrameworkPaths(app, settings.root_path), *fast),
        max_bytes=settings.max_body_bytes,
        max_total_bytes=settings.max_total_body_bytes,
        timeout_s=settings.body_timeout_s,
    )
    if settings.root_path:
        limited = RootPath(limited, settings.root_path)
    if settings.cors_origins:
        limited = CORSMiddleware(
            limited,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=(HEADER_LENGTH, REQUEST_ID, "Retry-After"),
        )
    return RecordedRequests(limited, recorder)


def framework(plane: ImagePlane, *routers: APIRouter) -> FastAPI:
    """An application with these routes, and those of health, metrics, the model and the console."""
    app = FastAPIOffline(  # /docs takes its scripts from this server, not from elsewhere
        title="ride-server",
        version=distribution_version("ride-server"),
        description="Image classification with dynamic expert routing.",
        redoc_url=None,
        redirect_slashes=False,  # `FrameworkPaths` answers them
        responses={
            "4XX": {"model": ErrorBody, "description": "What is wrong with the request."},
            "5XX": {"model": ErrorBody, "description": "Too busy, or a failure of the server."},
        },
    )
    handle_errors(app)
    shared = (model_router(plane), _health_router(plane), _metrics_router(plane), console_router())
    for router in (*routers, *shared):
        app.include_router(router)
    return app


def _health_router(plane: ImagePlane) -> APIRouter:
    router = APIRouter(prefix="/v2/health", tags=["Open Inference Protocol"])

    @router.get("/live")
    async def is_live() -> LiveBody:
        """200 while the server runs."""
        return LiveBody(live=True)

    @router.get("/ready", responses={503: {"model": ReadyBody, "description": "Not ready."}})
    async def is_ready(response: Response) -> ReadyBody:
        """200 while requests can be answered."""
        response.status_code = 200 if plane.ready else 503
        return ReadyBody(ready=plane.ready)

    return router


def _metrics_router(plane: ImagePlane) -> APIRouter:
    router = APIRouter(tags=["operators"])

    text = {"schema": {"type": "string"}}
    types = {"text/plain": text, "application/openmetrics-text": text}

    @router.get("/metrics", response_class=Response, responses={200: {"content": types}})
    async def metrics(request: Request) -> Response:
        """Metrics for Prometheus: OpenMetrics where the client accepts it, else the older text."""
        found = plane.registry.exposition(request.headers.get("accept", ""))
        return Response(found.content, media_type=found.content_type)

    return router
