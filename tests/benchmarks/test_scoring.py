"""The scoring benchmark: the same work in every way, and figures that come from it."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.images import TEST_IMAGES
from benchmarks.studies.scoring import REPOSITORY, RawScoring, Speed, main, median, timed_in_turns
from serving.engine.graphs import load_engine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with 50 test images."""
    table = pq.read_table(TEST_IMAGES).take(list(range(0, 1000, 20)))
    pq.write_table(table, tmp_path / "test.parquet")
    return tmp_path


def test_bare_onnx_runtime_does_the_routed_work(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = RawScoring(REPOSITORY, data / "test.parquet", threads=1)
    rows: list[int] = []

    class Counted:
        def __init__(self, stage: object) -> None:
            self.stage = stage

        def run(self, outputs: object, feeds: dict[str, object]) -> object:
            rows.append(len(next(iter(feeds.values()))))  # type: ignore[arg-type]
            return self.stage.run(outputs, feeds)  # type: ignore[attr-defined]

    monkeypatch.setattr(raw, "_stages", [Counted(stage) for stage in raw._stages])
    assert raw.run() == 50
    engine = load_engine(REPOSITORY)
    used = engine.classify(raw.decoded(range(50)), engine.rule()).experts_used
    assert rows == [50, int((used > 1).sum()), int((used > 2).sum())]


def test_speeds_are_measured_in_turns(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--data", str(data), "--rounds", "1"])
    printed = capsys.readouterr().out
    for name in ("ride score", "all experts", "raw"):
        assert re.search(rf"^{name} +[0-9]+ +[0-9.]+$", printed, re.MULTILINE), printed
    assert re.search(r"^ride score / raw: [0-9.]+ in images/s", printed, re.MULTILINE)
    assert "multiply-adds of all experts over routed ones: 1.47" in printed


def test_every_way_runs_once_a_round_and_the_median_counts() -> None:
    calls: list[str] = []

    def way(name: str) -> int:
        calls.append(name)
        return 10

    speeds = timed_in_turns({"a": lambda: way("a"), "b": lambda: way("b")}, rounds=3)
    assert calls == ["a", "b"] * 3
    assert [len(found) for found in speeds.values()] == [3, 3]
    assert median([Speed(1, 9), Speed(2, 7), Speed(9, 8)]) == Speed(2, 8)


def test_memory_is_watched_over_many_copies(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--data", str(data), "--repeat", "2"])
    printed = capsys.readouterr().out
    assert "2 times test.parquet: " in printed
    assert re.search(r"the most in each fifth of the time: .*[1-9][0-9]+", printed), printed
