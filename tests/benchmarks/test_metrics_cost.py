"""What counting costs: the server's own counters count, and shares are of what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.images import SampleImages, read_images
from benchmarks.studies import metrics_cost
from benchmarks.studies.metrics_cost import COUNTED, cost_lines, counting_seconds
from serving.dataplane.metrics import EmbeddedMetrics
from serving.engine.graphs import load_engine


@pytest.fixture(scope="module")
def images() -> SampleImages:
    return read_images(every=50)


def test_every_image_and_each_of_its_experts_is_counted(
    repository: Path, images: SampleImages
) -> None:
    metrics, engine = EmbeddedMetrics(), load_engine(repository)
    counting_seconds(engine, images, metrics, repeats=2)
    used = engine.classify(images.pixels, engine.rule()).experts_used
    counted = np.resize(used, COUNTED)  # the images again and again
    text = metrics.registry.exposition("").content.decode()
    assert f"ride_experts_per_image_count {2.0 * COUNTED}" in text
    assert f"ride_experts_per_image_sum {2.0 * counted.sum()}" in text


def test_costs_are_shares_of_what_real_servers_took(
    images: SampleImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_cost, "SHARES", (1.0,))
    text = "\n".join(cost_lines(images, seconds=0.3, rounds=1))
    image_ms, metrics_us, percent = map(
        float, re.findall(r"an image: (\S+) ms\nof that, metrics: (\S+) us, (\S+)%", text)[0]
    )
    assert percent == pytest.approx(metrics_us / image_ms / 10, abs=0.11)
    found = re.search(r"round 1, share 1: .* (\d+) of (\d+) drawn were audited$", text)
    assert found
    audited, drawn = map(int, found.groups())
    assert audited <= drawn
    assert drawn >= len(images)  # those that warmed the server up
