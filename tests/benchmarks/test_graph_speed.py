"""The graph benchmark: both are timed in turns, and the fastest run counts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.studies.graph_speed import fastest, rows
from serving.engine.graphs import load_engine


def test_the_fastest_run_of_each_counts() -> None:
    pauses = iter((0.05, 0.001) * 500)
    calls = []

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.02)

    def varying() -> None:
        calls.append("varying")
        time.sleep(next(pauses))

    one, other = fastest([slow, varying], seconds=0.2)
    assert calls[:4] == ["slow", "varying"] * 2
    assert one >= 0.02
    assert 0.001 <= other < 0.02


def test_there_is_a_row_for_each_graph_and_batch_size(repository: Path) -> None:
    engine = load_engine(repository)
    table = [line.split("|") for line in rows(engine, engine, seconds=0)]
    graphs = ("stage_1", "stage_2", "stage_3")
    assert [(line[1].strip(" `"), int(line[2])) for line in table] == [
        (graph, batch) for graph in graphs for batch in (1, 8)
    ]
    for line in table:
        first, second, ratio = map(float, line[3:6])
        assert ratio == pytest.approx(first / second, rel=0.02, abs=0.01)
