"""`ride serve --triton` in front of a real Triton: the same answers, and outages survived."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.images import SampleImages
from tests.running.load import CLASSIFY, Load
from tests.running.server import RunningServer, running_server
from tests.running.triton import RunningTriton, running_triton
from tests.running.waiting import wait_until
from tests.triton.conftest import EXPLICIT


@pytest.fixture(scope="module")
def front(
    repository: Path, triton: RunningTriton, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("front") / "log.txt"
    flags = [f"--triton={triton.grpc_address}"]
    with running_server(repository, log, flags) as running:
        yield running


def test_answers_are_the_embedded_server_s(
    front: RunningServer, server: RunningServer, images: SampleImages
) -> None:
    files = [("file", (f"{i}.png", data, "image/png")) for i, data in enumerate(images.files[:24])]
    for query in ("", "?max_experts=1", "?threshold=0.9&top_k=3", "?quality=full"):
        theirs = front.post(CLASSIFY + query, files=files).json()["results"]
        ours = server.post(CLASSIFY + query, files=files).json()["results"]
        for one, other in zip(theirs, ours, strict=True):
            assert one["experts_used"] == other["experts_used"]
            assert one["compute_share"] == other["compute_share"]
            assert one["router_scores"] == pytest.approx(other["router_scores"], abs=1e-5)
            for label, expected in zip(one["labels"], other["labels"], strict=True):
                assert label["label"] == expected["label"]
                assert label["probability"] == pytest.approx(expected["probability"], abs=1e-5)


def test_a_wrong_request_is_the_client_s_fault(front: RunningServer, images: SampleImages) -> None:
    for query in ("?max_experts=9", "?quality=best", "?temperature=1"):
        response = front.post(CLASSIFY + query, content=images.files[0])
        assert response.status_code == 400, query
        assert "/" not in response.json()["error"]
    response = front.post(CLASSIFY + "?max_experts=9", content=images.files[0])
    assert response.json() == {"error": "max_experts must lie between 1 and 3, not 9"}


def test_triton_dies_under_load_and_comes_back(
    repository: Path, images: SampleImages, tmp_path: Path
) -> None:
    """Requests of the outage get 503 and nobody waits; nothing is restarted but Triton."""
    with (
        running_triton(repository, tmp_path, EXPLICIT) as triton,
        running_server(
            repository, tmp_path / "front.txt", [f"--triton={triton.grpc_address}"]
        ) as front,
    ):
        with Load(front, content=images.files[0]) as load:
            load.wait_for(200, 40)
            triton.kill()
            load.wait_for(503, 20)
            assert not front.get("/v2/health/ready").is_success
            triton.start()
            load.wait_for(200, 40)
            wait_until(lambda: front.get("/v2/health/ready").is_success)
        assert set(load.answers) == {200, 503}
        assert load.longest_s < 10
