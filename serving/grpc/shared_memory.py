"""gRPC: the calls with which clients register shared memory (`serving.dataplane.shared_memory`).

There is no CUDA shared memory: its list is empty, and registering any is refused.
"""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.dataplane.shared_memory import SharedMemoryRegions, no_cuda_region, refuse_cuda


class SharedMemoryServicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The calls about shared memory; the whole service extends it."""

    def __init__(self, regions: SharedMemoryRegions) -> None:
        self._regions = regions

    async def SystemSharedMemoryStatus(self, request: Any, _: Any) -> Any:
        """The registered regions, or one of them."""
        response = service_pb2.SystemSharedMemoryStatusResponse
        found = [region.description for region in self._regions.status(request.name or None)]
        return response(regions={each["name"]: response.RegionStatus(**each) for each in found})

    async def SystemSharedMemoryRegister(self, request: Any, _: Any) -> Any:
        """Make a region of a shared memory object known."""
        self._regions.register(request.name, request.key, request.offset, request.byte_size)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, _: Any) -> Any:
        """Forget all regions, or one of them; it need not be known."""
        self._regions.unregister(request.name or None)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, _: Any) -> Any:
        """No region."""
        no_cuda_region(request.name)
        return service_pb2.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(self, _: Any, __: Any) -> Any:
        """Refused."""
        refuse_cuda()

    async def CudaSharedMemoryUnregister(self, _: Any, __: Any) -> Any:
        """There is nothing to forget; perf_analyzer asks for it all the same."""
        return service_pb2.CudaSharedMemoryUnregisterResponse()
