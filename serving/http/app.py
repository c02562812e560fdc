"""The embedded server's HTTP application: translates between requests and the data plane.

Two dialects: `/v1` for images, and the Open Inference Protocol under `/v2` for tensors. The console
at `/` uses the first.
"""

from __future__ import annotations

from importlib.metadata import version as distribution_version

from fastapi import APIRouter
from starlette.types import ASGIApp

from serving.dataplane.dataplane import DataPlane
from serving.dataplane.inference import SERVER_NAME
from serving.http.audit import audit_router
from serving.http.classify import ClassifyRoute
from serving.http.framework import bounded, framework
from serving.http.inference import InferRoute
from serving.http.protocol_bodies import (
    AnyModel,
    ModelConfigBody,
    ModelMetadataBody,
    ModelReadyBody,
    ServerMetadataBody,
)
from serving.http.repository import repository_router, statistics_router
from serving.http.shared_memory import shared_memory_router
from serving.metrics.request_recorder import RequestRecorder


def create_app(plane: DataPlane, recorder: RequestRecorder) -> ASGIApp:
    """The application of a model that is ready, with its limits; requests are recorded."""
    classify, infer = ClassifyRoute(plane), InferRoute(plane)
    app = framework(
        plane,
        classify.router(),
        infer.router(),
        statistics_router(plane),  # before the others: `stats` is no model
        _protocol_router(plane),
        repository_router(plane),
        shared_memory_router(plane.shared_memory),
        audit_router(plane),
    )
    return bounded(app, plane, recorder, classify, infer)


def _protocol_router(plane: DataPlane) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("")
    async def server() -> ServerMetadataBody:
        """The server's name, version and extensions."""
        version = distribution_version("ride-server")
        return ServerMetadataBody(SERVER_NAME, version, plane.extensions)

    @router.get("/models/{model}")
    @router.get("/models/{model}/versions/{version}")
    async def model_description(model: AnyModel, version: str | None = None) -> ModelMetadataBody:
        """Inputs and outputs of a model."""
        return ModelMetadataBody.of(plane.find(model, version))

    @router.get("/models/{model}/config")
    @router.get("/models/{model}/versions/{version}/config")
    async def model_configuration(model: AnyModel, version: str | None = None) -> ModelConfigBody:
        """A model's configuration, as Triton describes its models."""
        return ModelConfigBody.of(plane.find(model, version))

    @router.get("/models/{model}/ready")
    @router.get("/models/{model}/versions/{version}/ready")
    async def model_ready(model: AnyModel, version: str | None = None) -> ModelReadyBody:
        """200 if the model is served."""
        return ModelReadyBody(plane.find(model, version).name, ready=True)

    return router
