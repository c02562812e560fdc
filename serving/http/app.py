"""The HTTP application: translates between requests and the data plane, and nothing else.

Two dialects: `/v1` for images, and the Open Inference Protocol under `/v2` for tensors; in front of
Triton, which speaks the second itself, only the first. The console at `/` uses the first.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as distribution_version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from serving.dataplane.inference import InferenceModels
from serving.http.audit import audit_router
from serving.http.body_limit import BodyLimit
from serving.http.classify import ClassifyRoute
from serving.http.console import console_router
from serving.http.errors import ErrorBody, handle_errors
from serving.http.fast_lane import FastLane
from serving.http.inference import InferRoute
from serving.http.model import model_router
from serving.http.protocol_json import model_config, model_metadata, server_metadata
from serving.http.recorded import RecordedRequests
from serving.http.repository import repository_router, statistics_router
from serving.http.shared_memory import shared_memory_router
from serving.metrics.registry import Registry
from serving.metrics.request_recorder import RequestRecorder
from serving.settings import Settings
from serving.triton.front import TritonFront


def create_app(models: InferenceModels, recorder: RequestRecorder) -> ASGIApp:
    """The HTTP application of models that are ready, with its limits; requests are recorded."""
    service = models.service
    classify = ClassifyRoute(service, service.settings.max_images_per_request)
    infer = InferRoute(models)
    framework = _framework(
        classify.router(),
        model_router(lambda: service.served, service.settings),
        infer.router(),
        statistics_router(models),  # before the others: `stats` is no model
        _health_router(lambda: service.host.ready),
        _protocol_router(models),
        repository_router(models),
        shared_memory_router(models.shared_memory),
        _operator_router(service.metrics.registry),
        audit_router(service),
        console_router(),
    )
    return _bounded(FastLane(framework, classify, infer), service.settings, recorder)


def create_front_app(front: TritonFront, recorder: RequestRecorder) -> ASGIApp:
    """The HTTP application in front of Triton servers: images only, tensors are for Triton."""
    classify = ClassifyRoute(front, front.settings.max_images_per_request)
    framework = _framework(
        classify.router(),
        model_router(lambda: front.served, front.settings),
        _health_router(lambda: front.ready),
        _operator_router(front.registry),
        console_router(),
    )
    return _bounded(FastLane(framework, classify), front.settings, recorder)


def _bounded(app: ASGIApp, settings: Settings, recorder: RequestRecorder) -> ASGIApp:
    limited = BodyLimit(
        app,
        max_bytes=settings.max_body_bytes,
        max_total_bytes=settings.max_total_body_bytes,
        timeout_s=settings.body_timeout_s,
    )
    return RecordedRequests(limited, recorder)


def _framework(*routers: APIRouter) -> FastAPI:
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
    for router in routers:
        app.include_router(router)
    return app


def _health_router(ready: Callable[[], bool]) -> APIRouter:
    router = APIRouter(prefix="/v2/health", tags=["Open Inference Protocol"])

    @router.get("/live")
    async def is_live() -> Response:
        """200 while the server runs."""
        return Response(status_code=200)

    @router.get("/ready")
    async def is_ready() -> Response:
        """200 while requests can be answered."""
        return Response(status_code=200 if ready() else 503)

    return router


def _protocol_router(models: InferenceModels) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("")
    async def server() -> dict[str, Any]:
        """The server's name, version and extensions."""
        return server_metadata(distribution_version("ride-server"), models.extensions)

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


def _operator_router(registry: Registry) -> APIRouter:
    router = APIRouter(tags=["operators"])

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Metrics for Prometheus: OpenMetrics where the client accepts it, else the older text."""
        found = registry.exposition(request.headers.get("accept", ""))
        return Response(found.content, media_type=found.content_type)

    return router
