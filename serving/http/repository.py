"""HTTP routes of the model repository and of statistics (Triton's extensions of these names)."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from serving.dataplane.dataplane import DataPlane
from serving.http.json_body import documented, json_body
from serving.http.protocol_bodies import AnyModel, ClientModel


class IndexRequest(BaseModel):
    """Body of `POST /v2/repository/index`."""

    ready: bool | None = None


class LoadRequest(BaseModel):
    """Body of `POST /v2/repository/models/{model}/load`."""

    parameters: dict[str, Any] | None = Field(default=None, json_schema_extra={"maxProperties": 0})


class IndexEntry(BaseModel):
    """A model in one version of the repository; `reason` tells why it is not served."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class DurationBody(BaseModel):
    """How often something was done, and how long it took, all together."""

    count: int
    ns: int


class BatchBody(BaseModel):
    """Batches of one size."""

    batch_size: int
    compute_infer: DurationBody


class ModelStatisticsBody(BaseModel):
    """What a model has done since it was loaded; `last_inference` is in ms since 1970."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: dict[str, DurationBody]
    batch_stats: list[BatchBody]


class StatisticsBody(BaseModel):
    """Of one model, or of all."""

    model_stats: list[ModelStatisticsBody]


def repository_router(plane: DataPlane) -> APIRouter:
    """What is in the repository, and what of it is served."""
    router = APIRouter(prefix="/v2/repository", tags=["model repository"])

    @router.post("/index", openapi_extra=documented(IndexRequest, required=False))
    async def index(request: Request) -> list[IndexEntry]:
        """The models in the repository, by version."""
        asked = await json_body(request, IndexRequest) if await request.body() else IndexRequest()
        return [
            IndexEntry.model_validate(entry) for entry in await plane.index(ready=bool(asked.ready))
        ]

    @router.post(
        "/models/{model}/load",
        response_class=Response,
        openapi_extra=documented(LoadRequest, required=False),
    )
    async def load(model: ClientModel, request: Request) -> Response:
        """Load the latest version, in place of the one that is served (`--model-control explicit`).

        Requests under way are answered by the version that they began with.
        """
        asked = await json_body(request, LoadRequest) if await request.body() else LoadRequest()
        await plane.load_model(model, asked.parameters or {})
        return Response()

    @router.post("/models/{model}/unload", response_class=Response)
    async def unload(model: ClientModel) -> Response:
        """Serve the model no more (`--model-control explicit`)."""
        await plane.unload_model(model)
        return Response()

    return router


def statistics_router(plane: DataPlane) -> APIRouter:
    """What the models have done since the server started."""
    router = APIRouter(prefix="/v2/models", tags=["Open Inference Protocol"])

    @router.get("/stats")
    async def every_model() -> StatisticsBody:
        """Statistics of all models and of the graphs behind them."""
        return StatisticsBody(**plane.statistics(None, None))

    @router.get("/{model}/stats")
    @router.get("/{model}/versions/{version}/stats")
    async def one_model(model: AnyModel, version: str | None = None) -> StatisticsBody:
        """Statistics of a model."""
        return StatisticsBody(**plane.statistics(model, version))

    return router
