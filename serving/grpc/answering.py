"""What every call of every service has in common: whatever goes wrong becomes a status.

Requests are recorded. A stream is not one: those that come in it are, and what breaks it off.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError

from serving.errors import InvalidRequest, RideError, Unsupported
from serving.grpc.errors import CODE
from serving.grpc.ordered_stream import Stopped
from serving.metrics.request_recorder import HEADERS, RequestRecord, RequestRecorder
from serving.tracing.request_ids import REQUEST_ID

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Call = Callable[[Any, Any], Awaitable[Any]]
"""A servicer's method: the request, or the stream of them, and the context."""

SERVICE = "inference.GRPCInferenceService"
_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
_WORK = "ModelInfer"
_UNKNOWN_FAILURE = "the server failed on this request; its log says why"
_UNREADABLE = object()
"""Stands for bytes that are no message."""


class Refused(Exception):
    """A request that failed: what its client is told."""

    def __init__(self, code: grpc.StatusCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence

    @property
    def is_fault(self) -> bool:
        """Whether it is the server's."""
        return self.code in _FAULTS


class AnsweringServer:
    """Stands where generated code adds its handlers to a server.

    What is added here is generic: with every request grpc.aio waits anew for a call of each method
    that is registered, while generic handlers find the method by its name.

    Attributes:
        services: the names of those that were added.
    """

    def __init__(self, server: Any, recorder: RequestRecorder) -> None:
        self.services: list[str] = []
        self._server = server
        self._recorder = recorder

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Called by generated code for what it adds by the other name as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add a service; calls that its servicer leaves out are UNIMPLEMENTED."""
        answered = {name: self._answered(name, handler) for name, handler in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, answered)
        self._server.add_generic_rpc_handlers((generic,))
        self.services.append(service)

    def _answered(self, name: str, handler: Any) -> Any:
        forms = (_reading(handler.request_deserializer), handler.response_serializer)
        if handler.unary_unary:
            unary = self._unary(name, _offered(name, handler.unary_unary))
            return grpc.unary_unary_rpc_method_handler(unary, *forms)
        if handler.unary_stream:
            stream = self._stream(name, _of_readable(_offered(name, handler.unary_stream)))
            return grpc.unary_stream_rpc_method_handler(stream, *forms)
        stream = self._stream(name, _offered(name, handler.stream_stream))
        return grpc.stream_stream_rpc_method_handler(stream, *forms)

    def _unary(self, name: str, call: Call) -> Call:
        brings_work, of_readable = name == _WORK, _of_readable(call)

        async def answering(request: Any, context: Any) -> Any:
            headers = headers_of(context)
            try:
                with self._recorder.record(
                    "grpc", name, headers, brings_work=brings_work
                ) as record:
                    context.set_trailing_metadata(((REQUEST_ID, record.request.request_id),))
                    return await recorded(record, of_readable(request, context))
            except Refused as refused:
                code, sentence = refused.code, refused.sentence
            # Not above: gRPC keeps for a while what it aborts with, with its traceback.
            return await _abort(context, code, sentence)

        return answering

    def _stream(self, name: str, call: Call) -> Call:
        async def streaming(requests: Any, context: Any) -> None:
            try:
                await call(requests, context)
                return
            except grpc.aio.BaseError:
                raise  # gRPC's own: the stream has ended
            except Exception as error:  # noqa: BLE001, it is logged where it is named
                refused = refusal(error)
                code, sentence = refused.code, refused.sentence
                if not isinstance(error, Stopped):  # nothing failed: it was idle, and we end
                    with self._recorder.record(
                        "grpc", name, headers_of(context), brings_work=False
                    ) as record:
                        record.answered(code.name, failed=refused.is_fault)
            await _abort(context, code, sentence)

        return streaming


async def recorded(record: RequestRecord, answer: Awaitable[Answer]) -> Answer:
    """The answer, whatever it is.

    Raises:
        Refused: for any error.
    """
    code, is_fault = grpc.StatusCode.CANCELLED, False
    try:
        result = await answer
        code = grpc.StatusCode.OK
        return result
    except Exception as error:  # noqa: BLE001, it is logged where it is named
        refused = refusal(error)
        code, is_fault = refused.code, refused.is_fault
    finally:
        record.answered(code.name, failed=is_fault)
        if record.traced:
            method = f"{SERVICE}/{record.name}"
            record.describe(method, {"rpc.method": method, "rpc.response.status_code": code.name})
    raise refused


def refusal(error: Exception) -> Refused:
    """What a client is told of an error; of one that is our fault, no more than that."""
    if isinstance(error, Stopped):
        return Refused(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
    if not isinstance(error, RideError):
        logger.error("a request failed", exc_info=error)
        return Refused(grpc.StatusCode.INTERNAL, _UNKNOWN_FAILURE)
    code = CODE[type(error)]
    if code is grpc.StatusCode.INTERNAL:
        logger.error("%s", error, exc_info=error)
    return Refused(code, str(error))


def readable(request: Any) -> Any:
    """The request that a client sent.

    Raises:
        InvalidRequest: if it was none.
    """
    if request is _UNREADABLE:
        raise InvalidRequest("the message can't be read: it is damaged, or of another kind")
    return request


async def each_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests of a stream; raises as `readable` does."""
    async for request in requests:
        yield readable(request)


def headers_of(context: Any) -> dict[str, str]:
    """What a recorder reads of a call's metadata."""
    return {name: value for name, value in context.invocation_metadata() or () if name in HEADERS}


def _of_readable(call: Call) -> Call:
    async def checked(request: Any, context: Any) -> Any:
        return await call(readable(request), context)

    return checked


def _offered(name: str, call: Any) -> Call:
    """The call, or a refusal where generated code has nothing better."""

    async def refuse(_: Any, __: Any) -> None:
        raise Unsupported(f"this server does not offer {name}")

    return call if inspect.iscoroutinefunction(call) else refuse


def _reading(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """As `parse`, but for what it raises: gRPC would answer that with the names of classes."""

    def read(content: bytes) -> Any:
        try:
            return parse(content)
        except DecodeError:
            return _UNREADABLE

    return read


async def _abort(context: Any, code: grpc.StatusCode, sentence: str) -> None:
    try:
        await context.abort(code, sentence)
    except grpc.aio.AbortError:
        raise
    except Exception as error:  # its deadline has passed meanwhile: nobody is there to be told
        raise asyncio.CancelledError from error
