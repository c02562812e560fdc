"""What every call has in common: it is recorded, and whatever goes wrong becomes a status."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from tritonclient.grpc import service_pb2_grpc

from serving.errors import RideError
from serving.grpc.errors import CODE
from serving.metrics.request_recorder import HEADERS, RequestRecord, RequestRecorder
from serving.tracing.request_ids import REQUEST_ID

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Call = Callable[[Any, Any, Any], Awaitable[Answer]]
"""A servicer's method: itself, the request, the context."""

SERVICE = "inference.GRPCInferenceService"
_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
_WORK = "ModelInfer"
_UNKNOWN_FAILURE = "the server failed on this request; its log says why"


class Refused(Exception):
    """A request that failed: what its client is told."""

    def __init__(self, code: grpc.StatusCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class AnsweringServicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The service without its calls; those that nobody adds are UNIMPLEMENTED."""

    def __init__(self, recorder: RequestRecorder) -> None:
        self.recorder = recorder


def answered(call: Call[Answer]) -> Call[Answer]:
    """A call that is recorded, and whose errors become statuses."""
    method = call.__name__

    @functools.wraps(call)
    async def answering(self: AnsweringServicer, request: Any, context: Any) -> Answer:
        try:
            headers, work = headers_of(context), method == _WORK
            with self.recorder.record("grpc", method, headers, brings_work=work) as record:
                context.set_trailing_metadata(((REQUEST_ID, record.request.request_id),))
                return await recorded(record, call(self, request, context))
        except Refused as refused:
            code, sentence = refused.code, refused.sentence
        try:
            await context.abort(code, sentence)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # its deadline has passed meanwhile: nobody is there to be told
            raise asyncio.CancelledError from error
        raise AssertionError("abort raises")

    return answering


async def recorded(record: RequestRecord, answer: Awaitable[Answer]) -> Answer:
    """The answer, whatever it is.

    Raises:
        Refused: for any error.
    """
    code = grpc.StatusCode.CANCELLED
    try:
        result = await answer
        code = grpc.StatusCode.OK
        return result
    except RideError as error:
        code, sentence = CODE[type(error)], str(error)
        if code is grpc.StatusCode.INTERNAL:
            logger.exception("%s", error)
    except Exception:
        code, sentence = grpc.StatusCode.INTERNAL, _UNKNOWN_FAILURE
        logger.exception("a request failed")
    finally:
        record.answered(code.name, failed=code in _FAULTS)
        if record.traced:
            method = f"{SERVICE}/{record.name}"
            record.describe(method, {"rpc.method": method, "rpc.response.status_code": code.name})
    # Not above: gRPC keeps for a while what it aborts with, and an error keeps its traceback.
    raise Refused(code, sentence)


def headers_of(context: Any) -> dict[str, str]:
    """What a recorder reads of a call's metadata."""
    return {name: value for name, value in context.invocation_metadata() or () if name in HEADERS}
