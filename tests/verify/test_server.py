"""Asking a server: what is sent, what comes back, and what is wrong with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from serving.dataplane.catalogue import Catalogue, ModelDescription
from serving.dataplane.tensors import encode_raw
from serving.engine.graphs import Engine
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until
from verify import server as client
from verify.errors import VerificationError
from verify.responses import Prediction, Response
from verify.server import ServerBusy, connect, read_predictions, request_batches


@pytest.fixture(scope="module")
def model(engine: Engine) -> ModelDescription:
    return Catalogue(engine).find("ride", None)


def ask(
    address: str, model: ModelDescription, rows: Sequence[Any] = (), wait_s: float = 10
) -> list[Response]:
    async def connect_and_ask() -> list[Response]:
        async with connect(address, [model], wait_s) as server:
            return await server.infer(model, rows)

    return asyncio.run(connect_and_ask())


@given(st.lists(st.integers(0, 6 * 2**20), max_size=100))
def test_batches_are_all_rows_in_order(sizes: list[int]) -> None:
    rows = [np.broadcast_to(np.uint8(i), size) for i, size in enumerate(sizes)]
    found = list(request_batches(rows))
    assert [id(row) for batch in found for row in batch] == [id(row) for row in rows]
    for batch in found:
        assert len(batch) == 1 or sum(len(row) for row in batch) <= 2**23


def test_batches_are_of_mixed_sizes() -> None:
    assert [len(batch) for batch in request_batches([b"x"] * 90)] == [
        1,
        2,
        7,
        32,
        1,
        2,
        7,
        32,
        1,
        2,
        3,
    ]


def test_responses_are_in_the_order_of_the_rows(
    server: RunningServer, engine: Engine, model: ModelDescription, pixels: NDArray[np.uint8]
) -> None:
    expected = engine.classify(pixels, engine.rule())
    for response, probabilities in zip(
        ask(server.grpc_address, model, list(pixels)), expected.probabilities, strict=True
    ):
        assert isinstance(response, Prediction)
        np.testing.assert_allclose(response.probabilities, probabilities, atol=1e-5)


@pytest.mark.usefixtures("short_pauses")
def test_a_server_without_room_is_asked_again(
    small_server: RunningServer, model: ModelDescription, pixels: NDArray[np.uint8]
) -> None:
    responses = ask(small_server.grpc_address, model, list(pixels[:40]))
    assert all(isinstance(response, Prediction) for response in responses)


def test_a_server_that_stays_without_room_is_an_error(
    small_server: RunningServer,
    model: ModelDescription,
    pixels: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_PAUSES_S", ())
    with pytest.raises(VerificationError, match="gone or under load .RESOURCE_EXHAUSTED, "):
        # A slow machine sends one at a time, for which there is room: then again.
        wait_until(lambda: not ask(small_server.grpc_address, model, list(pixels[:40])))


def test_a_server_that_goes_away_is_an_error(
    repository: Path,
    model: ModelDescription,
    pixels: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_PAUSES_S", (0.01, 0.01))

    async def ask_when_gone(running: RunningServer) -> None:
        async with connect(running.grpc_address, [model]) as server:
            await server.infer(model, [pixels[0]])
            running.process.kill()
            running.process.wait()
            await server.infer(model, list(pixels))

    with (
        running_server(repository, tmp_path / "log.txt") as running,
        pytest.raises(VerificationError, match="gone or under load .UNAVAILABLE, "),
    ):
        asyncio.run(ask_when_gone(running))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_an_address_where_no_server_answers(server: RunningServer, model: ModelDescription) -> None:
    http = server.url.removeprefix("http://")
    for address in (f"127.0.0.1:{free_port()}", http, "no.such.host.invalid:1"):
        with pytest.raises(VerificationError, match=f"no server .* answers over gRPC at {address}"):
            ask(address, model)


def test_a_server_that_says_nothing_is_not_waited_for_long(model: ModelDescription) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(VerificationError, match="no server .*DEADLINE_EXCEEDED"):
            ask(address, model, wait_s=0.3)


@pytest.mark.parametrize("address", ["localhost", "http://localhost:8001", ""])
def test_an_address_of_another_form_is_refused(address: str, model: ModelDescription) -> None:
    with pytest.raises(VerificationError, match="takes HOST:PORT"):
        ask(address, model)


def test_a_model_that_is_not_served(server: RunningServer, model: ModelDescription) -> None:
    other = ModelDescription("resnet", "1", model.inputs, model.outputs)
    with pytest.raises(VerificationError, match="serves no model 'resnet'"):
        ask(server.grpc_address, other)


def test_a_server_of_another_model(
    server: RunningServer, engine: Engine, pixels: NDArray[np.uint8]
) -> None:
    """This repository's has ten classes, the server's a hundred."""
    names, counts = engine.manifest.class_names[:10], engine.manifest.class_counts[:10]
    smaller = replace(engine.manifest, class_names=names, class_counts=counts, corrections=())
    model = Catalogue(replace(engine, manifest=smaller)).find("ride", None)
    with pytest.raises(VerificationError, match=r"shape \[1, 100\], .* FP32 and \[1, 10\]"):
        ask(server.grpc_address, model, [pixels[0]])


@pytest.fixture(scope="module")
def response(engine: Engine, pixels: NDArray[np.uint8]) -> Callable[[], Any]:
    """Makes a right answer to two images, to be spoilt."""
    routed = engine.classify(pixels[:2], engine.rule())
    outputs = {
        "probabilities": ("FP32", routed.probabilities),
        "experts_used": ("INT32", routed.experts_used),
        "router_scores": ("FP32", routed.router_scores),
    }

    def make() -> Any:
        message = service_pb2.ModelInferResponse(model_name="ride", model_version="1")
        for name, (datatype, array) in outputs.items():
            message.outputs.add(name=name, datatype=datatype, shape=array.shape)
            message.raw_output_contents.append(encode_raw(array))
        return message

    return make


def test_a_right_answer_is_read(
    response: Callable[[], Any], model: ModelDescription, engine: Engine, pixels: NDArray[np.uint8]
) -> None:
    first, second = read_predictions(response(), model, 2)
    routed = engine.classify(pixels[:2], engine.rule())
    np.testing.assert_array_equal(first.router_scores, routed.router_scores[0])
    assert (first.experts_used, second.experts_used) == tuple(routed.experts_used)
    np.testing.assert_array_equal(second.probabilities, routed.probabilities[1])


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda message: setattr(message, "model_version", "2\x1b"), r"version 2\\x1b of ride"),
        (lambda message: message.outputs.pop(), "has not one raw content for each output"),
        (lambda message: setattr(message.outputs[2], "name", "x"), "no output 'router_scores'"),
        (
            lambda message: message.outputs[1].shape.append(3),
            r"experts_used of type INT32 and shape \[2, 3\]",
        ),
        (lambda message: setattr(message.outputs[0], "datatype", "FP64"), "of type FP64"),
        (lambda message: message.raw_output_contents.pop(), "has not one raw content"),
        (
            lambda message: message.raw_output_contents.__setitem__(0, b"x" * 7),
            "has 7 bytes of probabilities",
        ),
    ],
)
def test_an_answer_of_another_model_is_an_error(
    response: Callable[[], Any],
    model: ModelDescription,
    spoil: Callable[[Any], object],
    problem: str,
) -> None:
    message = response()
    spoil(message)
    with pytest.raises(VerificationError, match=problem):
        read_predictions(message, model, 2)


def test_an_answer_that_load_made_cheaper_does_not_count(
    response: Callable[[], Any], model: ModelDescription
) -> None:
    message = response()
    message.parameters["degraded"].bool_param = True
    with pytest.raises(ServerBusy, match="cheaper"):
        read_predictions(message, model, 2)
