"""gRPC streams: tritonclient's two forms, errors as answers, bounds, hanging up."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from serving.engine.graphs import Engine
from serving.grpc.ordered_stream import Stopped, in_order
from tests.running.server import RunningServer, running_server

Pixels = NDArray[np.uint8]
TIMEOUT_S = 30


def image_input(images: Pixels) -> Any:
    tensor = tritonclient.grpc.InferInput("image", list(images.shape), "UINT8")
    return tensor.set_data_from_numpy(images)


@pytest.fixture
def client(server: RunningServer) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with closing(tritonclient.grpc.InferenceServerClient(server.grpc_address)) as client:
        yield client


class Answers:
    """What a stream's callback was given, in order."""

    def __init__(self) -> None:
        self._given: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def __call__(self, result: Any, error: Any) -> None:
        self._given.put((result, error))

    def result(self) -> Any:
        result, error = self._given.get(timeout=TIMEOUT_S)
        assert error is None, error
        return result

    def error(self) -> Any:
        result, error = self._given.get(timeout=TIMEOUT_S)
        assert result is None
        return error

    def none_is_left(self) -> bool:
        return self._given.empty()


def test_each_request_of_a_stream_is_answered_in_order(
    client: tritonclient.grpc.InferenceServerClient, engine: Engine, pixels: Pixels
) -> None:
    """Requests of unequal size, more than are under way at a time."""
    answers = Answers()
    client.start_stream(answers)
    sizes = [1 + 7 * (place % 5 == 0) for place in range(100)]
    for place, size in enumerate(sizes):
        client.async_stream_infer("ride", [image_input(pixels[:size])], request_id=str(place))
    expected = engine.classify(pixels[:8], engine.rule()).probabilities
    for place, size in enumerate(sizes):
        result = answers.result()
        assert result.get_response().id == str(place)
        found = result.as_numpy("probabilities")
        np.testing.assert_allclose(found, expected[:size], atol=1e-5)
    client.stop_stream()
    assert answers.none_is_left()


def test_an_error_is_an_answer_and_the_stream_goes_on(
    client: tritonclient.grpc.InferenceServerClient, pixels: Pixels
) -> None:
    answers = Answers()
    client.start_stream(answers)
    good = [image_input(pixels[:1])]
    client.async_stream_infer("ride", good)
    client.async_stream_infer("resnet", good)
    client.async_stream_infer("ride", [image_input(np.zeros((1, 32, 31, 3), np.uint8))])
    client.async_stream_infer("ride", good, parameters={"max_experts": 9})
    client.async_stream_infer("ride", good, parameters={"max_experts": 1})
    assert answers.result().as_numpy("experts_used").shape == (1,)
    for sentence in ("there is no model 'resnet'", "shape [N, 32, 32, 3]", "max_experts must"):
        assert sentence in str(answers.error())
    assert answers.result().as_numpy("experts_used").tolist() == [1]
    client.stop_stream()


def test_a_failed_request_is_known_by_its_identity(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelInferRequest(model_name="resnet", id="mine")
        (answer,) = stub.ModelStreamInfer(iter([request]), timeout=TIMEOUT_S)
    assert "no model 'resnet'" in answer.error_message
    assert answer.infer_response.id == "mine"
    assert answer.infer_response.parameters["triton_final_response"].bool_param is True


@pytest.mark.parametrize("asked", [True, False])
def test_every_answer_is_marked_as_its_requests_last(
    client: tritonclient.grpc.InferenceServerClient, pixels: Pixels, asked: bool
) -> None:
    """As Triton marks them, whether or not a client asks for an empty final answer."""
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("ride", [image_input(pixels[:1])], enable_empty_final_response=asked)
    response = answers.result().get_response()
    assert response.parameters["triton_final_response"].bool_param is True
    assert len(response.outputs) == 3
    client.stop_stream()
    assert answers.none_is_left()


def test_asyncio_clients_stream_too(server: RunningServer, engine: Engine, pixels: Pixels) -> None:
    async def ask() -> list[tuple[Any, Any]]:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for row in range(8):
                yield {"model_name": "ride", "inputs": [image_input(pixels[row : row + 1])]}
            yield {"model_name": "resnet", "inputs": [image_input(pixels[:1])]}

        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc_address) as client:
            return [answer async for answer in client.stream_infer(requests())]

    *good, bad = asyncio.run(ask())
    found = np.concatenate([result.as_numpy("probabilities") for result, _ in good])
    expected = engine.classify(pixels[:8], engine.rule()).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert bad[0] is None
    assert isinstance(bad[1], InferenceServerException)


def test_an_empty_stream_ends(server: RunningServer) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert list(stub.ModelStreamInfer(iter([]), timeout=TIMEOUT_S)) == []


def test_requests_of_streams_are_counted(server: RunningServer, pixels: Pixels) -> None:
    def counted(code: str) -> float:
        name = f'ride_requests_total{{code="{code}",protocol="grpc"}} '
        lines = server.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = {code: counted(code) for code in ("OK", "NOT_FOUND")}
    tensor = image_input(pixels[:1])._get_tensor()
    good = service_pb2.ModelInferRequest(
        model_name="ride", inputs=[tensor], raw_input_contents=[pixels[:1].tobytes()]
    )
    bad = service_pb2.ModelInferRequest(model_name="resnet")
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        list(stub.ModelStreamInfer(iter([good, bad, good]), timeout=TIMEOUT_S))
    assert counted("OK") == before["OK"] + 2
    assert counted("NOT_FOUND") == before["NOT_FOUND"] + 1


def test_one_who_hangs_up_amid_a_stream_disturbs_nobody(
    server: RunningServer, client: tritonclient.grpc.InferenceServerClient, pixels: Pixels
) -> None:
    answers = Answers()
    client.start_stream(answers)
    for _ in range(200):
        client.async_stream_infer("ride", [image_input(pixels)])
    answers.result()
    client.stop_stream(cancel_requests=True)
    with closing(tritonclient.grpc.InferenceServerClient(server.grpc_address)) as other:
        result = other.infer("ride", [image_input(pixels[:1])], client_timeout=TIMEOUT_S)
    assert result.as_numpy("experts_used").shape == (1,)


def test_bytes_that_are_no_message_are_an_error_like_any_other(server: RunningServer) -> None:
    good = service_pb2.ModelInferRequest(model_name="resnet", id="mine").SerializeToString()
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )
        bad, other = call(iter([b"\xff" * 100, good]), timeout=TIMEOUT_S)
    assert bad.error_message.startswith("the message can't be read")
    assert other.infer_response.id == "mine"


def test_a_message_above_the_limit_ends_only_its_stream(strict_server: RunningServer) -> None:
    images = np.zeros((400, 32, 32, 3), np.uint8)
    request = service_pb2.ModelInferRequest(
        model_name="ride",
        inputs=[image_input(images)._get_tensor()],
        raw_input_contents=[images.tobytes()],
    )
    with grpc.insecure_channel(strict_server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ModelStreamInfer(iter([request]), timeout=TIMEOUT_S))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=TIMEOUT_S).ready


def test_an_idle_stream_does_not_keep_the_server_from_stopping(
    repository: Path, tmp_path: Path, pixels: Pixels
) -> None:
    log, answers = tmp_path / "log.txt", Answers()
    with (
        running_server(repository, log) as server,
        closing(tritonclient.grpc.InferenceServerClient(server.grpc_address)) as client,
    ):
        client.start_stream(answers)
        client.async_stream_infer("ride", [image_input(pixels[:1])])
        answers.result()
        start = time.monotonic()
        server.process.terminate()
        assert server.process.wait(TIMEOUT_S) == 0
        assert time.monotonic() - start < 8  # requests under way are given 10 seconds
        assert "the server is shutting down" in str(answers.error())


# The order and the bounds, without gRPC


async def numbers(count: int, read: list[int]) -> AsyncIterator[int]:
    for number in range(count):
        read.append(number)
        yield number


async def settle() -> None:
    """Let all that can go on without us go on."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_answers_keep_the_order_whichever_is_ready_first() -> None:
    async def run() -> list[int]:
        first_may_end = asyncio.Event()

        async def answer(number: int) -> int:
            if number == 0:
                await first_may_end.wait()
            elif number == 4:
                first_may_end.set()
            return number * 10

        return [each async for each in in_order(numbers(9, []), answer, 5, asyncio.Event())]

    assert asyncio.run(asyncio.wait_for(run(), TIMEOUT_S)) == [number * 10 for number in range(9)]


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_is_read_than_may_be_under_way(most: int) -> None:
    async def run() -> list[int]:
        read: list[int] = []
        seen: list[int] = []

        async def answer(number: int) -> int:
            return number

        async with aclosing(in_order(numbers(100, read), answer, most, asyncio.Event())) as answers:
            for _ in range(5):
                await anext(answers)
                await settle()
                seen.append(len(read))
        return seen

    # The answer that was just taken counts until the next one is asked for.
    assert asyncio.run(run()) == [most + taken for taken in range(5)]


def test_closing_cancels_what_is_under_way() -> None:
    async def run() -> list[int]:
        cancelled: list[int] = []

        async def answer(number: int) -> int:
            try:
                await asyncio.sleep(TIMEOUT_S if number else 0)
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
            return number

        async with aclosing(in_order(numbers(100, []), answer, 4, asyncio.Event())) as answers:
            assert await anext(answers) == 0
            await settle()
        return cancelled

    assert sorted(asyncio.run(run())) == [1, 2, 3]


def test_once_stopped_it_answers_what_was_read_and_reads_no_more() -> None:
    async def run() -> list[int]:
        stop, taken = asyncio.Event(), []

        async def endless() -> AsyncIterator[int]:
            yield 0
            yield 1
            await asyncio.Event().wait()

        async def answer(number: int) -> int:
            await settle()
            return number

        with pytest.raises(Stopped):
            async for each in in_order(endless(), answer, 4, stop):
                taken.append(each)
                stop.set()
        return taken

    assert asyncio.run(asyncio.wait_for(run(), TIMEOUT_S)) == [0, 1]


def test_what_breaks_the_stream_off_is_raised_after_the_answers() -> None:
    async def run() -> None:
        async def broken() -> AsyncIterator[int]:
            yield 1
            raise ConnectionError("gone")

        async def answer(number: int) -> int:
            return number

        answers = in_order(broken(), answer, 4, asyncio.Event())
        assert await anext(answers) == 1
        with pytest.raises(ConnectionError, match="gone"):
            await anext(answers)

    asyncio.run(run())
