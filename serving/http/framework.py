"""What both HTTP applications are made of: limits, errors, documentation, routes that both have."""

from __future__ import annotations

from importlib.metadata import version as distribution_version

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from serving.dataplane.classification import ImagePlane
from serving.http.body_limit import BodyLimit
from serving.http.console import console_router
from serving.http.errors import ErrorBody, handle_errors
from serving.http.model import model_router
from serving.http.recorded import RecordedRequests
from serving.metrics.request_recorder import RequestRecorder
from serving.settings import Settings


def bounded(app: ASGIApp, settings: Settings, recorder: RequestRecorder) -> ASGIApp:
    """An application whose requests are bounded, and recorded."""
    limited = BodyLimit(
        app,
        max_bytes=settings.max_body_bytes,
        max_total_bytes=settings.max_total_body_bytes,
        timeout_s=settings.body_timeout_s,
    )
    return RecordedRequests(limited, recorder)


def framework(plane: ImagePlane, *routers: APIRouter) -> FastAPI:
    """An application with these routes, and those of health, metrics, the model and the console."""
    app = FastAPIOffline(  # /docs takes its scripts from this server, not from elsewhere
        title="ride-server",
        version=distribution_version("ride-server"),
        description="Image classification with dynamic expert routing.",
        redoc_url=None,
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
    async def is_live() -> Response:
        """200 while the server runs."""
        return Response(status_code=200)

    @router.get("/ready")
    async def is_ready() -> Response:
        """200 while requests can be answered."""
        return Response(status_code=200 if plane.ready else 503)

    return router


def _metrics_router(plane: ImagePlane) -> APIRouter:
    router = APIRouter(tags=["operators"])

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Metrics for Prometheus: OpenMetrics where the client accepts it, else the older text."""
        found = plane.registry.exposition(request.headers.get("accept", ""))
        return Response(found.content, media_type=found.content_type)

    return router
