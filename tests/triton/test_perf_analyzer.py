"""perf_analyzer, unchanged, measures the model in Triton over both transports."""

from __future__ import annotations

import pytest

from benchmarks import perf_analyzer
from benchmarks.perf_analyzer import Protocol, run_perf_analyzer
from tests.running.triton import RunningTriton

pytestmark = pytest.mark.skipif(
    perf_analyzer.unsupported() is not None, reason=str(perf_analyzer.unsupported())
)


@pytest.mark.parametrize("images", [1, 8])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_measures_the_model(triton: RunningTriton, protocol: Protocol, images: int) -> None:
    address = triton.grpc_address if protocol == "grpc" else triton.http_address
    report = run_perf_analyzer(
        address, "ride", protocol, ["-b", str(images)], requests=60, clients=2
    )
    assert report.requests_per_s > 0
