"""perf_analyzer, unchanged, gets answers from a real server over both transports."""

from __future__ import annotations

import re

import pytest

from benchmarks.errors import LoadFailed
from benchmarks.perf_analyzer import Protocol, run_perf_analyzer, unsupported
from tests.running.server import RunningServer

pytestmark = pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))

REQUESTS = 60


def images_counted(server: RunningServer) -> int:
    counted = re.search(r"^ride_images_total (\S+)$", server.get("/metrics").text, re.MULTILINE)
    assert counted
    return int(float(counted[1]))


def address(server: RunningServer, protocol: Protocol) -> str:
    return server.grpc_address if protocol == "grpc" else server.url.removeprefix("http://")


@pytest.mark.parametrize("images", [1, 8])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_measures_the_model(server: RunningServer, protocol: Protocol, images: int) -> None:
    before = images_counted(server)
    report = run_perf_analyzer(
        address(server, protocol),
        "ride",
        protocol,
        ["--shape", f"image:{images},32,32,3"],
        requests=REQUESTS,
        clients=2,
    )
    assert images_counted(server) - before == REQUESTS * images
    assert report.requests_per_s > 0
    assert 0 < report.p50_ms <= report.p99_ms


def test_a_request_that_the_server_refuses_is_a_failure(server: RunningServer) -> None:
    with pytest.raises(LoadFailed, match="perf_analyzer failed"):
        run_perf_analyzer(
            address(server, "http"), "ride", "http", ["--shape", "image:1,31,32,3"], requests=1
        )
