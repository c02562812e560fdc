"""`ride serve --triton` over real sockets: what its clients get where all is well.

An embedded server stands for Triton: its gRPC is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from serving.engine.graphs import Engine
from tests.checkout import ROOT
from tests.running.load import CLASSIFY
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until
from tests.serving.http.requests import as_files

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def front(
    repository: Path, server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """In front of the shared server, which stands for Triton."""
    log = tmp_path_factory.mktemp("front") / "log.txt"
    flags = [f"--triton={server.grpc_address}", "--max-images-per-request=600"]
    with running_server(repository, log, flags) as running:
        yield running


# Answers


@pytest.mark.parametrize(
    "query",
    ["", "top_k=100", "max_experts=2", "threshold=0", "quality=fast", "quality=full&top_k=1"],
)
def test_images_get_the_answers_that_the_model_gives_them_there(
    front: RunningServer, server: RunningServer, pictures: tuple[bytes, ...], query: str
) -> None:
    there = server.post(f"{CLASSIFY}?{query}", files=as_files(pictures))
    here = front.post(f"{CLASSIFY}?{query}", files=as_files(pictures))
    assert here.status_code == there.status_code == 200
    assert without_numbers(here) == without_numbers(there)
    np.testing.assert_allclose(numbers(here), numbers(there), rtol=0, atol=1e-5)


def without_numbers(response: httpx.Response) -> str:
    return re.sub(r"\d\.\d+(e-\d+)?", "x", response.text)


def numbers(response: httpx.Response) -> list[float]:
    return [float(number[0]) for number in re.finditer(r"\d\.\d+(e-\d+)?", response.text)]


def test_the_example_images_are_answered_as_raw_bodies(
    front: RunningServer, server: RunningServer
) -> None:
    examples = sorted((ROOT / "examples").glob("*.png"))
    assert len(examples) > 5
    for file in examples:
        here, there = (each.post(CLASSIFY, content=file.read_bytes()) for each in (front, server))
        assert without_numbers(here) == without_numbers(there)


def test_it_has_the_console_and_what_that_needs(
    front: RunningServer, server: RunningServer
) -> None:
    assert front.get("/").content == server.get("/").content
    here, there = (each.get("/v1/model").json() for each in (front, server))
    here.pop("limits")
    there.pop("limits")
    assert here == there


def test_it_is_ready_and_documents_what_it_serves(front: RunningServer) -> None:
    assert front.get("/v2/health/live").status_code == 200
    assert front.get("/v2/health/ready").status_code == 200
    assert front.get("/docs").status_code == 200
    paths = front.get("/openapi.json").json()["paths"]
    assert set(paths) == {CLASSIFY, "/v1/model", "/v2/health/live", "/v2/health/ready", "/metrics"}
    assert front.post("/v2/models/ride/infer", content=b"").status_code == 404


def test_the_start_tells_of_triton_and_of_no_grpc(
    front: RunningServer, server: RunningServer
) -> None:
    printed = front.log.read_text()
    assert f"in front of Triton ({server.grpc_address} ready with version 1)" in printed
    assert "gRPC: none here; Triton serves it itself" in printed


# Errors of requests


@pytest.mark.parametrize(
    ("query", "content", "status"),
    [
        ("", b"", 400),
        ("", b"not an image", 400),
        ("top_k=0", None, 400),
        ("top_k=101", None, 400),
        ("max_experts=4", None, 400),
        ("threshold=2", None, 400),
        ("threshold=0.5&quality=fast", None, 400),
        ("quality=best", None, 400),
        ("nothing=1", None, 400),
    ],
)
def test_a_bad_request_is_refused_in_the_words_of_the_embedded_server(
    front: RunningServer,
    server: RunningServer,
    pictures: tuple[bytes, ...],
    query: str,
    content: bytes | None,
    status: int,
) -> None:
    body = pictures[0] if content is None else content
    here, there = (each.post(f"{CLASSIFY}?{query}", content=body) for each in (front, server))
    assert here.status_code == status
    assert here.json() == there.json()


def test_a_bad_file_of_a_form_is_named(front: RunningServer, pictures: tuple[bytes, ...]) -> None:
    refused = front.post(CLASSIFY, files=as_files((pictures[0], b"no image")))
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("1.png: the bytes are text")


def test_too_many_images_are_refused(front: RunningServer, pictures: tuple[bytes, ...]) -> None:
    refused = front.post(CLASSIFY, files=as_files(pictures * 13))
    assert refused.status_code == 413
    assert refused.json() == {"error": "a request may hold 600 images, not 624"}


# Metrics


def test_answers_and_requests_are_counted_and_no_stages(
    front: RunningServer, engine: Engine, pictures: tuple[bytes, ...], pixels: Pixels
) -> None:
    before = front.samples()
    assert front.post(CLASSIFY, files=as_files(pictures)).status_code == 200
    assert front.post(CLASSIFY, content=b"").status_code == 400
    after = front.samples()
    gained = {name: value - before.get(name, 0) for name, value in after.items()}
    routed = engine.classify(pixels, engine.rule())
    assert gained["ride_images_total"] == len(pictures)
    assert gained["ride_experts_per_image_sum"] == routed.experts_used.sum()
    assert gained['ride_expert_runs_total{expert="3"}'] == (routed.experts_used == 3).sum()
    assert gained['ride_requests_total{code="200",protocol="http"}'] >= 1
    assert gained['ride_requests_total{code="400",protocol="http"}'] == 1
    assert after['ride_model_info{model="ride",version="1"}'] == 1
    assert 'ride_version_images_total{version="1"}' in after
    assert gained['ride_own_rule_images_total{experts="3"}'] == (routed.experts_used == 3).sum()
    others = ("ride_stage", "queue", "level", "ride_audit", "ride_drift")
    assert not [name for name in after if any(other in name for other in others)]


def test_a_rule_is_the_models_own_where_its_numbers_are(
    front: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    def own() -> float:
        found = front.samples()
        return sum(found[f'ride_own_rule_images_total{{experts="{k}"}}'] for k in (1, 2, 3))

    before = own()
    assert front.post(f"{CLASSIFY}?max_experts=3", content=pictures[0]).status_code == 200
    assert own() == before + 1
    assert front.post(f"{CLASSIFY}?max_experts=2", content=pictures[0]).status_code == 200
    assert own() == before + 1


# Hanging up


def test_a_client_that_hangs_up_takes_its_images_out_of_triton(
    front: RunningServer, server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    request = httpx.Request("POST", front.url, files=as_files(pictures * 12))
    body = request.read()
    cancelled = 'ride_requests_total{code="CANCELLED",protocol="grpc"}'
    before = server.samples()
    with front.connect() as connection:
        head = (
            f"POST {CLASSIFY}?threshold=0 HTTP/1.1\r\nHost: x\r\n"
            f"Content-Type: {request.headers['content-type']}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        wait_until(lambda: server.samples()['ride_queue_depth{stage="expert_1"}'] > 0)
    wait_until(lambda: server.samples().get(cancelled, 0) == before.get(cancelled, 0) + 1)
    wait_until(lambda: server.samples()['ride_queue_depth{stage="expert_1"}'] == 0)
    run = server.samples()["ride_images_total"] - before["ride_images_total"]
    assert run < len(pictures) * 12
    assert front.samples()['ride_requests_total{code="499",protocol="http"}'] == 1
