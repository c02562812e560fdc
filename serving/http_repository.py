"""HTTP routes of the model repository and of statistics (Triton's extensions of these names)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from serving.inference import InferenceModels


class IndexRequest(BaseModel):
    """Body of `POST /v2/repository/index`."""

    ready: bool = False


class LoadRequest(BaseModel):
    """Body of `POST /v2/repository/models/{model}/load`."""

    parameters: dict[str, Any] = Field(default_factory=dict)


def repository_router(models: InferenceModels) -> APIRouter:
    """What is in the repository, and what of it is served."""
    router = APIRouter(prefix="/v2/repository", tags=["model repository"])

    @router.post("/index")
    async def index(request: IndexRequest | None = None) -> list[dict[str, str]]:
        """The models in the repository, by version."""
        return await models.index(ready=request is not None and request.ready)

    @router.post("/models/{model}/load")
    async def load(model: str, request: LoadRequest | None = None) -> Response:
        """Load the latest version, in place of the one that is served (`--model-control explicit`).

        Requests under way are answered by the version that they began with.
        """
        await models.load(model, request.parameters if request is not None else {})
        return Response()

    @router.post("/models/{model}/unload")
    async def unload(model: str) -> Response:
        """Serve the model no more (`--model-control explicit`)."""
        await models.unload(model)
        return Response()

    return router


def statistics_router(models: InferenceModels) -> APIRouter:
    """What the models have done since they were loaded."""
    router = APIRouter(prefix="/v2/models", tags=["Open Inference Protocol"])

    @router.get("/stats")
    async def every_model() -> dict[str, Any]:
        """Statistics of all models and of the graphs behind them."""
        return models.statistics(None, None)

    @router.get("/{model}/stats")
    @router.get("/{model}/versions/{version}/stats")
    async def one_model(model: str, version: str | None = None) -> dict[str, Any]:
        """Statistics of a model."""
        return models.statistics(model, version)

    return router
