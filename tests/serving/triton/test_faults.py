"""Triton servers that fail, refuse or answer nonsense: what a client of the front is told."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from serving.engine.graphs import Engine
from serving.images.decode import ImageLimits, decode_image
from serving.model.manifest import manifest_path
from serving.model.manifest_json import load_manifest
from tests.running.server import RunningServer, running_server
from tests.running.waiting import WAIT_S, wait_until
from tests.serving.triton.scripted_triton import ScriptedTriton, Tensors, scripted_triton

CLASSIFY = "/v1/classify"
TIMEOUT_S = 3


@pytest.fixture(scope="module")
def triton(engine: Engine) -> Iterator[ScriptedTriton]:
    with scripted_triton(engine.manifest.num_classes, engine.manifest.num_experts) as triton:
        yield triton


@pytest.fixture(scope="module")
def manifests(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests without graphs: version 2 has other class names and takes larger images."""
    folder = tmp_path_factory.mktemp("manifests")
    content = json.loads(load_manifest(repository, 1).to_json())
    write_manifest(folder, 1, content)
    content["class_names"] = [f"new {name}" for name in content["class_names"]]
    content["image"] = {**content["image"], "height": 40, "width": 48, "resize_shorter_side": 56}
    write_manifest(folder, 2, content)
    return folder


def write_manifest(folder: Path, version: int, content: dict[str, Any]) -> None:
    graphs = {
        path.replace("/1/", f"/{version}/"): digest for path, digest in content["graphs"].items()
    }
    path = manifest_path(folder, version)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**content, "graphs": graphs}))


@pytest.fixture(scope="module")
def shared_front(
    manifests: Path, triton: ScriptedTriton, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("front") / "log.txt"
    flags = (
        f"--triton={triton.address}",
        "--max-waiting-images=500",
        f"--request-timeout-ms={1_000 * TIMEOUT_S}",
    )
    with running_server(manifests, log, flags) as running:
        yield running
    # gRPC leaves a traceback of its own where it can't read a message.
    assert "/serving/" not in log.read_text(), log.read_text()


@pytest.fixture
def front(shared_front: RunningServer, triton: ScriptedTriton) -> RunningServer:
    """With a Triton that is well again."""
    triton.infer, triton.versions, triton.ready = triton.good, ["1"], True
    wait_until(lambda: shared_front.get("/v2/health/ready").is_success)
    wait_until(
        lambda: 'ride_model_info{model="ride",version="1"}' in shared_front.get("/metrics").text
    )
    triton.requests.clear()
    return shared_front


def assert_refused(response: httpx.Response, status: int, sentence: str) -> None:
    """The right status and a sentence that tells nothing of anybody's insides."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert re.search(sentence, error), error
    assert len(error) < 400
    for telltale in (
        "\n",
        "Traceback",
        "/models/",
        "model.py",
        "Error(",
        "StatusCode",
        "request id",
    ):
        assert telltale not in error


def test_what_is_sent_is_the_model_s_request(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...], engine: Engine
) -> None:
    query = "max_experts=2&threshold=0.25&top_k=1"
    files = [("file", data) for data in pictures[:3]]
    assert front.post(f"{CLASSIFY}?{query}", files=files).status_code == 200
    (request,) = triton.requests
    spec = engine.manifest.image
    assert (request.model_name, request.model_version) == ("ride", "1")
    assert list(request.inputs[0].shape) == [3, spec.height, spec.width, 3]
    sent = {
        name: value.WhichOneof("parameter_choice") for name, value in request.parameters.items()
    }
    assert sent == {
        "max_experts": "int64_param",
        "threshold": "double_param",
        "timeout": "int64_param",
    }
    assert 0 < request.parameters["timeout"].int64_param <= 1_000_000 * TIMEOUT_S


# Refusals

PYTHON_BACKEND_ERROR = """\
Failed to process the request(s) for model instance 'ride_0_0', message: ValueError: too many

At:
  /models/ride/1/model.py(12): execute
"""


def aborting(code: grpc.StatusCode, text: str) -> Callable[[Any, Any], None]:
    return lambda _, context: context.abort(code, text)


@pytest.mark.parametrize(
    ("code", "text", "status", "sentence"),
    [
        ("INVALID_ARGUMENT", "max_experts is 9", 400, "^max_experts is 9$"),
        (
            "INVALID_ARGUMENT",
            "[request id: <id_unknown>] in ensemble 'ride', max_experts is 9",
            400,
            "^max_experts is 9$",
        ),
        (
            "INVALID_ARGUMENT",
            PYTHON_BACKEND_ERROR,
            400,
            "^too many$",
        ),
        ("INVALID_ARGUMENT", "/models/ride/1/model.py is bad", 400, "^Triton refused the request$"),
        ("INVALID_ARGUMENT", "", 400, "^Triton refused the request$"),
        ("RESOURCE_EXHAUSTED", "busy", 503, "^the server is busy; try again"),
        ("UNAVAILABLE", "[request id: 1] Exceeds maximum queue size", 503, "server is busy"),
        ("UNAVAILABLE", "Request timeout expired", 504, "deadline passed"),
        ("DEADLINE_EXCEEDED", "late", 504, "deadline passed"),
        ("INTERNAL", PYTHON_BACKEND_ERROR, 502, "Triton server failed on this"),
        ("UNKNOWN", "Exception calling application", 502, "Triton server failed on this"),
        ("UNIMPLEMENTED", "", 502, "Triton server failed on this"),
    ],
)
def test_an_error_of_triton_is_told_in_one_clean_sentence_and_not_tried_again(
    front: RunningServer,
    triton: ScriptedTriton,
    pictures: tuple[bytes, ...],
    code: str,
    text: str,
    status: int,
    sentence: str,
) -> None:
    triton.infer = aborting(grpc.StatusCode[code], text)
    response = front.post(CLASSIFY, content=pictures[0])
    assert_refused(response, status, sentence)
    assert ("retry-after" in response.headers) is (status == 503)
    assert len(triton.requests) == 1
    assert front.get("/v2/health/ready").is_success
    if status == 502:
        assert f"[StatusCode.{code}]" in front.log.read_text()


def test_a_message_that_triton_does_not_take_is_too_large(
    front: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    files = [("file", data) for data in pictures * 8]
    refused = front.post(CLASSIFY, files=files)
    assert_refused(refused, 413, "more than Triton takes in one message")


def test_images_that_wait_for_triton_are_bounded(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    answering = threading.Event()

    def slow(request: Any, context: Any) -> Any:
        answering.wait(WAIT_S)
        return triton.good(request, context)

    triton.infer = slow
    files = [("file", data) for data in pictures * 6]
    with ThreadPoolExecutor(1) as client:
        first = client.submit(front.post, CLASSIFY, files=files)
        wait_until(lambda: len(triton.requests) == 1)
        assert_refused(front.post(CLASSIFY, files=files), 503, "the server is busy; try again")
        answering.set()
        assert first.result().status_code == 200
    assert front.post(CLASSIFY, files=files).status_code == 200


def test_a_deadline_that_passes_ends_the_request_here_and_there(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    ended = threading.Event()

    def slow(request: Any, context: Any) -> Any:
        assert context.time_remaining() < TIMEOUT_S + 0.5  # gRPC rounds it
        context.add_callback(ended.set)
        ended.wait(WAIT_S)
        return triton.good(request, context)

    triton.infer = slow
    start = time.monotonic()
    assert_refused(front.post(CLASSIFY, content=pictures[0]), 504, "^the request's deadline passed")
    assert TIMEOUT_S <= time.monotonic() - start < WAIT_S
    assert ended.wait(WAIT_S)
    assert len(triton.requests) == 1


# Servers that are lost, or not there yet


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("UNAVAILABLE", "Request for unknown model: 'ride' version 1 is not at ready state"),
        ("NOT_FOUND", "Request for unknown model: 'ride' is not found"),
        ("INVALID_ARGUMENT", "Request for unknown model: 'ride' is not found"),
        ("CANCELLED", "shutting down"),
        ("INTERNAL", "Received RST_STREAM with error code 2"),
    ],
)
def test_a_lost_call_is_tried_once_more_where_there_is_one_server(
    front: RunningServer,
    triton: ScriptedTriton,
    pictures: tuple[bytes, ...],
    code: str,
    text: str,
) -> None:
    def once(request: Any, context: Any) -> Any:
        if len(triton.requests) == 1:
            context.abort(grpc.StatusCode[code], text)
        return triton.good(request, context)

    triton.infer = once
    assert front.post(CLASSIFY, content=pictures[0]).status_code == 200
    assert len(triton.requests) == 2


def test_calls_that_are_always_lost_are_given_up(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    triton.infer = aborting(grpc.StatusCode.UNAVAILABLE, "no")
    refused = front.post(CLASSIFY, content=pictures[0])
    assert_refused(refused, 503, "the Triton servers failed on this request; try again")
    assert len(triton.requests) == 2


def test_an_unloaded_model_is_a_server_that_is_not_ready(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    triton.versions = []
    triton.infer = aborting(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'ride'")
    refused = front.post(CLASSIFY, content=pictures[0])
    assert_refused(refused, 503, "no Triton server is ready; try again")
    assert front.get("/v2/health/ready").status_code == 503
    triton.infer, triton.versions = triton.good, ["1"]
    wait_until(lambda: front.get("/v2/health/ready").is_success)
    assert front.post(CLASSIFY, content=pictures[0]).status_code == 200


# Versions


def test_another_version_is_asked_at_once_with_its_own_image_size_and_class_names(
    front: RunningServer,
    triton: ScriptedTriton,
    pictures: tuple[bytes, ...],
    manifests: Path,
) -> None:
    """Triton has swapped the versions before the front had a look."""

    def swapped(request: Any, context: Any) -> Any:
        if request.model_version == "1":
            triton.versions = ["2"]
            context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model")
        return triton.answer(triton.tensors(1), "2")

    triton.infer = swapped
    answer = front.post(CLASSIFY, content=pictures[0]).json()
    assert answer["version"] == "2"
    assert all(label["label"].startswith("new ") for label in answer["results"][0]["labels"])
    assert [request.model_version for request in triton.requests] == ["1", "2"]
    pixels = decode_image(pictures[0], load_manifest(manifests, 2).image, ImageLimits())
    assert triton.requests[1].raw_input_contents[0] == pixels.tobytes()
    assert list(triton.requests[1].inputs[0].shape) == [1, 40, 48, 3]
    assert 'ride_model_info{model="ride",version="2"} 1.0' in front.get("/metrics").text


def test_a_server_that_is_not_ready_is_asked_all_the_same_where_there_is_no_other(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    """So is Triton while it loads a version: what it serves goes on."""
    triton.ready = False
    wait_until(lambda: front.get("/v2/health/ready").status_code == 503)
    assert front.post(CLASSIFY, content=pictures[0]).status_code == 200


# Nonsense


def test_a_version_that_the_repository_lacks_is_told_to_clients_and_operators(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    triton.versions = ["1", "3"]
    wait_until(lambda: front.get("/v2/health/ready").status_code == 503)
    refused = front.post(CLASSIFY, content=pictures[0])
    assert_refused(
        refused,
        503,
        "^Triton serves version 3 of the model, which is not in this server's model repository$",
    )
    assert re.search(
        r"ERROR: +Triton at .* not ready: it serves version 3, and .*manifest.json can't be read",
        front.log.read_text(),
    )


@pytest.mark.parametrize("versions", [["latest", "-1"], ["9" * 5_000]])
def test_versions_that_are_none_are_not_taken(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...], versions: list[str]
) -> None:
    triton.versions = versions
    wait_until(lambda: front.get("/v2/health/ready").status_code == 503)
    assert front.post(CLASSIFY, content=pictures[0]).status_code == 503


def without(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def with_output(name: str, datatype: str, array: Any) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: (datatype, array)})


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without("probabilities"), "no output 'probabilities'"),
        (without("router_scores"), "no output 'router_scores'"),
        (
            with_output("probabilities", "FP32", np.zeros((1, 7), np.float32)),
            r"probabilities of type FP32 and shape \[1, 7\], .* are FP32 and \[1, 100\]",
        ),
        (with_output("probabilities", "FP64", np.zeros((1, 100))), "probabilities of type FP64"),
        (
            with_output("probabilities", "FP32", np.zeros((1, 100))),
            "has 800 bytes of probabilities",
        ),
        (
            with_output("probabilities", "FP32", np.full((1, 100), np.nan, np.float32)),
            "don't lie between 0 and 1",
        ),
        (
            with_output("probabilities", "FP32", np.full((1, 100), 7, np.float32)),
            "don't lie between 0 and 1",
        ),
        (with_output("experts_used", "INT32", np.zeros(1, np.int32)), "experts_used beyond 1 to 3"),
        (with_output("experts_used", "INT32", np.full(1, 4, np.int32)), "experts_used beyond"),
        (with_output("experts_used", "INT32", np.ones((1, 1), np.int32)), r"shape \[1, 1\]"),
        (with_output("router_scores", "FP32", np.zeros((2, 2), np.float32)), r"shape \[2, 2\]"),
        (
            with_output("router_scores", "x" * 10_000, np.zeros((1,) * 60, np.float32)),
            "router_scores of type xxx",
        ),
    ],
)
def test_an_answer_that_does_not_fit_the_model_is_a_bad_gateway(
    front: RunningServer,
    triton: ScriptedTriton,
    pictures: tuple[bytes, ...],
    spoil: Callable[[Tensors], object],
    sentence: str,
) -> None:
    def spoilt(*_: Any) -> Any:
        tensors = triton.tensors(1)
        spoil(tensors)
        return triton.answer(tensors)

    triton.infer = spoilt
    assert_refused(front.post(CLASSIFY, content=pictures[0]), 502, sentence)
    assert f"Triton at {triton.address}: Triton's answer has" in front.log.read_text()


def test_an_answer_of_another_version_is_a_bad_gateway(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    triton.infer = lambda *_: triton.answer(triton.tensors(1), "2")
    refused = front.post(CLASSIFY, content=pictures[0])
    assert_refused(
        refused, 502, "answered with version '2' of the model, and was asked for version 1"
    )


def test_outputs_without_contents_are_a_bad_gateway(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    def spoilt(*_: Any) -> Any:
        message = triton.answer(triton.tensors(1))
        del message.raw_output_contents[1:]
        return message

    triton.infer = spoilt
    assert_refused(front.post(CLASSIFY, content=pictures[0]), 502, "raw content")


def test_an_answer_is_marked_as_degraded_where_triton_s_is(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    def degraded(*_: Any) -> Any:
        message = triton.answer(triton.tensors(1))
        message.parameters["degraded"].bool_param = True
        return message

    triton.infer = degraded
    assert front.post(CLASSIFY, content=pictures[0]).json()["degraded"] is True
    assert "\nride_images_degraded_total 1.0\n" in front.get("/metrics").text


def test_bytes_that_are_no_message_are_a_bad_gateway(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    triton.infer = lambda *_: b"\xff" * 100
    assert_refused(front.post(CLASSIFY, content=pictures[0]), 502, "answer can't be read")
    assert front.get("/v2/health/ready").is_success
