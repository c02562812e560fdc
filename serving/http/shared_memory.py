"""HTTP: the routes with which clients register shared memory (`serving.dataplane.shared_memory`).

Paths and bodies as in Triton's "shared memory extension". There is no CUDA shared memory: its list
is empty, and registering any is refused.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from serving.dataplane.shared_memory import SharedMemoryRegions, no_cuda_region, refuse_cuda
from serving.http.json_body import documented, json_body

_Offset = Annotated[int, Field(json_schema_extra={"minimum": 0})]


class _SharedBody(BaseModel):
    key: Annotated[str, Field(json_schema_extra={"pattern": "^/[^/]{1,255}$"})]
    byte_size: Annotated[int, Field(json_schema_extra={"minimum": 1})]


class RegisterBody(_SharedBody):
    """What a client says of a region of system shared memory."""

    offset: _Offset | None = None


class RegionBody(_SharedBody):
    """What the server says of one."""

    name: str
    offset: _Offset


def shared_memory_router(regions: SharedMemoryRegions) -> APIRouter:
    """The routes under `/v2/systemsharedmemory` and `/v2/cudasharedmemory`."""
    router = APIRouter(prefix="/v2", tags=["shared memory"])
    system = "/systemsharedmemory"

    @router.get(f"{system}/status")
    @router.get(f"{system}/region/{{region}}/status")
    async def status(region: str | None = None) -> list[RegionBody]:
        """The registered regions, or one of them."""
        return [RegionBody(**known.description) for known in regions.status(region)]

    @router.post(
        f"{system}/region/{{region}}/register",
        response_class=Response,
        openapi_extra=documented(RegisterBody),
    )
    async def register(request: Request, region: str) -> Response:
        """Make a region of a shared memory object known; needs `ride serve --shared-memory`."""
        wanted = await json_body(request, RegisterBody)
        regions.register(region, wanted.key, wanted.offset or 0, wanted.byte_size)
        return Response(status_code=200)

    @router.post(f"{system}/unregister", response_class=Response)
    @router.post(f"{system}/region/{{region}}/unregister", response_class=Response)
    async def unregister(region: str | None = None) -> Response:
        """Forget all regions, or one of them; it need not be known."""
        regions.unregister(region)
        return Response(status_code=200)

    router.include_router(_cuda_router())
    return router


def _cuda_router() -> APIRouter:
    router = APIRouter(prefix="/cudasharedmemory")

    @router.get("/status")
    @router.get("/region/{region}/status")
    async def status(region: str | None = None) -> list[RegionBody]:
        """No region."""
        no_cuda_region(region)
        return []

    @router.post("/region/{region}/register", response_class=Response)
    async def register(region: str) -> Response:  # noqa: ARG001, it is in the path
        """Refused: this server has no CUDA shared memory."""
        refuse_cuda()

    @router.post("/unregister", response_class=Response)
    @router.post("/region/{region}/unregister", response_class=Response)
    async def unregister(region: str | None = None) -> Response:  # noqa: ARG001
        """There is nothing to forget."""
        return Response(status_code=200)

    return router
