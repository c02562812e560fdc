"""Triton's /metrics has ours, under the embedded server's names and with the same numbers."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from benchmarks.images import SampleImages
from serving.engine.graphs import Engine
from serving.metrics.definitions import ALL_METRICS, Kind, Server
from serving.metrics.drift import expected_go_on
from tests.running.server import RunningServer
from tests.running.triton import RunningTriton
from tests.running.waiting import wait_until
from tests.triton.conftest import Client

SAMPLE = re.compile(r"^(ride_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
BY_GRPC = pytest.mark.parametrize("client", ["grpc"], indirect=True)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Our samples by name and labels."""
    found = {}
    for name, labels, value in SAMPLE.findall(text):
        pairs = frozenset(re.findall(r'(\w+)="([^"]*)"', labels))
        if not name.endswith("_created"):
            found[name, pairs] = float(value)
    return found


def total(text: str, name: str) -> float:
    return sum(value for (its, _), value in samples(text).items() if its == name)


def settled(triton: RunningTriton) -> str:
    """The metrics once all that was answered before is in them: they are handed over in turns."""
    text = triton.metrics()
    while True:
        time.sleep(0.8)
        earlier, text = text, triton.metrics()
        if samples(earlier) == samples(text):
            return text


@BY_GRPC
def test_answers_are_counted(
    triton: RunningTriton, client: Client, images: SampleImages, engine: Engine
) -> None:
    pixels = images.pixels[:200]
    before = settled(triton)
    for part in np.split(pixels, 5):
        client.infer("ride", client.image(part))
    wait_until(
        lambda: (
            total(triton.metrics(), "ride_images_total") >= 200 + total(before, "ride_images_total")
        )
    )
    after = settled(triton)

    def rise(name: str) -> float:
        return total(after, name) - total(before, name)

    routed, costs = engine.classify(pixels, engine.rule()), engine.manifest.multiply_adds
    asked = np.isfinite(routed.router_scores)
    spent = sum(
        costs.spent(int(used), int(routers))
        for used, routers in zip(routed.experts_used, asked.sum(axis=1), strict=True)
    )
    assert rise("ride_images_total") == 200
    assert rise("ride_experts_per_image_count") == 200
    assert rise("ride_experts_per_image_sum") == routed.experts_used.sum()
    assert rise("ride_expert_runs_total") == routed.experts_used.sum()
    assert rise("ride_expert_runs_avoided_total") == 600 - routed.experts_used.sum()
    assert rise("ride_multiply_adds_total") == pytest.approx(spent)
    assert rise("ride_multiply_adds_avoided_total") == pytest.approx(
        200 * costs.all_experts - spent
    )
    assert rise("ride_router_score_count") == asked.sum()
    assert rise("ride_router_score_sum") == pytest.approx(np.nansum(routed.router_scores), rel=1e-4)
    assert rise("ride_requests_total") == 5
    assert rise("ride_version_images_total") == 200
    assert rise("ride_version_expert_runs_total") == routed.experts_used.sum()
    assert rise("ride_own_rule_images_total") == 200
    assert rise("ride_compute_seconds_total") > 0


@BY_GRPC
def test_images_of_a_request_with_a_wish_are_not_counted_as_by_the_model_s_own_rule(
    triton: RunningTriton, client: Client, images: SampleImages
) -> None:
    before = settled(triton)
    client.infer("ride", client.image(images.pixels[:10]), parameters={"quality": "full"})
    wait_until(
        lambda: (
            total(triton.metrics(), "ride_images_total") >= 10 + total(before, "ride_images_total")
        )
    )
    after = settled(triton)
    assert total(after, "ride_own_rule_images_total") == total(before, "ride_own_rule_images_total")


@BY_GRPC
def test_a_rule_is_the_model_s_own_where_its_numbers_are(
    triton: RunningTriton, client: Client, images: SampleImages
) -> None:
    before = total(settled(triton), "ride_own_rule_images_total")
    client.infer("ride", client.image(images.pixels[:10]), parameters={"max_experts": 3})
    wait_until(lambda: total(triton.metrics(), "ride_own_rule_images_total") >= before + 10)
    assert total(settled(triton), "ride_own_rule_images_total") == before + 10


def test_what_the_model_expects_is_there_as_well(triton: RunningTriton, engine: Engine) -> None:
    text, manifest = triton.metrics(), engine.manifest
    assert total(text, "ride_router_threshold") == pytest.approx(sum(manifest.thresholds), rel=1e-4)
    expected = sum(stage.on / stage.reached for stage in expected_go_on(manifest))
    assert total(text, "ride_expected_go_on_ratio") == pytest.approx(expected, rel=1e-4)


@BY_GRPC
def test_triton_has_what_the_page_says(
    triton: RunningTriton, client: Client, images: SampleImages
) -> None:
    """Of a histogram, its parts."""
    client.infer("ride", client.image(images.pixels[:64]))
    theirs = {
        f"{metric.series}_count" if metric.kind is Kind.HISTOGRAM else metric.series
        for metric in ALL_METRICS
        if Server.TRITON in metric.servers
    }
    wait_until(lambda: theirs <= {name for name, _ in samples(triton.metrics())})


@BY_GRPC
def test_every_series_is_one_of_the_embedded_server_s(
    triton: RunningTriton, client: Client, images: SampleImages, server: RunningServer
) -> None:
    client.infer("ride", client.image(images.pixels[:64]))
    server.post("/v1/classify", content=images.files[0])
    wait_until(lambda: "ride_router_score_bucket" in triton.metrics())
    theirs, ours = samples(triton.metrics()), samples(server.get("/metrics").text)
    known = {(name, frozenset(label for label, _ in labels)) for name, labels in ours}
    assert {(name, frozenset(label for label, _ in labels)) for name, labels in theirs} <= known
    for name in ("ride_experts_per_image_bucket", "ride_router_score_bucket"):
        bounds = {dict(labels)["le"] for its, labels in ours if its == name}
        assert {dict(labels)["le"] for its, labels in theirs if its == name} == bounds
    info = frozenset({("model", "ride"), ("version", "1")})
    assert theirs["ride_model_info", info] == 1
