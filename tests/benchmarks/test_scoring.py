"""The scoring benchmark: the same work in every way, and figures that come from it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.checkout import BUNDLED, TEST_IMAGES
from benchmarks.studies.scoring import BareScoring, scoring, throughputs
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
    raw = BareScoring(BUNDLED, data / "test.parquet", threads=1)
    rows: list[int] = []

    class Counted:
        def __init__(self, stage: object) -> None:
            self.stage = stage

        def run(self, outputs: object, feeds: dict[str, object]) -> object:
            rows.append(len(next(iter(feeds.values()))))  # type: ignore[arg-type]
            return self.stage.run(outputs, feeds)  # type: ignore[attr-defined]

    monkeypatch.setattr(raw, "_stages", [Counted(stage) for stage in raw._stages])
    assert raw.run() == 50
    engine = load_engine(BUNDLED)
    used = engine.classify(raw.decoded(range(50)), engine.rule()).experts_used
    assert rows == [50, int((used > 1).sum()), int((used > 2).sum())]


def test_speeds_are_measured_in_turns(data: Path) -> None:
    printed = "\n".join(scoring(data, rounds=1))
    for name in ("ride score", "all experts", "raw"):
        assert re.search(rf"^{name} +[0-9]+ +[0-9.]+$", printed, re.MULTILINE), printed
    assert re.search(r"^ride score / raw: [0-9.]+ in images/s", printed, re.MULTILINE)
    assert "multiply-adds of all experts over routed ones: 1.47" in printed


def test_throughput_is_images_over_the_time_that_they_took() -> None:
    def way() -> int:
        time.sleep(0.05)
        return 10

    (found,) = throughputs({"a": way}, rounds=3).values()
    assert 0 < found.images_per_s <= 10 / 0.05
    assert found.cpu_ms >= 0


def test_memory_is_watched_over_many_copies(data: Path) -> None:
    _, copies, resident = scoring(data, repeat=2)
    assert copies.startswith("2 times test.parquet: ")
    assert re.search(r"the most in each fifth of the time: .*[1-9][0-9]+", resident)
