"""Server reflection, v1 and v1alpha: clients such as grpcurl ask what can be called, and how.

The package has v1alpha only. v1 has the same messages under another name, so both are one servicer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as V1ALPHA
from grpc_reflection.v1alpha.reflection import aio
from tritonclient.grpc import service_pb2

from serving.grpc.answering import AnsweringServer, each_readable
from serving.grpc.ordered_stream import in_order

V1 = V1ALPHA.replace("v1alpha", "v1")


def add_reflection(server: AnsweringServer, stop: asyncio.Event) -> None:
    """Add it for the services that were added before, until `stop` is set."""
    servicer = _ReflectionServicer((*server.services, V1, V1ALPHA), stop)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1, V1ALPHA):
        server.add_registered_method_handlers(name, {"ServerReflectionInfo": handler})


class _ReflectionServicer(aio.ReflectionServicer):  # type: ignore[misc]
    def __init__(self, services: Iterable[str], stop: asyncio.Event) -> None:
        super().__init__(services, _described())
        self._stop = stop

    async def ServerReflectionInfo(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Answer each question of a stream."""
        answers = in_order(each_readable(requests), self._answer, 1, self._stop)
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)

    async def _answer(self, request: Any) -> Any:
        """A method is in the file of its service, which alone the package finds."""
        answer = await self._found(request)
        service = request.file_containing_symbol.rpartition(".")[0]
        if not service or not answer.HasField("error_response"):
            return answer
        of_service = type(request)(host=request.host, file_containing_symbol=service)
        found = await self._found(of_service)
        if found.HasField("error_response"):
            return answer
        found.original_request.CopyFrom(request)
        return found

    async def _found(self, request: Any) -> Any:
        async def alone() -> AsyncIterator[Any]:
            yield request

        async with aclosing(super().ServerReflectionInfo(alone(), None)) as answers:
            return await anext(answers)


def _described() -> DescriptorPool:
    """The files of what is served, and of nothing else that this process knows."""
    pool = DescriptorPool()

    def add(file: FileDescriptor) -> None:
        for needed in file.dependencies:
            add(needed)
        pool.AddSerializedFile(file.serialized_pb)

    for file in (service_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        add(file)
    v1alpha = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    v1 = text_format.MessageToString(v1alpha).replace("v1alpha", "v1")
    pool.AddSerializedFile(text_format.Parse(v1, FileDescriptorProto()).SerializeToString())
    return pool
