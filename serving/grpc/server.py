"""gRPC: translates between messages and the data plane, and nothing else.

The Open Inference Protocol as Triton speaks it (package `inference`), and the standard services of
health and reflection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from importlib.metadata import version as distribution_version
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from grpc_health.v1 import health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.dataplane.dataplane import DataPlane
from serving.dataplane.inference import SERVER_NAME
from serving.errors import ModelNotFound, SettingsError
from serving.grpc.answering import AnsweringServer, Refused, headers_of, readable, recorded
from serving.grpc.health import MOST_WATCHERS, HealthServicer
from serving.grpc.messages import (
    config_message,
    infer_message,
    metadata_message,
    parse_infer_message,
)
from serving.grpc.ordered_stream import in_order
from serving.grpc.reflection import add_reflection
from serving.grpc.shared_memory import SharedMemoryServicer
from serving.metrics.request_recorder import RequestRecorder

_LARGEST_OF_OURS = 2**31 - 1
_MOST_OF_A_STREAM = 64
"""Requests of one stream under way; a client waits before it can send more."""
_OPEN_STREAMS = 2 * MOST_WATCHERS
"""Calls that may stay open beside requests: who watches, and streams that bring nothing yet."""
_FINAL = "triton_final_response"
"""Triton's parameter of streamed answers: ours are all the only one of their request."""


@asynccontextmanager
async def grpc_listening(
    plane: DataPlane, recorder: RequestRecorder, grace_s: float
) -> AsyncIterator[int]:
    """Serve while entered; the value is the port. Requests under way get `grace_s` to end.

    Raises:
        SettingsError: if the address can't be listened on.
    """
    settings = plane.settings
    server = grpc.aio.server(
        # More requests could only be refused: each brings an image at least.
        maximum_concurrent_rpcs=settings.max_waiting_images + _OPEN_STREAMS,
        options=[
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", _LARGEST_OF_OURS),
            ("grpc.so_reuseport", 0),
            # However often clients ask whether we are there, none loses its calls over it.
            ("grpc.http2.max_ping_strikes", 0),
        ],
    )
    stop, health = asyncio.Event(), HealthServicer(plane)
    answering, servicer = (
        AnsweringServer(server, recorder),
        InferenceServicer(plane, recorder, stop),
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, answering)
    health_pb2_grpc.add_HealthServicer_to_server(health, answering)
    add_reflection(answering, stop)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError:
        raise SettingsError(
            f"can't listen on {settings.host}, port {settings.grpc_port}, for gRPC"
        ) from None
    await server.start()
    try:
        yield port
    finally:
        # Streams could stay open for ever: no more is read of them, and what was read is answered.
        stop.set()
        health.end()
        await server.stop(grace_s)


class InferenceServicer(SharedMemoryServicer):
    """The calls that tritonclient and perf_analyzer make; others are UNIMPLEMENTED."""

    def __init__(self, plane: DataPlane, recorder: RequestRecorder, stop: asyncio.Event) -> None:
        """Once `stop` is set, streams are read no further."""
        super().__init__(plane.shared_memory)
        self._plane = plane
        self._recorder = recorder
        self._stop = stop

    async def ServerLive(self, _: Any, __: Any) -> Any:
        """The server runs."""
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, _: Any, __: Any) -> Any:
        """Whether a model is served; the server listens only once it is loaded and warm."""
        return service_pb2.ServerReadyResponse(ready=self._plane.ready)

    async def ModelReady(self, request: Any, _: Any) -> Any:
        """Whether a model is served."""
        try:
            self._plane.find(request.name, request.version)
        except ModelNotFound:
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, _: Any, __: Any) -> Any:
        """Name, version, extensions."""
        return service_pb2.ServerMetadataResponse(
            name=SERVER_NAME,
            version=distribution_version("ride-server"),
            extensions=self._plane.extensions,
        )

    async def ModelMetadata(self, request: Any, _: Any) -> Any:
        """Inputs and outputs of a model."""
        return metadata_message(self._plane.find(request.name, request.version))

    async def ModelConfig(self, request: Any, _: Any) -> Any:
        """A model's configuration."""
        return config_message(self._plane.find(request.name, request.version))

    async def ModelStatistics(self, request: Any, _: Any) -> Any:
        """What a model, or every model, has done."""
        statistics = self._plane.statistics(request.name, request.version)
        return ParseDict(statistics, service_pb2.ModelStatisticsResponse())

    async def RepositoryIndex(self, request: Any, _: Any) -> Any:
        """The models in the repository, by version."""
        models = await self._plane.index(ready=request.ready)
        return ParseDict({"models": models}, service_pb2.RepositoryIndexResponse())

    async def RepositoryModelLoad(self, request: Any, _: Any) -> Any:
        """Load the latest version, in place of the one that is served."""
        await self._plane.load_model(request.model_name, request.parameters)
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, _: Any) -> Any:
        """Serve the model no more."""
        await self._plane.unload_model(request.model_name)
        return service_pb2.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Classify images."""
        return await self._inferred(request, context.time_remaining())

    async def ModelStreamInfer(self, requests: Any, context: Any) -> None:
        """Classify the images of each request of a stream, answered in the requests' order."""
        headers = headers_of(context)
        answers = in_order(
            requests, partial(self._streamed, headers), _MOST_OF_A_STREAM, self._stop
        )
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)

    async def _streamed(self, headers: Mapping[str, str], request: Any) -> Any:
        """An error is an answer like any other: the stream goes on."""
        try:
            with self._recorder.record("grpc", "ModelStreamInfer", headers) as record:
                response = await recorded(record, self._inferred(request))
            error = ""
        except Refused as refused:
            response = service_pb2.ModelInferResponse(id=getattr(request, "id", ""))
            error = refused.sentence
        response.parameters[_FINAL].bool_param = True
        return service_pb2.ModelStreamInferResponse(error_message=error, infer_response=response)

    async def _inferred(self, request: Any, time_left_s: float | None = None) -> Any:
        readable(request)
        with self._plane.admit(request.model_name, request.model_version) as admitted:
            parsed = parse_infer_message(request, admitted.model.input)
            return infer_message(await admitted.infer(parsed, time_left_s))
