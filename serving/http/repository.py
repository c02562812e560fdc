"""HTTP routes of the model repository and of statistics (Triton's extensions of these names)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from serving.dataplane.dataplane import DataPlane
from serving.http.json_body import json_body


class IndexRequest(BaseModel):
    """Body of `POST /v2/repository/index`."""

    ready: bool = False


class LoadRequest(BaseModel):
    """Body of `POST /v2/repository/models/{model}/load`."""

    parameters: dict[str, Any] = Field(default_factory=dict)


def repository_router(plane: DataPlane) -> APIRouter:
    """What is in the repository, and what of it is served."""
    router = APIRouter(prefix="/v2/repository", tags=["model repository"])

    @router.post("/index")
    async def index(request: Request) -> list[dict[str, str]]:
        """The models in the repository, by version."""
        asked = await json_body(request, IndexRequest) if await request.body() else IndexRequest()
        return await plane.index(ready=asked.ready)

    @router.post("/models/{model}/load")
    async def load(model: str, request: Request) -> Response:
        """Load the latest version, in place of the one that is served (`--model-control explicit`).

        Requests under way are answered by the version that they began with.
        """
        asked = await json_body(request, LoadRequest) if await request.body() else LoadRequest()
        await plane.load_model(model, asked.parameters)
        return Response()

    @router.post("/models/{model}/unload")
    async def unload(model: str) -> Response:
        """Serve the model no more (`--model-control explicit`)."""
        await plane.unload_model(model)
        return Response()

    return router


def statistics_router(plane: DataPlane) -> APIRouter:
    """What the models have done since the server started."""
    router = APIRouter(prefix="/v2/models", tags=["Open Inference Protocol"])

    @router.get("/stats")
    async def every_model() -> dict[str, Any]:
        """Statistics of all models and of the graphs behind them."""
        return plane.statistics(None, None)

    @router.get("/{model}/stats")
    @router.get("/{model}/versions/{version}/stats")
    async def one_model(model: str, version: str | None = None) -> dict[str, Any]:
        """Statistics of a model."""
        return plane.statistics(model, version)

    return router
