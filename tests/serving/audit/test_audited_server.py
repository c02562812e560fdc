"""A server that audits everything: its figures are the offline truth, and cost nobody anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.images import SampleImages, read_images
from serving.engine.graphs import Engine
from tests.running.load import Load
from tests.running.server import RunningServer, running_server
from tests.running.waiting import wait_until

SENT = 160


@pytest.fixture(scope="module")
def images() -> SampleImages:
    return read_images(every=2)


@pytest.fixture(scope="module")
def audited(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, images: SampleImages
) -> Iterator[RunningServer]:
    """It has answered every third of 500 real images, and audited all of these."""
    log = tmp_path_factory.mktemp("audited") / "log.txt"
    with running_server(repository, log, ["--audit-share=1"]) as running:
        chosen = images.files[::3][:SENT]
        for start in range(0, SENT, 40):
            files = [("file", data) for data in chosen[start : start + 40]]
            assert running.post("/v1/classify", files=files).status_code == 200
            wait_until(lambda: running.get("/v1/audit").json()["audit"]["waiting"] == 0)
        wait_until(lambda: running.get("/v1/audit").json()["audit"]["audited"] == SENT)
        yield running


@pytest.fixture(scope="module")
def agrees(engine: Engine, images: SampleImages) -> NDArray[np.bool_]:
    """The truth, [500]: is the routed answer that of all experts?"""
    routed = engine.classify(images.pixels, engine.rule())
    full = engine.classify(images.pixels, engine.rule(threshold=0.0))
    assert (full.experts_used == engine.manifest.num_experts).all()
    same: NDArray[np.bool_] = routed.probabilities.argmax(axis=1) == full.probabilities.argmax(
        axis=1
    )
    return same


def test_agreement_is_that_of_these_images_and_its_interval_holds_that_of_all(
    audited: RunningServer, agrees: NDArray[np.bool_]
) -> None:
    found = audited.get("/v1/audit").json()["audit"]["report"]["agreement"]["all"]
    assert (found["count"], found["of"]) == (agrees[::3][:SENT].sum(), SENT)
    assert found["low"] < agrees.mean() < found["high"]
    assert found["high"] - found["low"] < 0.1


def test_figures_fit_together(audited: RunningServer) -> None:
    body = audited.get("/v1/audit").json()
    audit, report = body["audit"], body["audit"]["report"]
    assert (audit["sampled"], audit["audited"], audit["share"]) == (SENT, SENT, 1)
    assert set(audit["dropped"].values()) == {0}
    disagree = SENT - report["agreement"]["all"]["count"]
    assert sum(stop["missed_help"]["count"] for stop in report["stops"]) == disagree
    groups = [report["agreement"][group] for group in ("many", "medium", "few")]
    assert sum(group["of"] for group in groups) == SENT
    assert sum(group["count"] for group in groups) == SENT - disagree
    assert 0 < report["wasted_expert_runs"] < report["expert_runs"]
    assert 0 < report["accuracy_lost"]["all"]["mean"] < disagree / SENT
    first = body["drift"][0]
    assert first["observed"]["of"] == SENT
    assert first["expected"]["of"] == 10_000
    assert not first["detected"]


def test_metrics_say_the_same_and_answers_are_counted_once(audited: RunningServer) -> None:
    text = audited.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    report = audited.get("/v1/audit").json()["audit"]["report"]
    for group in ("many", "medium", "few"):
        found = report["agreement"][group]
        assert float(values[f'ride_audit_images_total{{group="{group}"}}']) == found["of"]
        assert float(values[f'ride_audit_agreements_total{{group="{group}"}}']) == found["count"]
    upper = values['ride_audit_agreement_ratio{bound="upper",group="all"}']
    assert float(upper) == pytest.approx(report["agreement"]["all"]["high"])
    assert float(values["ride_audit_compute_seconds_total"]) > 0
    assert float(values["ride_images_total"]) == SENT
    runs = sum(float(values[f'ride_expert_runs_total{{expert="{i}"}}']) for i in (1, 2, 3))
    assert runs == report["expert_runs"]


def test_samples_are_there_for_whoever_asks(audited: RunningServer) -> None:
    assert audited.get("/v1/audit").json()["samples"] is None
    samples = audited.get("/v1/audit?samples=true").json()["samples"]
    assert {name: len(rows) for name, rows in samples.items()} == {
        "router_scores": SENT,
        "predictions": SENT,
        "experts_used": SENT,
    }
    assert audited.get("/v1/audit?samples=perhaps").status_code == 400


def test_requests_with_wishes_are_not_audited(audited: RunningServer, images: SampleImages) -> None:
    for wish in ("quality=full", "threshold=0.5", "max_experts=2"):
        response = audited.post(f"/v1/classify?{wish}", content=images.files[0])
        assert response.status_code == 200
    assert audited.get("/v1/audit").json()["audit"]["sampled"] == SENT


def test_the_answer_is_documented(audited: RunningServer) -> None:
    schemas = audited.get("/openapi.json").json()["components"]["schemas"]
    assert set(schemas["AuditBody"]["properties"]) == set(audited.get("/v1/audit").json())
    assert set(schemas["AuditReport"]["properties"]) == set(
        audited.get("/v1/audit").json()["audit"]["report"]
    )


def test_where_nothing_is_audited_the_answer_says_so(
    repository: Path, tmp_path: Path, images: SampleImages
) -> None:
    with running_server(repository, tmp_path / "log.txt", ["--audit-share=0"]) as server:
        assert server.post("/v1/classify", content=images.files[0]).status_code == 200
        body = server.get("/v1/audit").json()
        assert (body["audit"]["share"], body["audit"]["sampled"]) == (0, 0)
        assert body["audit"]["report"]["agreement"]["all"]["share"] is None
        assert body["drift"][0]["observed"]["of"] == 1
        assert "ride_audit_share_ratio 0.0" in server.get("/metrics").text


def test_hardly_anything_is_audited_under_load_and_more_once_it_is_over(
    repository: Path, tmp_path: Path, images: SampleImages
) -> None:
    flags = ["--audit-share=1", "--workers=1"]
    files = [("file", data) for data in images.files[:32]]
    with running_server(repository, tmp_path / "log.txt", flags) as server:
        with Load(server, clients=4, files=files) as load:
            wait_until(lambda: audit_of(server)["dropped"]["full"] > 200)
            under_load = audit_of(server)
        assert set(load.answers) == {200}
        assert under_load["audited"] < 0.1 * under_load["sampled"]
        wait_until(lambda: audit_of(server)["audited"] > under_load["audited"] + 20)


def audit_of(server: RunningServer) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/v1/audit").json()["audit"]
    return found
