"""Clients that hang up, and deadlines that pass, over real sockets: their images are not run."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.engine.graphs import Engine
from tests.running.server import RunningServer, running_server
from tests.running.waiting import WAIT_S, wait_until

Pixels = NDArray[np.uint8]
HangUp = Callable[..., None]
ROUNDS, ROWS = 6, 6 * 48
"""Enough that a request takes a while, so that one can hang up in the middle of it."""


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With one worker, so that requests share their batches."""
    log = tmp_path_factory.mktemp("hang_up") / "log.txt"
    with running_server(repository, log, ["--workers=1"]) as running:
        yield running


@pytest.fixture
def many(pixels: Pixels) -> Pixels:
    """The pictures, several times over."""
    return np.tile(pixels, (ROUNDS, 1, 1, 1))


def images_run(server: RunningServer) -> float:
    return server.samples()["ride_images_total"]


def infer_body(images: Pixels, **parameters: object) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(
        {
            "parameters": {"threshold": 0.0, "binary_data_output": False, **parameters},
            "inputs": [
                {
                    "name": "image",
                    "datatype": "UINT8",
                    "shape": list(images.shape),
                    "parameters": {"binary_data_size": images.nbytes},
                }
            ],
            "outputs": [{"name": "experts_used"}, {"name": "probabilities"}],
        }
    ).encode()
    return head + images.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def send_and_keep_open(server: RunningServer, images: Pixels) -> socket.socket:
    body, headers = infer_body(images)
    lines = [
        "POST /v2/models/ride/infer HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(body)}",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    connection = server.connect()
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return connection


def infer_message(images: Pixels) -> Any:
    return service_pb2.ModelInferRequest(
        model_name="ride",
        inputs=[
            service_pb2.ModelInferRequest.InferInputTensor(
                name="image", datatype="UINT8", shape=images.shape
            )
        ],
        raw_input_contents=[images.tobytes()],
        parameters={"threshold": service_pb2.InferParameter(double_param=0.0)},
    )


def hang_up_over_http(server: RunningServer, images: Pixels) -> None:
    before = images_run(server)
    connection = send_and_keep_open(server, images)
    wait_until(lambda: images_run(server) > before or queued(server) > 0)
    connection.close()


def hang_up_over_grpc(server: RunningServer, images: Pixels) -> None:
    before = images_run(server)
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer.future(infer_message(images))
        wait_until(lambda: images_run(server) > before or queued(server) > 0)
        call.cancel()


def queued(server: RunningServer) -> float:
    return server.samples()['ride_queue_depth{stage="expert_1"}']


@pytest.mark.parametrize("hang_up", [hang_up_over_http, hang_up_over_grpc])
def test_one_of_three_hangs_up_and_the_others_get_their_answers(
    server: RunningServer, engine: Engine, pixels: Pixels, many: Pixels, hang_up: HangUp
) -> None:
    before = images_run(server)
    expected = engine.classify(pixels, engine.rule(threshold=0.0))
    answers: list[Any] = []

    def ask() -> None:
        body, headers = infer_body(many)
        response = httpx.post(
            f"{server.url}/v2/models/ride/infer", content=body, headers=headers, timeout=WAIT_S
        )
        answers.append(response.json())

    others = [threading.Thread(target=ask) for _ in range(2)]
    for thread in others:
        thread.start()
    hang_up(server, many)
    for thread in others:
        thread.join()
    for answer in answers:
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        assert outputs["experts_used"] == expected.experts_used.tolist() * ROUNDS
        np.testing.assert_allclose(
            np.reshape(outputs["probabilities"], (ROUNDS, *expected.probabilities.shape)),
            np.broadcast_to(expected.probabilities, (ROUNDS, *expected.probabilities.shape)),
            rtol=0,
            atol=1e-5,
        )
    assert len(answers) == 2
    wait_until(lambda: queued(server) == 0)
    # All images of the two were run, and not all of the one that hung up.
    assert 2 * ROWS <= images_run(server) - before < 3 * ROWS


def test_hanging_up_is_counted_as_that(server: RunningServer, many: Pixels) -> None:
    hang_up_over_http(server, many)
    hang_up_over_grpc(server, many)

    def counted() -> bool:
        text = server.get("/metrics").text
        return (
            'ride_requests_total{code="499",protocol="http"}' in text
            and 'ride_requests_total{code="CANCELLED",protocol="grpc"}' in text
        )

    wait_until(counted)


def test_a_timeout_in_the_request_ends_it(server: RunningServer, many: Pixels) -> None:
    before = images_run(server)
    body, headers = infer_body(many, timeout=20_000)  # microseconds
    response = server.post("/v2/models/ride/infer", content=body, headers=headers)
    assert response.status_code == 504
    assert response.json() == {"error": "the request's deadline passed before it was answered"}
    wait_until(lambda: queued(server) == 0)
    assert images_run(server) - before < ROWS


def test_a_deadline_of_grpc_ends_the_work_too(server: RunningServer, many: Pixels) -> None:
    before = images_run(server)
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(infer_message(many), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: queued(server) == 0)
    assert images_run(server) - before < ROWS


def test_deadlines_that_pass_at_any_moment_leave_no_trace_in_the_log(
    server: RunningServer, pixels: Pixels
) -> None:
    """The fixture looks for one: answers, errors and ends of calls all race here."""
    codes = set()
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for i in range(60):
            calls = [
                stub.ModelInfer.future(infer_message(pixels[:size]), timeout=0.002 + i / 500)
                for size in (1, 8, 32)
            ]
            codes |= {call.code() for call in calls}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert grpc.StatusCode.DEADLINE_EXCEEDED in codes


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"timeout": -1}, "'timeout' must be a whole number, not negative"),
        ({"timeout": 1.5}, "'timeout' must be a whole number"),
        ({"timeout": "soon"}, "'timeout' must be a whole number"),
        ({"priority": -1}, "'priority' must be a whole number, not negative"),
        ({"priority": True}, "'priority' must be a whole number"),
    ],
)
def test_urgency_that_makes_no_sense_is_refused(
    server: RunningServer, pixels: Pixels, parameters: dict[str, object], sentence: str
) -> None:
    body, headers = infer_body(pixels[:1], **parameters)
    response = server.post("/v2/models/ride/infer", content=body, headers=headers)
    assert response.status_code == 400
    assert sentence in response.json()["error"]


@pytest.mark.parametrize(
    "parameters", [{"timeout": 0}, {"timeout": 2**63 - 1}, {"priority": 2**64 - 1}]
)
def test_urgency_of_any_size_is_taken(
    server: RunningServer, pixels: Pixels, parameters: dict[str, object]
) -> None:
    body, headers = infer_body(pixels[:1], **parameters)
    assert server.post("/v2/models/ride/infer", content=body, headers=headers).is_success


def test_an_important_request_overtakes_a_large_one(server: RunningServer, many: Pixels) -> None:
    large = send_and_keep_open(server, many)
    wait_until(lambda: queued(server) > 0)
    body, headers = infer_body(many[:1], priority=1)
    assert server.post("/v2/models/ride/infer", content=body, headers=headers).is_success
    assert queued(server) > 0
    large.close()
