"""gRPC: translates between messages and `serving.dataplane.inference`, and nothing else.

The Open Inference Protocol as Triton speaks it (package `inference`), with the messages that ship
in tritonclient, and the standard health service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache, partial
from importlib.metadata import version as distribution_version
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import ParseDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from serving import errors
from serving.dataplane.catalogue import ModelDescription
from serving.dataplane.inference import (
    PLATFORM,
    SERVER_NAME,
    InferenceModels,
    InferRequest,
    InferResponse,
    ServedModel,
    StoredInput,
    WantedOutput,
    all_outputs,
    distinct,
    wanted_output,
)
from serving.dataplane.shared_memory import parse_place
from serving.dataplane.tensors import Array, Datatype, TensorSpec, decode_raw, encode_raw
from serving.grpc.ordered_stream import Stopped, in_order
from serving.grpc.shared_memory import SharedMemoryServicer
from serving.metrics.request_recorder import HEADERS, RequestRecord, RequestRecorder
from serving.tracing.request_ids import REQUEST_ID

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

CODE: dict[type[errors.RideError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidImage: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedEncoding: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.RequestTimeout: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.RequestTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ImageTooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ModelControlRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RegionNotFound: grpc.StatusCode.NOT_FOUND,
    errors.RegionExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NoBackend: grpc.StatusCode.UNAVAILABLE,
    errors.BackendFault: grpc.StatusCode.INTERNAL,
    errors.ModelRepositoryError: grpc.StatusCode.INTERNAL,
    errors.AuditError: grpc.StatusCode.INTERNAL,
    errors.SettingsError: grpc.StatusCode.INTERNAL,
    errors.InferenceError: grpc.StatusCode.INTERNAL,
}
"""The code of every error; a test shows that none is missing."""

_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
_SERVICE = "inference.GRPCInferenceService"
_LARGEST_OF_OURS = 2**31 - 1
_WISHES_KEPT = 256
_MOST_OF_A_STREAM = 64
"""Requests of one stream under way; a client waits before it can send more."""
_FINAL = "triton_final_response"
"""Triton's parameter of streamed answers: ours are all the only one of their request."""
_UNKNOWN_FAILURE = "the server failed on this request; its log says why"


@asynccontextmanager
async def grpc_listening(
    models: InferenceModels, recorder: RequestRecorder, grace_s: float
) -> AsyncIterator[int]:
    """Serve while entered; the value is the port. Requests under way get `grace_s` to end.

    Raises:
        SettingsError: if the address can't be listened on.
    """
    settings = models.service.settings
    server = grpc.aio.server(
        # More could only be refused: each brings an image at least.
        maximum_concurrent_rpcs=settings.max_waiting_images,
        options=[
            ("grpc.max_receive_message_length", settings.max_body_bytes),
            ("grpc.max_send_message_length", _LARGEST_OF_OURS),
            ("grpc.so_reuseport", 0),
        ],
    )
    servicer = InferenceServicer(models, recorder)
    generic = _GenericHandlers(server)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, generic)
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, generic)
    for name in ("", _SERVICE):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError:
        raise errors.SettingsError(
            f"can't listen on {settings.host}, port {settings.grpc_port}, for gRPC"
        ) from None
    await server.start()
    try:
        yield port
    finally:
        await checks.enter_graceful_shutdown()
        servicer.end_streams()
        await server.stop(grace_s)


class _GenericHandlers:
    """Takes handlers from generated code, and leaves out that they are for registered methods.

    With every request grpc.aio waits anew for a call of each registered method, 23 here; generic
    handlers find the method by its name instead.
    """

    def __init__(self, server: Any) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Called by generated code beside the generic form."""


class _Refused(Exception):
    """A request that failed: what its client is told."""

    def __init__(self, code: grpc.StatusCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class InferenceServicer(SharedMemoryServicer):
    """The calls that tritonclient and perf_analyzer make; others are UNIMPLEMENTED."""

    def __init__(self, models: InferenceModels, recorder: RequestRecorder) -> None:
        super().__init__(models.shared_memory)
        self._models = models
        self._recorder = recorder
        self._stop = asyncio.Event()

    def end_streams(self) -> None:
        """Read no more from streams, which could stay open for ever, and answer what was read."""
        self._stop.set()

    async def ServerLive(self, _: Any, __: Any) -> Any:  # noqa: N802, the protocol's name
        """The server runs."""
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, _: Any, __: Any) -> Any:  # noqa: N802
        """Whether a model is served; the server listens only once it is loaded and warm."""
        return service_pb2.ServerReadyResponse(ready=self._models.service.host.ready)

    async def ModelReady(self, request: Any, _: Any) -> Any:  # noqa: N802
        """Whether a model is served."""
        try:
            self._models.find(request.name, request.version)
        except errors.ModelNotFound:
            return service_pb2.ModelReadyResponse(ready=False)
        return service_pb2.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, _: Any, __: Any) -> Any:  # noqa: N802
        """Name, version, extensions."""
        return service_pb2.ServerMetadataResponse(
            name=SERVER_NAME,
            version=distribution_version("ride-server"),
            extensions=self._models.extensions,
        )

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Inputs and outputs of a model."""

        async def answer() -> Any:
            model = self._models.find(request.name, request.version)
            return service_pb2.ModelMetadataResponse(
                name=model.name,
                versions=[model.version],
                platform=PLATFORM,
                inputs=[_described(spec) for spec in model.inputs],
                outputs=[_described(output) for output in model.outputs],
            )

        return await self._answered(context, "ModelMetadata", answer)

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A model's configuration."""

        async def answer() -> Any:
            model = self._models.find(request.name, request.version)
            return service_pb2.ModelConfigResponse(config=_config(model))

        return await self._answered(context, "ModelConfig", answer)

    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What a model, or every model, has done since it was loaded."""

        async def answer() -> Any:
            statistics = self._models.statistics(request.name, request.version)
            return ParseDict(statistics, service_pb2.ModelStatisticsResponse())

        return await self._answered(context, "ModelStatistics", answer)

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The models in the repository, by version."""

        async def answer() -> Any:
            models = await self._models.index(ready=request.ready)
            return ParseDict({"models": models}, service_pb2.RepositoryIndexResponse())

        return await self._answered(context, "RepositoryIndex", answer)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Load the latest version, in place of the one that is served."""

        async def answer() -> Any:
            await self._models.load(request.model_name, request.parameters)
            return service_pb2.RepositoryModelLoadResponse()

        return await self._answered(context, "RepositoryModelLoad", answer)

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Serve the model no more."""

        async def answer() -> Any:
            await self._models.unload(request.model_name)
            return service_pb2.RepositoryModelUnloadResponse()

        return await self._answered(context, "RepositoryModelUnload", answer)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Classify images."""
        time_left_s = context.time_remaining()
        return await self._answered(
            context, "ModelInfer", lambda: self._inferred(request, time_left_s)
        )

    async def ModelStreamInfer(self, requests: Any, context: Any) -> None:  # noqa: N802
        """Classify the images of each request of a stream, answered in the requests' order."""
        headers = _headers(context)
        answers = in_order(
            requests, partial(self._streamed, headers), _MOST_OF_A_STREAM, self._stop
        )
        try:
            async with aclosing(answers):
                async for answer in answers:
                    await context.write(answer)
        except Stopped:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    async def _streamed(self, headers: Mapping[str, str], request: Any) -> Any:
        """An error is an answer like any other: the stream goes on."""
        try:
            with self._recorder.record("grpc", "ModelStreamInfer", headers) as record:
                response = await self._recorded(record, lambda: self._inferred(request))
        except _Refused as refused:
            return service_pb2.ModelStreamInferResponse(
                error_message=refused.sentence,
                infer_response=service_pb2.ModelInferResponse(id=request.id),
            )
        response.parameters[_FINAL].bool_param = True
        return service_pb2.ModelStreamInferResponse(infer_response=response)

    async def _inferred(self, request: Any, time_left_s: float | None = None) -> Any:
        with self._models.live as live:
            model = ServedModel.of(live, request.model_name, request.model_version)
            self._models.service.require_time(live)
            parsed = parse_infer_message(request, model.description.input)
            return infer_message(await self._models.infer(model, parsed, time_left_s))

    async def _answered(
        self, context: Any, method: str, answer: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        work = method == "ModelInfer"
        try:
            headers = _headers(context)
            with self._recorder.record("grpc", method, headers, brings_work=work) as record:
                context.set_trailing_metadata(((REQUEST_ID, record.request.request_id),))
                return await self._recorded(record, answer)
        except _Refused as refused:
            code, sentence = refused.code, refused.sentence
        try:
            await context.abort(code, sentence)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # its deadline has passed meanwhile: nobody is there to be told
            raise asyncio.CancelledError from error
        raise AssertionError("abort raises")

    async def _recorded(
        self, record: RequestRecord, answer: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """The answer, whatever it is.

        Raises:
            _Refused: for any error.
        """
        code = grpc.StatusCode.CANCELLED
        try:
            result = await answer()
            code = grpc.StatusCode.OK
            return result
        except errors.RideError as error:
            code, sentence = CODE[type(error)], str(error)
            if code is grpc.StatusCode.INTERNAL:
                logger.exception("%s", error)
        except Exception:
            code, sentence = grpc.StatusCode.INTERNAL, _UNKNOWN_FAILURE
            logger.exception("a request failed")
        finally:
            record.answered(code.name, failed=code in _FAULTS)
            if record.traced:
                method = f"{_SERVICE}/{record.name}"
                record.describe(
                    method, {"rpc.method": method, "rpc.response.status_code": code.name}
                )
        # Not above: gRPC keeps for a while what it aborts with, and an error keeps its traceback.
        raise _Refused(code, sentence)


def _headers(context: Any) -> dict[str, str]:
    return {name: value for name, value in context.invocation_metadata() or () if name in HEADERS}


def parse_infer_message(message: Any, spec: TensorSpec) -> InferRequest:
    """Read a `ModelInferRequest` to a model of one input: raw or typed contents.

    Raises:
        InvalidRequest: naming the field and what is wrong with it.
    """
    if len(message.inputs) != 1 or message.inputs[0].name != spec.name:
        raise errors.InvalidRequest(f"there must be one input, {spec.name!r}")
    tensor = message.inputs[0]
    shape = spec.check(tensor.datatype, list(tensor.shape))
    return InferRequest(
        _input(tensor, message.raw_input_contents, spec, shape),
        _parameters(message.parameters),
        _wanted_outputs(message.outputs),
        message.id or None,
    )


def infer_message(response: InferResponse) -> Any:
    """A `ModelInferResponse`, its outputs raw; a router that was not asked has the score NaN."""
    return service_pb2.ModelInferResponse(
        model_name=response.model.name,
        model_version=response.model.version,
        id=response.identity or "",
        parameters={
            name: service_pb2.InferParameter(bool_param=value)
            for name, value in response.parameters.items()
        },
        outputs=[
            service_pb2.ModelInferResponse.InferOutputTensor(
                name=tensor.wanted.name, datatype=tensor.datatype, shape=tensor.array.shape
            )
            for tensor in response.outputs
        ],
        # Clients count on one each, empty where the output lies in shared memory.
        raw_output_contents=[
            b"" if tensor.stored else encode_raw(tensor.array) for tensor in response.outputs
        ],
    )


def _input(tensor: Any, raw: Any, spec: TensorSpec, shape: tuple[int, ...]) -> Array | StoredInput:
    place = parse_place(_parameters(tensor.parameters))
    if place is None:
        return _data(tensor, raw, spec, shape)
    if raw or tensor.HasField("contents"):
        raise errors.InvalidRequest(
            f"the input {spec.name!r} lies in shared memory, and is sent too"
        )
    return StoredInput(place, spec, shape)


def _data(tensor: Any, raw: Any, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    if len(raw) > 1:
        raise errors.InvalidRequest(f"there are {len(raw)} raw contents for one input")
    if raw:
        return decode_raw(raw[0], spec, shape)
    if spec.datatype is Datatype.BYTES:
        elements = tensor.contents.bytes_contents
        packed = b"".join(len(each).to_bytes(4, "little") + each for each in elements)
        return decode_raw(packed, spec, shape)
    values = tensor.contents.uint_contents
    try:
        return decode_raw(bytes(values), spec, shape)
    except ValueError:
        raise errors.InvalidRequest("uint_contents must hold numbers from 0 to 255") from None


def _parameters(parameters: Mapping[str, Any]) -> dict[str, object]:
    return dict(_parameter_values(parameters)) if parameters else {}


def _parameter_values(parameters: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in parameters.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is None:
            raise errors.InvalidRequest(f"the parameter {name[:100]!r} has no value")
        yield name, getattr(value, kind)


def _wanted_outputs(outputs: Any) -> tuple[WantedOutput, ...]:
    if not any(output.parameters for output in outputs):
        return _plain_outputs(tuple(output.name for output in outputs))
    return distinct(
        _wanted_output(output.name, _parameters(output.parameters)) for output in outputs
    )


@lru_cache(_WISHES_KEPT)  # most requests want the same few
def _plain_outputs(names: tuple[str, ...]) -> tuple[WantedOutput, ...]:
    if not names:
        return all_outputs(binary=True)
    return distinct(wanted_output(name, binary=True) for name in names)


def _wanted_output(name: str, parameters: Mapping[str, object]) -> WantedOutput:
    classes, place = parameters.get("classification", 0), parse_place(parameters)
    return wanted_output(name, binary=True, classes=classes, place=place)


def _described(spec: TensorSpec) -> Any:
    return service_pb2.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )


def _config(model: ModelDescription) -> Any:
    def described(kind: Any, spec: TensorSpec) -> Any:
        datatype = getattr(model_config_pb2, spec.datatype.config_name)
        return kind(name=spec.name, data_type=datatype, dims=spec.shape)

    return model_config_pb2.ModelConfig(
        name=model.name,
        platform=PLATFORM,
        max_batch_size=0,
        input=[described(model_config_pb2.ModelInput, spec) for spec in model.inputs],
        output=[described(model_config_pb2.ModelOutput, output) for output in model.outputs],
    )
