"""The embedded server's HTTP application: translates between requests and the data plane.

Two dialects: `/v1` for images, and the Open Inference Protocol under `/v2` for tensors. The console
at `/` uses the first.
"""

from __future__ import annotations

from importlib.metadata import version as distribution_version
from typing import Any

from fastapi import APIRouter, Response
from starlette.types import ASGIApp

from serving.dataplane.dataplane import DataPlane
from serving.http.audit import audit_router
from serving.http.classify import ClassifyRoute
from serving.http.fast_lane import FastLane
from serving.http.framework import bounded, framework
from serving.http.inference import InferRoute
from serving.http.protocol_json import model_config, model_metadata, server_metadata
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
    return bounded(FastLane(app, classify, infer), plane.settings, recorder)


def _protocol_router(plane: DataPlane) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

    @router.get("")
    async def server() -> dict[str, Any]:
        """The server's name, version and extensions."""
        return server_metadata(distribution_version("ride-server"), plane.extensions)

    @router.get("/models/{model}")
    @router.get("/models/{model}/versions/{version}")
    async def model_description(model: str, version: str | None = None) -> dict[str, Any]:
        """Inputs and outputs of a model."""
        return model_metadata(plane.find(model, version))

    @router.get("/models/{model}/config")
    @router.get("/models/{model}/versions/{version}/config")
    async def model_configuration(model: str, version: str | None = None) -> dict[str, Any]:
        """A model's configuration, as Triton describes its models."""
        return model_config(plane.find(model, version))

    @router.get("/models/{model}/ready")
    @router.get("/models/{model}/versions/{version}/ready")
    async def model_ready(model: str, version: str | None = None) -> Response:
        """200 if the model is served."""
        plane.find(model, version)
        return Response(status_code=200)

    return router
