"""Triton servers that fail, refuse or are lost: what a client of the front is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.engine.graphs import Engine
from serving.errors import (
    BackendFault,
    DeadlineExceeded,
    InvalidImage,
    InvalidRequest,
    NoBackend,
    Overloaded,
    RideError,
)
from serving.http.errors import STATUS
from serving.images.decode import ImageLimits, decode_image
from serving.model.manifest_json import load_manifest
from tests.running.load import CLASSIFY
from tests.running.server import RunningServer
from tests.running.waiting import WAIT_S, wait_until
from tests.serving.triton.conftest import TIMEOUT_S
from tests.serving.triton.refusals import assert_refused
from tests.serving.triton.scripted_triton import ScriptedTriton


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


# What is counted


def test_every_error_in_front_of_triton_is_counted_once(
    front: RunningServer, triton: ScriptedTriton, pictures: tuple[bytes, ...]
) -> None:
    """Statistics are Triton's own: of a request that never reached it there are none."""

    def has(found: Callable[[], dict[str, float]], expected: dict[str, float]) -> bool:
        return found() == expected

    def failures() -> dict[str, float]:
        found = front.samples()
        return {
            name: found[name]
            for name in found
            if name.startswith("ride_requests_total{") and 'code="200"' not in name
        }

    provocations: dict[type[RideError], tuple[str, bytes, Any]] = {
        InvalidRequest: ("?quality=best", pictures[0], triton.good),
        InvalidImage: ("", b"no image", triton.good),
        BackendFault: ("", pictures[0], aborting(grpc.StatusCode.INTERNAL, "broken")),
        NoBackend: ("", pictures[0], aborting(grpc.StatusCode.UNAVAILABLE, "no")),
        Overloaded: ("", pictures[0], aborting(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")),
        DeadlineExceeded: ("", pictures[0], aborting(grpc.StatusCode.DEADLINE_EXCEEDED, "late")),
    }
    for kind, (query, content, triton.infer) in provocations.items():
        expected = failures()
        response = front.post(f"{CLASSIFY}{query}", content=content)
        assert response.status_code == STATUS[kind]
        counted = f'ride_requests_total{{code="{STATUS[kind]}",protocol="http"}}'
        expected[counted] = expected.get(counted, 0) + 1
        wait_until(partial(has, failures, expected))
    assert front.get("/v2/models/stats").status_code == 404
