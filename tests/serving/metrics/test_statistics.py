"""Statistics of models and of the graphs behind them, as perf_analyzer reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from serving.engine.graphs import Engine
from tests.running.server import RunningServer

Pixels = NDArray[np.uint8]
Counts = dict[str, dict[str, Any]]


def over_http(server: RunningServer) -> Counts:
    client = tritonclient.http.InferenceServerClient(server.url.removeprefix("http://"))
    models = client.get_inference_statistics()["model_stats"]
    client.close()
    return {model["name"]: model for model in models}


def over_grpc(server: RunningServer) -> Counts:
    client = tritonclient.grpc.InferenceServerClient(server.grpc_address)
    models = client.get_inference_statistics(as_json=True)["model_stats"]
    client.close()
    return {model["name"]: model for model in models}


@pytest.fixture(params=[over_http, over_grpc])
def counts(request: pytest.FixtureRequest, server: RunningServer) -> Callable[[], Counts]:
    return lambda: cast("Counts", request.param(server))


def gained(before: Counts, after: Counts, model: str, *path: str) -> int:
    values = []
    for counted in (before, after):
        value: Any = counted[model]
        for key in path:
            value = value.get(key, 0)  # JSON made of a gRPC message leaves zeros out
        values.append(int(value))
    return values[1] - values[0]


def test_every_model_and_graph_is_listed(counts: Callable[[], Counts]) -> None:
    models = counts()
    assert set(models) == {"ride", "ride_image", "stage_1", "stage_2", "stage_3"}
    assert {model["version"] for model in models.values()} == {"1"}


def test_images_are_counted_in_every_graph_that_they_ran_through(
    counts: Callable[[], Counts], server: RunningServer, engine: Engine, pictures: tuple[bytes, ...]
) -> None:
    before = counts()
    files = [("file", picture) for picture in pictures]
    assert server.post("/v1/classify?threshold=0&max_experts=2", files=files).is_success
    after = counts()
    size = len(pictures)
    for graph, rows in {
        "ride_image": size, "ride": 0, "stage_1": size, "stage_2": size, "stage_3": 0,
    }.items():  # fmt: skip
        assert gained(before, after, graph, "inference_count") == rows
    assert gained(before, after, "ride_image", "execution_count") == 1
    assert gained(before, after, "ride_image", "inference_stats", "success", "count") == 1
    for graph in ("stage_1", "stage_2"):
        assert 1 <= gained(before, after, graph, "execution_count") <= size
        for kind in ("success", "compute_infer", "queue"):
            assert gained(before, after, graph, "inference_stats", kind, "count") == size
        assert gained(before, after, graph, "inference_stats", "compute_infer", "ns") > 0
    sizes = after["stage_2"]["batch_stats"]
    assert sum(int(s["batch_size"]) * int(s["compute_infer"]["count"]) for s in sizes) == int(
        after["stage_2"]["inference_count"]
    )


def test_times_of_a_request_add_up(
    counts: Callable[[], Counts], server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    before = counts()
    assert server.post("/v1/classify", content=pictures[0]).is_success
    after = counts()
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    total = gained(before, after, "ride_image", "inference_stats", "success", "ns")
    spent = sum(gained(before, after, "ride_image", "inference_stats", p, "ns") for p in parts)
    assert total > 0
    assert spent == pytest.approx(total, rel=0.01)


def test_failures_are_counted(counts: Callable[[], Counts], server: RunningServer) -> None:
    before = counts()
    assert server.post("/v1/classify", content=b"no image").status_code == 400
    after = counts()
    assert gained(before, after, "ride_image", "inference_stats", "fail", "count") == 1
    assert gained(before, after, "ride_image", "inference_stats", "success", "count") == 0


def test_statistics_of_one_model(server: RunningServer) -> None:
    for path in ("/v2/models/stage_1/stats", "/v2/models/stage_1/versions/1/stats"):
        [model] = server.get(path).json()["model_stats"]
        assert model["name"] == "stage_1"
    for path in ("/v2/models/resnet/stats", "/v2/models/ride/versions/9/stats"):
        assert server.get(path).status_code == 404
    client = tritonclient.grpc.InferenceServerClient(server.grpc_address)
    assert [m.name for m in client.get_inference_statistics("ride").model_stats] == ["ride"]
    with pytest.raises(InferenceServerException, match="NOT_FOUND"):
        client.get_inference_statistics("resnet")
    client.close()


def test_graphs_are_described_and_take_no_requests(server: RunningServer, pixels: Pixels) -> None:
    metadata = server.get("/v2/models/stage_2").json()
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["features", "prefix_sum"]
    assert metadata["outputs"][-1] == {"name": "score", "datatype": "FP32", "shape": [-1]}
    assert server.get("/v2/models/stage_2/config").json()["name"] == "stage_2"
    response = server.post("/v2/models/stage_1/infer", json={})
    assert response.status_code == 400
    assert "send requests there" in response.json()["error"]
