"""gRPC, line by line of the Open Inference Protocol's document: what no other test shows.

`docs/protocol.md` has the lines and the tests that show them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.checkout import ROOT
from tests.running.server import RunningServer
from tests.serving.grpc.test_server import message

TIMEOUT_S = 30
SIZES = {"FP32": 4, "INT32": 4}


@pytest.fixture(scope="module")
def stub(server: RunningServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def image() -> Any:
    return message((2, 32, 32, 3), bytes(2 * 3072))


def test_every_line_has_a_test_that_is_there() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    table = page.partition("## Conformance: gRPC")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?!line |---)(.*?) \|$", table, re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        shown = re.findall(r"`(\w+/)?(test_\w+)\.(test_\w+)`", row.rpartition("|")[2])
        assert shown, row
        for folder, module, test in shown:
            path = ROOT / "tests" / "serving" / folder / f"{module}.py"
            assert f"def {test}(" in path.read_text(), (path, test)


def test_the_server_has_a_name_a_version_and_extensions(stub: Any) -> None:
    answer = stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=TIMEOUT_S)
    assert answer.name == "ride-server"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", answer.version)
    assert "binary_tensor_data" in answer.extensions


@pytest.mark.parametrize("version", ["", "1"])
def test_a_model_is_described(stub: Any, version: str) -> None:
    request = service_pb2.ModelMetadataRequest(name="ride", version=version)
    answer = stub.ModelMetadata(request, timeout=TIMEOUT_S)
    assert (answer.name, list(answer.versions)) == ("ride", ["1"])
    assert re.fullmatch(r"[a-z]+_[a-z]+", answer.platform)
    described = {each.name: (each.datatype, list(each.shape)) for each in answer.outputs}
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.inputs] == [
        ("image", "UINT8", [-1, 32, 32, 3])
    ]
    assert described == {
        "probabilities": ("FP32", [-1, 100]),
        "experts_used": ("INT32", [-1]),
        "router_scores": ("FP32", [-1, 2]),
    }


@pytest.mark.parametrize(("version", "ready"), [("", True), ("1", True), ("9", False)])
def test_a_model_is_ready_in_the_version_that_is_served(
    stub: Any, version: str, ready: bool
) -> None:
    request = service_pb2.ModelReadyRequest(name="ride", version=version)
    assert stub.ModelReady(request, timeout=TIMEOUT_S).ready is ready


def test_an_answer_has_raw_outputs_in_their_order_and_no_typed_ones(stub: Any) -> None:
    request = image()
    request.id = "mine"
    answer = stub.ModelInfer(request, timeout=TIMEOUT_S)
    assert (answer.model_name, answer.model_version, answer.id) == ("ride", "1", "mine")
    assert [each.name for each in answer.outputs] == [
        *("probabilities", "experts_used", "router_scores")
    ]
    for tensor, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        assert not tensor.HasField("contents")
        assert len(raw) == SIZES[tensor.datatype] * math.prod(tensor.shape)
    probabilities = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(2, -1)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert not stub.ModelInfer(image(), timeout=TIMEOUT_S).id


def test_outputs_come_as_they_are_asked_for(stub: Any) -> None:
    request = image()
    request.outputs.add(name="router_scores")
    request.outputs.add(name="experts_used")
    answer = stub.ModelInfer(request, timeout=TIMEOUT_S)
    assert [each.name for each in answer.outputs] == ["router_scores", "experts_used"]


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("max_experts", "int64_param", 1),
        ("max_experts", "uint64_param", 1),
        ("threshold", "double_param", 1.0),
        ("quality", "string_param", "fast"),
        ("triton_enable_empty_final_response", "bool_param", True),
    ],
)
def test_a_parameter_has_one_of_five_types(stub: Any, name: str, field: str, value: Any) -> None:
    request = image()
    setattr(request.parameters[name], field, value)
    assert stub.ModelInfer(request, timeout=TIMEOUT_S).outputs


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("max_experts", "bool_param", True),
        ("quality", "int64_param", 1),
        ("threshold", "string_param", "0.5"),
        ("temperature", "double_param", 0.5),
    ],
)
def test_a_parameter_of_another_type_or_name_is_refused(
    stub: Any, name: str, field: str, value: Any
) -> None:
    request = image()
    setattr(request.parameters[name], field, value)
    with pytest.raises(grpc.RpcError, match=name) as caught:
        stub.ModelInfer(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
