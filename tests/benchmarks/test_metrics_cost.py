"""What counting costs is measured on the server's own counters."""

from __future__ import annotations

from benchmarks.images import read_images
from benchmarks.servers.server import CHECKOUT
from benchmarks.studies.metrics_cost import counting_seconds
from serving.engine.graphs import Engine, load_engine


def test_counting_costs_little_and_not_nothing() -> None:
    engine: Engine = load_engine(CHECKOUT / "model_repository")
    assert 1e-7 < counting_seconds(engine, read_images(every=20), repeats=1) < 1e-3
