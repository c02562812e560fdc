"""What is served is found by clients of server reflection, of either version."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.running.server import RunningServer, running_server

TIMEOUT_S = 30
V1, V1ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"
SERVICES = ["grpc.health.v1.Health", V1, V1ALPHA, "inference.GRPCInferenceService"]
Request = reflection_pb2.ServerReflectionRequest


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


def asking(channel: grpc.Channel, version: str, requests: Iterator[Any]) -> Iterator[Any]:
    call = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        Request.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers: Iterator[Any] = call(requests, timeout=TIMEOUT_S)
    return answers


def ask(channel: grpc.Channel, version: str, *requests: Any) -> list[Any]:
    return list(asking(channel, version, iter(requests)))


def test_a_client_that_knows_nothing_calls_a_model(channel: grpc.Channel) -> None:
    """With what the server told of itself, and no generated code."""
    database = ProtoReflectionDescriptorDatabase(channel)
    assert sorted(database.get_services()) == SERVICES
    service = DescriptorPool(database).FindServiceByName("inference.GRPCInferenceService")
    method = service.FindMethodByName("ModelReady")
    asked, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{service.full_name}/{method.name}", asked.SerializeToString, answered.FromString
    )
    answer: Any = call(asked(name="ride"), timeout=TIMEOUT_S)
    assert answer.ready


@pytest.mark.parametrize("version", [V1, V1ALPHA])
def test_every_service_is_described_by_both_versions(channel: grpc.Channel, version: str) -> None:
    (listed,) = ask(channel, version, Request(list_services=""))
    assert [each.name for each in listed.list_services_response.service] == SERVICES
    answers = ask(channel, version, *[Request(file_containing_symbol=name) for name in SERVICES])
    for name, answer in zip(SERVICES, answers, strict=True):
        pool = DescriptorPool()
        # Its imports come after a file that needs them.
        for file in reversed(answer.file_descriptor_response.file_descriptor_proto):
            pool.AddSerializedFile(file)
        assert pool.FindServiceByName(name).full_name == name


def test_a_method_is_in_the_file_of_its_service(channel: grpc.Channel) -> None:
    of_method = Request(file_containing_symbol="grpc.health.v1.Health.Check")
    of_service = Request(file_containing_symbol="grpc.health.v1.Health")
    found, expected = ask(channel, V1, of_method, of_service)
    assert found.original_request == of_method
    assert found.file_descriptor_response == expected.file_descriptor_response
    assert expected.file_descriptor_response.file_descriptor_proto


NONSENSE = {
    "nothing": Request(),
    "no name": Request(file_containing_symbol=""),
    "unknown": Request(file_by_filename="a\x00/../etc/passwd"),
    "what only this process knows": Request(file_by_filename="google/protobuf/any.proto"),
    "no such extension": Request(
        file_containing_extension={
            "containing_type": "inference.ModelInferRequest",
            "extension_number": -1,
        }
    ),
    "extensions of nothing": Request(all_extension_numbers_of_type="x" * 100_000),
}


@pytest.mark.parametrize("version", [V1, V1ALPHA])
def test_nonsense_is_an_answer_and_the_stream_goes_on(channel: grpc.Channel, version: str) -> None:
    *answers, last = ask(channel, version, *NONSENSE.values(), Request(list_services="*"))
    for name, answer in zip(NONSENSE, answers, strict=True):
        assert answer.WhichOneof("message_response") == "error_response", name
    assert last.list_services_response.service


@pytest.mark.parametrize("version", [V1, V1ALPHA])
def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel, version: str) -> None:
    call = channel.stream_stream(f"/{version}/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError, match="the message can't be read") as caught:
        list(call(iter([b"\xff" * 100]), timeout=TIMEOUT_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_idle_client_does_not_keep_the_server_from_stopping(
    repository: Path, tmp_path: Path
) -> None:
    requests = queue.Queue[Any]()
    with (
        running_server(repository, tmp_path / "log.txt", ["--access-log"]) as server,
        grpc.insecure_channel(server.grpc_address) as channel,
    ):
        answers = asking(channel, V1, iter(requests.get, None))
        requests.put(Request(list_services=""))
        assert next(answers).list_services_response.service
        server.process.terminate()
        with pytest.raises(grpc.RpcError, match="the server is shutting down"):
            next(answers)
        requests.put(None)
        assert server.process.wait(TIMEOUT_S) == 0
        assert "UNAVAILABLE" not in server.log.read_text()  # nothing failed
