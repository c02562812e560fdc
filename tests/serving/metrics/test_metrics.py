"""Metrics: exact counts for known requests, under the names that dashboards use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from serving.dataplane.metrics import EmbeddedMetrics
from serving.engine.graphs import Engine
from serving.metrics import definitions as define
from serving.metrics.definitions import ALL_METRICS, Server
from serving.metrics.measurements import Measurement
from serving.metrics.registry import Registry
from serving.model.routing import Routed
from serving.tracing.request_context import RequestContext, exemplar_of_request, working_for
from tests.running.server import RunningServer
from tests.running.waiting import wait_until

Samples = Counter[str]
NAMES = {metric.name for metric in ALL_METRICS if Server.EMBEDDED in metric.servers}


def samples(text: str) -> Samples:
    """Values by name and labels, such as `ride_expert_runs_total{expert=1}`."""
    found: Samples = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value  # type: ignore[assignment]
    return found


def scrape(server: RunningServer) -> Samples:
    return samples(server.get("/metrics").text)


@pytest.fixture
def gained(server: RunningServer) -> Callable[[], Samples]:
    """What was counted since the test began, without the scrape that began it."""
    before = scrape(server)

    def difference() -> Samples:
        after = scrape(server)
        after.subtract(before)
        after["ride_requests_total{code=200,protocol=http}"] -= 1
        return after

    return difference


def families(text: str) -> set[str]:
    names = {family.name for family in text_string_to_metric_families(text)}
    return {name for name in names if not name.endswith("_created")}


def test_metrics_have_the_names_of_the_dashboards(
    server: RunningServer, pictures: tuple[bytes, ...]
) -> None:
    server.post("/v1/classify", content=pictures[0])
    response = server.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    ours = {name for name in families(response.text) if name.startswith("ride_")}
    assert ours == NAMES
    found = samples(response.text)
    assert found["ride_model_info{model=ride,version=1}"] == 1


def test_known_images_are_counted_exactly(engine: Engine) -> None:
    """Three images that took 1, 2 and 3 experts, and asked 1, 2 and 2 routers."""
    costs = engine.manifest.multiply_adds
    metrics = EmbeddedMetrics()
    metrics.answers.serve({1: engine.manifest})
    scores = np.array([[0.05, np.nan], [0.95, 0.15], [0.95, 0.25]], dtype=np.float32)
    probabilities = np.full((3, engine.manifest.num_classes), 0.01, dtype=np.float32)
    routed = Routed(probabilities, np.array([1, 2, 3], dtype=np.int32), scores)
    for _ in range(2):
        metrics.answers.observe(routed, costs, 1)
    found = samples(metrics.registry.exposition().content.decode())
    spent = 3 * costs.backbone + 3 * costs.experts[0] + 2 * costs.experts[1] + costs.experts[2]
    spent += 3 * costs.routers[0] + 2 * costs.routers[1]
    full = 3 * (costs.backbone + sum(costs.experts))
    expected = {
        "ride_images_total": 3,
        "ride_experts_per_image_count": 3,
        "ride_experts_per_image_sum": 6,
        "ride_experts_per_image_bucket{le=1.0}": 1,
        "ride_experts_per_image_bucket{le=2.0}": 2,
        "ride_experts_per_image_bucket{le=3.0}": 3,
        "ride_expert_runs_total{expert=1}": 3,
        "ride_expert_runs_total{expert=2}": 2,
        "ride_expert_runs_total{expert=3}": 1,
        "ride_expert_runs_avoided_total": 3,
        "ride_version_images_total{version=1}": 3,
        "ride_version_expert_runs_total{version=1}": 6,
        "ride_multiply_adds_total": spent,
        "ride_multiply_adds_avoided_total": full - spent,
        "ride_router_score_count{router=1}": 3,
        "ride_router_score_count{router=2}": 2,
        "ride_router_score_bucket{le=0.1,router=1}": 1,
        "ride_router_score_bucket{le=1.0,router=1}": 3,
    }
    assert {name: found[name] for name in expected} == {
        name: 2 * value for name, value in expected.items()
    }
    assert found["ride_router_score_sum{router=2}"] == pytest.approx(2 * 0.4)


def test_a_full_ensemble_with_routers_avoids_nothing_rather_than_less(engine: Engine) -> None:
    metrics = EmbeddedMetrics()
    probabilities = np.full((1, engine.manifest.num_classes), 0.01, dtype=np.float32)
    scores = np.array([[0.9, 0.9]], dtype=np.float32)
    metrics.answers.observe(
        Routed(probabilities, np.array([3], dtype=np.int32), scores),
        engine.manifest.multiply_adds,
        1,
    )
    found = samples(metrics.registry.exposition().content.decode())
    assert found["ride_multiply_adds_avoided_total"] == 0
    assert found["ride_expert_runs_avoided_total"] == 0


def test_requests_to_a_server_are_counted_exactly(
    server: RunningServer,
    gained: Callable[[], Samples],
    engine: Engine,
    pixels: NDArray[np.uint8],
    pictures: tuple[bytes, ...],
    middle_threshold: float,
) -> None:
    files = [("file", data) for data in pictures]
    query = {"threshold": middle_threshold}
    assert server.post("/v1/classify", files=files, params=query).status_code == 200
    assert server.post("/v1/classify?max_experts=1", content=pictures[0]).status_code == 200
    routed = engine.classify(pixels, engine.rule(threshold=middle_threshold))
    used, asked = routed.experts_used, np.isfinite(routed.router_scores)
    costs = engine.manifest.multiply_adds
    spent = 49 * costs.backbone + costs.experts[0] + int(asked @ costs.routers @ np.ones(48))
    spent += sum(sum(costs.experts[:experts]) for experts in used)
    expected = {
        "ride_images_total": 49,
        "ride_experts_per_image_count": 49,
        "ride_experts_per_image_sum": used.sum() + 1,
        "ride_experts_per_image_bucket{le=1.0}": (used == 1).sum() + 1,
        "ride_expert_runs_total{expert=1}": 49,
        "ride_expert_runs_total{expert=2}": (used >= 2).sum(),
        "ride_expert_runs_total{expert=3}": (used >= 3).sum(),
        "ride_expert_runs_avoided_total": (3 - used).sum() + 2,
        "ride_multiply_adds_total": spent,
        "ride_router_score_count{router=1}": 48,
        "ride_router_score_count{router=2}": asked[:, 1].sum(),
        "ride_requests_total{code=200,protocol=http}": 2,
        "ride_request_duration_seconds_count{protocol=http}": 2,
    }
    found = gained()
    assert {name: found[name] for name in expected} == expected


def test_refused_requests_are_counted_by_code_and_no_image_with_them(
    server: RunningServer, gained: Callable[[], Samples], pictures: tuple[bytes, ...]
) -> None:
    files = [("file", pictures[0]), ("file", b"no image")]
    assert server.post("/v1/classify", files=files).status_code == 400
    assert server.post("/v1/classify?top_k=0", content=pictures[0]).status_code == 400
    assert server.get("/v1/classify").status_code == 405
    assert server.get("/nowhere/at/all").status_code == 404
    found = gained()
    assert found["ride_requests_total{code=400,protocol=http}"] == 2
    assert found["ride_requests_total{code=405,protocol=http}"] == 1
    assert found["ride_requests_total{code=404,protocol=http}"] == 1
    assert found["ride_requests_total{code=200,protocol=http}"] == 0
    assert found["ride_request_duration_seconds_count{protocol=http}"] == 2  # the POST requests
    assert found["ride_images_total"] == 0


def test_hanging_up_is_not_counted_as_the_servers_fault(
    server: RunningServer, gained: Callable[[], Samples]
) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: 9\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"abc")
    wait_until(lambda: bool(gained()["ride_requests_total{code=499,protocol=http}"]))
    assert gained()["ride_requests_total{code=500,protocol=http}"] == 0


OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"}


def open_families(text: str) -> Iterator[Metric]:
    """What a parser that knows the specification finds."""
    found: Iterator[Metric] = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return found


def test_who_accepts_openmetrics_gets_it(server: RunningServer) -> None:
    response = server.get("/metrics", headers=OPEN_METRICS)
    assert response.headers["content-type"].startswith("application/openmetrics-text;")
    assert response.text.endswith("# EOF\n")
    names = {family.name for family in open_families(response.text)}
    assert {name for name in names if name.startswith("ride_")} == NAMES


def test_exemplars_point_to_the_request(engine: Engine, pixels: NDArray[np.uint8]) -> None:
    metrics, request = EmbeddedMetrics(), RequestContext("one-of-many", "ab" * 16)
    metrics.answers.serve({1: engine.manifest})
    routed = engine.classify(pixels[:3], engine.rule())
    with working_for(request):
        metrics.requests.observe("http", "500", 0.2)
        metrics.stages.observe_decoding(0.003)
        costs = engine.manifest.multiply_adds
        metrics.answers.observe(routed, costs, 1, exemplar_of_request())
    metrics.requests.observe("http", "200", 0.003)
    text = metrics.registry.exposition("application/openmetrics-text").content.decode()
    found = {
        (sample.name, sample.labels.get("le", sample.labels.get("code"))): sample.exemplar
        for family in open_families(text)
        for sample in family.samples
        if sample.exemplar
    }
    assert {tuple(exemplar.labels.items()) for exemplar in found.values()} == {
        (("trace_id", "ab" * 16),)
    }
    assert found["ride_request_duration_seconds_bucket", "0.25"].value == 0.2
    assert found["ride_decoding_seconds_bucket", "0.005"].value == 0.003
    assert ("ride_requests_total", "500") in found
    assert ("ride_requests_total", "200") not in found
    score = float(routed.router_scores[0, 0])
    assert score in {exemplar.value for (name, _), exemplar in found.items() if "score" in name}


@pytest.mark.parametrize(("length", "kept"), [(118, True), (119, False), (100_000, False)])
def test_a_long_request_id_is_no_exemplar(length: int, kept: bool) -> None:
    assert (RequestContext("x" * length).exemplar is not None) is kept


def test_gauges_are_read_at_each_scrape_and_what_is_not_read_any_more_is_gone() -> None:
    registry, depths = Registry(Server.EMBEDDED), {"expert_1": 3.0, "expert_2": 1.0}
    registry.read_when_scraped(
        lambda: [Measurement(define.QUEUE_DEPTH, depth, (at,)) for at, depth in depths.items()]
    )

    def shown() -> dict[str, float]:
        found = samples(registry.exposition().content.decode())
        return {name: value for name, value in found.items() if "queue_depth" in name}

    first, second = (f"ride_queue_depth{{stage=expert_{stage}}}" for stage in (1, 2))
    assert shown() == {first: 3, second: 1}
    depths.update(expert_1=2.0)
    del depths["expert_2"]
    assert shown() == {first: 2}


def test_series_of_old_versions_go(engine: Engine) -> None:
    """Those served and the newest before them stay; late answers of others bring nothing back."""
    metrics = EmbeddedMetrics()
    routed = Routed(
        np.full((1, 2), 0.5, dtype=np.float32),
        np.array([1], dtype=np.int32),
        np.array([[0.1, np.nan]], dtype=np.float32),
    )
    for version in range(1, 6):
        metrics.answers.serve({version: engine.manifest})
        metrics.answers.observe(routed, engine.manifest.multiply_adds, version)
    metrics.answers.observe(routed, engine.manifest.multiply_adds, 2)
    metrics.answers.observe(routed, engine.manifest.multiply_adds, 4)
    found = samples(metrics.registry.exposition().content.decode())
    kept = {
        name: value for name, value in found.items() if name.startswith("ride_version_images_t")
    }
    assert kept == {
        "ride_version_images_total{version=4}": 2,
        "ride_version_images_total{version=5}": 1,
    }
    assert found["ride_images_total"] == 7


def test_a_version_that_comes_back_goes_on_where_it_was(engine: Engine) -> None:
    metrics = EmbeddedMetrics()
    routed = Routed(
        np.full((1, 2), 0.5, dtype=np.float32),
        np.array([3], dtype=np.int32),
        np.array([[0.9, 0.9]], dtype=np.float32),
    )
    shown = []
    for version in (1, 2, 3, 1, 1):
        metrics.answers.serve({version: engine.manifest})
        metrics.answers.observe(routed, engine.manifest.multiply_adds, version)
        found = samples(metrics.registry.exposition().content.decode())
        names = ("ride_version_images_total", "ride_version_expert_runs_total")
        shown.append([found[f"{name}{{version={version}}}"] for name in names])
    assert shown == [[1, 3], [1, 3], [1, 3], [2, 6], [3, 9]]


def test_seconds_of_the_full_ensemble_are_more_than_those_of_one_expert(
    server: RunningServer, gained: Callable[[], Samples], pictures: tuple[bytes, ...]
) -> None:
    """How close it comes is for the tests of `full_ensemble`: here the machine may be busy."""
    files = [("file", data) for data in pictures * 4]
    assert server.post("/v1/classify?max_experts=1", files=files).status_code == 200
    spent, full = compute_seconds(gained())
    assert 0 < spent < full


def compute_seconds(found: Samples) -> tuple[float, float]:
    """Spent, and what the full ensemble would have."""
    return (
        float(found["ride_compute_seconds_total"]),
        float(found["ride_full_ensemble_compute_seconds_total"]),
    )


def test_own_rule_is_counted_where_no_wish_changed_it(
    server: RunningServer,
    gained: Callable[[], Samples],
    engine: Engine,
    pixels: NDArray[np.uint8],
    pictures: tuple[bytes, ...],
) -> None:
    files = [("file", data) for data in pictures]
    assert server.post("/v1/classify", files=files).status_code == 200
    for wish in ("quality=full", "threshold=0.5", "max_experts=2"):
        assert server.post(f"/v1/classify?{wish}", content=pictures[0]).status_code == 200
    used, found = engine.classify(pixels, engine.rule()).experts_used, gained()
    for experts in (1, 2, 3):
        counted = found[f"ride_own_rule_images_total{{experts={experts}}}"]
        assert counted == (used == experts).sum()
