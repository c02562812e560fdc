"""The dashboard shows a Triton too, as far as the metrics go that Triton has."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from benchmarks.images import SampleImages
from serving.metrics.definitions import ALL_METRICS, Server
from tests.monitoring.conftest import NO_PROMETHEUS, PanelQuery
from tests.running.prometheus import find, running_prometheus
from tests.running.triton import RunningTriton

IN_TRITON = {metric.name for metric in ALL_METRICS if Server.TRITON in metric.servers}
HISTOGRAM_PART = re.compile(r"_(total|bucket|sum|count)$")


def triton_has_all_of(expression: str) -> bool:
    names = {HISTOGRAM_PART.sub("", name) for name in re.findall(r"\bride_\w+", expression)}
    return bool(names) and names <= IN_TRITON


@pytest.mark.skipif(find("prometheus") is None, reason=NO_PROMETHEUS)
def test_panels_of_metrics_that_triton_has_have_data(
    triton: RunningTriton, images: SampleImages, tmp_path: Path
) -> None:
    queries = [
        query for query in PanelQuery.all("ride-triton") if triton_has_all_of(query.expression)
    ]
    assert len(queries) > 20
    with (
        running_prometheus(tmp_path, {"triton": f"127.0.0.1:{triton.ports.metrics}"}) as prometheus,
        tritonclient.grpc.InferenceServerClient(triton.grpc_address) as client,
    ):
        for _ in range(60):
            ask(client, images)
            empty = [query for query in queries if not prometheus.samples(query.expression)]
            if not empty:
                break
        assert not empty
        assert not prometheus.without_data(["instance:ride_go_on:ratio1h"])


def ask(client: tritonclient.grpc.InferenceServerClient, images: SampleImages) -> None:
    tensor = tritonclient.grpc.InferInput("image", images.pixels[:8].shape, "UINT8")
    tensor.set_data_from_numpy(images.pixels[:8])
    client.infer("ride", [tensor])
    with pytest.raises(InferenceServerException):
        client.infer("ride", [tensor], parameters={"max_experts": 0})
    time.sleep(0.3)
