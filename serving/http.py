"""The HTTP application: translates between requests and `serving.service`, and nothing else.

Two dialects: `POST /v1/classify` for images, and the Open Inference Protocol under `/v2` for
tensors.
"""

from __future__ import annotations

from importlib.metadata import version as distribution_version
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp

from serving.body_limit import BodyLimit
from serving.fast_lane import FastLane
from serving.http_errors import ErrorBody, handle_errors
from serving.http_inference import InferenceRoutes
from serving.http_repository import repository_router, statistics_router
from serving.http_shared_memory import shared_memory_router
from serving.inference import InferenceModels
from serving.inference_protocol import model_config, model_metadata, server_metadata
from serving.request_metrics import RequestMetrics
from serving.service import ClassificationService


def create_app(models: InferenceModels) -> ASGIApp:
    """The HTTP application of models that are ready, with its limits and its metrics."""
    service, settings = models.service, models.service.settings
    routes = InferenceRoutes(models)
    limited = BodyLimit(
        FastLane(_framework(models, routes), routes),
        max_bytes=settings.max_body_bytes,
        max_total_bytes=settings.max_total_body_bytes,
        timeout_s=settings.body_timeout_s,
    )
    return RequestMetrics(limited, service.metrics)


def _framework(models: InferenceModels, routes: InferenceRoutes) -> FastAPI:
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
    app.include_router(routes.router())
    app.include_router(statistics_router(models))  # before the others: `stats` is no model
    app.include_router(_protocol_router(models, app.version))
    app.include_router(repository_router(models))
    app.include_router(shared_memory_router(models.shared_memory))
    app.include_router(_operator_router(models.service))
    return app


def _protocol_router(models: InferenceModels, server_version: str) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("")
    async def server() -> dict[str, Any]:
        """The server's name, version and extensions."""
        return server_metadata(server_version, models.extensions)

    @router.get("/health/live")
    async def live() -> Response:
        """200 while the server runs."""
        return Response(status_code=200)

    @router.get("/health/ready")
    async def ready() -> Response:
        """200 while a model is served; the server listens only once it is loaded and warm."""
        return Response(status_code=200 if models.service.host.ready else 503)

    @router.get("/models/{model}")
    @router.get("/models/{model}/versions/{version}")
    async def model_description(model: str, version: str | None = None) -> dict[str, Any]:
        """Inputs and outputs of a model."""
        return model_metadata(models.find(model, version))

    @router.get("/models/{model}/config")
    @router.get("/models/{model}/versions/{version}/config")
    async def model_configuration(model: str, version: str | None = None) -> dict[str, Any]:
        """A model's configuration, as Triton describes its models."""
        return model_config(models.find(model, version))

    @router.get("/models/{model}/ready")
    @router.get("/models/{model}/versions/{version}/ready")
    async def model_ready(model: str, version: str | None = None) -> Response:
        """200 if the model is served."""
        models.find(model, version)
        return Response(status_code=200)

    return router


def _operator_router(service: ClassificationService) -> APIRouter:
    router = APIRouter(tags=["operators"])

    @router.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(service.exposition(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return router
