"""The graph benchmark: a row for each graph and batch size, of both exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studies.graph_speed import graph_speed


def test_there_is_a_row_for_each_graph_and_batch_size(repository: Path) -> None:
    _, _, *rows = (line.split("|") for line in graph_speed(repository, repository, seconds=0))
    graphs = ("stage_1", "stage_2", "stage_3")
    assert [(row[1].strip(" `"), int(row[2])) for row in rows] == [
        (graph, batch) for graph in graphs for batch in (1, 8)
    ]
    for row in rows:
        first, second, ratio = map(float, row[3:6])
        assert ratio == pytest.approx(first / second, rel=0.02, abs=0.01)
