"""gRPC: the calls with which clients register shared memory (`serving.dataplane.shared_memory`).

There is no CUDA shared memory: its list is empty, and registering any is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.dataplane.shared_memory import SharedMemoryRegions
from serving.errors import RegionNotFound, Unsupported

Answer = TypeVar("Answer")


class SharedMemoryServicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The calls about shared memory; the whole service extends it."""

    def __init__(self, regions: SharedMemoryRegions) -> None:
        self._regions = regions

    async def _answered(
        self, context: Any, method: str, answer: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """The answer, or the error as a status."""
        raise NotImplementedError

    async def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:  # noqa: N802, the protocol's name
        """The registered regions, or one of them."""

        async def answer() -> Any:
            response = service_pb2.SystemSharedMemoryStatusResponse
            regions = {
                region.name: response.RegionStatus(
                    name=region.name,
                    key=region.key,
                    offset=region.offset,
                    byte_size=region.byte_size,
                )
                for region in self._regions.status(request.name or None)
            }
            return response(regions=regions)

        return await self._answered(context, "SystemSharedMemoryStatus", answer)

    async def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Make a region of a shared memory object known."""

        async def answer() -> Any:
            self._regions.register(request.name, request.key, request.offset, request.byte_size)
            return service_pb2.SystemSharedMemoryRegisterResponse()

        return await self._answered(context, "SystemSharedMemoryRegister", answer)

    async def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Forget all regions, or one of them; it need not be known."""

        async def answer() -> Any:
            self._regions.unregister(request.name or None)
            return service_pb2.SystemSharedMemoryUnregisterResponse()

        return await self._answered(context, "SystemSharedMemoryUnregister", answer)

    async def CudaSharedMemoryStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """No region."""

        async def answer() -> Any:
            if request.name:
                name = request.name[:100]
                raise RegionNotFound(f"there is no CUDA shared memory region {name!r}")
            return service_pb2.CudaSharedMemoryStatusResponse()

        return await self._answered(context, "CudaSharedMemoryStatus", answer)

    async def CudaSharedMemoryRegister(self, _: Any, context: Any) -> Any:  # noqa: N802
        """Refused: this server has no CUDA shared memory."""

        async def answer() -> Any:
            raise Unsupported("this server has no CUDA shared memory")

        return await self._answered(context, "CudaSharedMemoryRegister", answer)

    async def CudaSharedMemoryUnregister(self, _: Any, context: Any) -> Any:  # noqa: N802
        """There is nothing to forget."""

        async def answer() -> Any:
            return service_pb2.CudaSharedMemoryUnregisterResponse()

        return await self._answered(context, "CudaSharedMemoryUnregister", answer)
