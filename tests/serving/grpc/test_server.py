"""gRPC where no client of Triton's goes: typed contents, hostile messages, limits, hanging up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving import errors
from serving.engine.graphs import Engine
from serving.grpc.errors import CODE
from tests.running.server import RunningServer, running_server

Pixels = NDArray[np.uint8]
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def message(shape: tuple[int, ...], raw: bytes | None = None, **fields: Any) -> Any:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="image", datatype="UINT8", shape=shape
    )
    raw_contents = [] if raw is None else [raw]
    return service_pb2.ModelInferRequest(
        model_name="ride", inputs=[tensor], raw_input_contents=raw_contents, **fields
    )


def every_error(base: type[errors.RideError] = errors.RideError) -> set[type[errors.RideError]]:
    return {kind for each in base.__subclasses__() for kind in (each, *every_error(each))}


def test_every_error_has_a_code() -> None:
    assert set(CODE) == every_error()


def test_typed_contents_are_read(stub: Any, engine: Engine, pixels: Pixels) -> None:
    request = message((1, 32, 32, 3))
    request.inputs[0].contents.uint_contents.extend(pixels[0].ravel().tolist())
    answer = stub.ModelInfer(request, timeout=TIMEOUT_S)
    expected = engine.classify(pixels[:1], engine.rule())
    probabilities = np.frombuffer(answer.raw_output_contents[0], "<f4")
    np.testing.assert_allclose(probabilities, expected.probabilities[0], atol=1e-5)


def test_typed_files_are_read(stub: Any, pixels: Pixels, png: Callable[[Pixels], bytes]) -> None:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="image_bytes", datatype="BYTES", shape=[2]
    )
    tensor.contents.bytes_contents.extend([png(pixels[0]), png(pixels[1])])
    request = service_pb2.ModelInferRequest(model_name="ride_image", inputs=[tensor])
    assert list(stub.ModelInfer(request, timeout=TIMEOUT_S).outputs[0].shape) == [2, 100]


def too_bright() -> Any:
    request = message((1, 32, 32, 3))
    request.inputs[0].contents.uint_contents.extend([256] * 3072)
    return request


def two_contents() -> Any:
    request = message((1, 32, 32, 3), bytes(3072))
    request.raw_input_contents.append(bytes(3072))
    return request


def raw_and_typed() -> Any:
    request = message((1, 32, 32, 3), bytes(3072))
    request.inputs[0].contents.uint_contents.extend([0] * 3072)
    return request


def raw_and_empty() -> Any:
    request = message((1, 32, 32, 3), bytes(3072))
    request.inputs[0].contents.SetInParent()
    return request


def of_two_types() -> Any:
    request = message((1, 32, 32, 3))
    request.inputs[0].contents.uint_contents.extend([0] * 3072)
    request.inputs[0].contents.fp32_contents.extend([0.0] * 3072)
    return request


def of_another_datatype() -> Any:
    request = message((1, 32, 32, 3), bytes(4 * 3072))
    request.inputs[0].datatype = "FP32"
    return request


def without_value() -> Any:
    request = message((1, 32, 32, 3), bytes(3072))
    request.parameters["threshold"].Clear()
    return request


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: service_pb2.ModelInferRequest(model_name="ride"), "one input, 'image'"),
    "no data": (lambda: message((1, 32, 32, 3)), "has 0 bytes"),
    "two raw contents": (
        two_contents,
        "2 raw contents",
    ),
    "raw and typed contents": (raw_and_typed, "has raw contents and typed ones"),
    "raw contents and an empty field for typed ones": (raw_and_empty, "raw contents and typed"),
    "contents of two types": (of_two_types, "its data in uint_contents, not fp32_contents"),
    "another datatype": (of_another_datatype, "must have the datatype UINT8"),
    "too little": (lambda: message((1, 32, 32, 3), bytes(5)), "has 5 bytes"),
    "huge shape": (lambda: message((2**62, 32, 32, 3), bytes(5)), "may hold 1024 images"),
    "negative shape": (lambda: message((-1, 32, 32, 3), bytes(5)), "a whole number above 0"),
    "no rows": (lambda: message((0, 32, 32, 3), b""), "a whole number above 0"),
    "no dimensions": (lambda: message((), bytes(1)), "it has 0 dimensions"),
    "too bright": (too_bright, "numbers from 0 to 255"),
    "no value": (without_value, "'threshold' has no value"),
}


@pytest.mark.parametrize(("make", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_message_is_refused_in_one_sentence(
    stub: Any, make: Callable[[], Any], sentence: str
) -> None:
    with pytest.raises(grpc.RpcError, match=sentence) as caught:
        stub.ModelInfer(make(), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Traceback" not in caught.value.details()


def test_a_parameter_that_triton_reserves_is_passed_over(stub: Any) -> None:
    """perf_analyzer sends this one with every request."""
    request = message((1, 32, 32, 3), bytes(3072))
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    assert stub.ModelInfer(request, timeout=TIMEOUT_S).outputs


UNARY = [
    f"/{service.full_name}/{method.name}"
    for service in (
        service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
        health_pb2.DESCRIPTOR.services_by_name["Health"],
    )
    for method in service.methods
    if not (method.client_streaming or method.server_streaming)
]


@pytest.mark.parametrize("method", UNARY)
def test_bytes_that_are_no_message_are_refused_in_one_sentence(
    channel: grpc.Channel, method: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"\xff" * 100, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == (
        "the message can't be read: it is damaged, or of another kind"
    )


def test_bytes_that_are_no_message_harm_nobody(channel: grpc.Channel, stub: Any) -> None:
    with pytest.raises(grpc.RpcError, match="the message can't be read") as caught:
        list(channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff", timeout=TIMEOUT_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=TIMEOUT_S).ready


def test_what_is_not_implemented_says_so(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.TraceSetting(service_pb2.TraceSettingRequest(), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "this server does not offer TraceSetting"


def test_an_unknown_model_is_not_found(stub: Any) -> None:
    for call, request in (
        (stub.ModelMetadata, service_pb2.ModelMetadataRequest(name="resnet")),
        (stub.ModelConfig, service_pb2.ModelConfigRequest(name="resnet")),
        (stub.ModelInfer, service_pb2.ModelInferRequest(model_name="resnet")),
    ):
        with pytest.raises(grpc.RpcError, match="no model 'resnet'") as caught:
            call(request, timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_requests_are_counted_by_protocol_and_code(server: RunningServer, stub: Any) -> None:
    def counted(code: str) -> float:
        name = f'ride_requests_total{{code="{code}",protocol="grpc"}} '
        lines = server.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    good, bad = counted("OK"), counted("INVALID_ARGUMENT")
    stub.ModelInfer(message((1, 32, 32, 3), bytes(3072)), timeout=TIMEOUT_S)
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(message((1, 32, 32, 3), b""), timeout=TIMEOUT_S)
    assert (counted("OK"), counted("INVALID_ARGUMENT")) == (good + 1, bad + 1)


@pytest.fixture(scope="module")
def strict(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """A server that takes small messages and few images."""
    log = tmp_path_factory.mktemp("strict_grpc") / "log.txt"
    flags = ("--max-body-mib=1", "--max-images-per-request=8", "--max-waiting-images=8")
    with (
        running_server(repository, log, flags) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_messages_above_the_limit_are_refused(strict: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        strict.ModelInfer(message((400, 32, 32, 3), bytes(400 * 3072)), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_too_many_rows_are_refused(strict: Any) -> None:
    with pytest.raises(grpc.RpcError, match="a request may hold 8 images, not 9") as caught:
        strict.ModelInfer(message((9, 32, 32, 3), bytes(9 * 3072)), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_full_server_says_so_and_others_are_answered(strict: Any) -> None:
    requests = [message((8, 32, 32, 3), bytes(8 * 3072)) for _ in range(40)]
    calls = [strict.ModelInfer.future(request, timeout=TIMEOUT_S) for request in requests]
    codes = [call.code() for call in calls]
    assert grpc.StatusCode.OK in codes
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_one_who_hangs_up_disturbs_nobody(server: RunningServer, pixels: Pixels) -> None:
    async def ask() -> None:
        async with grpc.aio.insecure_channel(server.grpc_address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = message((48, 32, 32, 3), pixels.tobytes())
            calls = [stub.ModelInfer(request, timeout=TIMEOUT_S) for _ in range(3)]
            calls[1].cancel()
            first, third = await asyncio.gather(calls[0], calls[2])
            assert first.raw_output_contents == third.raw_output_contents
            assert calls[1].cancelled()

    asyncio.run(ask())


def test_a_deadline_ends_the_wait(server: RunningServer, stub: Any, pixels: Pixels) -> None:
    request = message((960, 32, 32, 3), np.tile(pixels, (20, 1, 1, 1)).tobytes())
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, timeout=0.02)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stub.ModelInfer(message((1, 32, 32, 3), bytes(3072)), timeout=TIMEOUT_S)
