"""A run may end anywhere: what it wrote is whole, and the same command goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring import journal
from scoring.errors import OutputError
from scoring.layout import JOURNAL_FILE, SUMMARY_FILE
from tests.checkout import ROOT
from tests.running.scoring import start_scoring
from tests.scoring.conftest import rows_of

TEST_IMAGES = ROOT / "tests" / "data" / "cifar100" / "test.parquet"
KILLS = 10

Score = Callable[..., pa.Table]


def start(output: Path, images: Path = TEST_IMAGES) -> ForkServerProcess:
    return start_scoring(images, "--output", output, "--part-rows=5", "--workers=1")


def ended(process: ForkServerProcess) -> int | None:
    """The exit status, negative for a signal."""
    process.join(60)
    return process.exitcode


def journal_bytes(output: Path) -> int:
    path = output / JOURNAL_FILE
    return path.stat().st_size if path.exists() else 0


def wait_for_growth(output: Path, before: int, process: ForkServerProcess) -> None:
    while journal_bytes(output) <= before:
        assert process.exitcode is None, "the run ended before it was killed"
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_ten_random_moments_nothing_is_lost_or_twice(
    tmp_path: Path, score: Score
) -> None:
    """Once while it starts, nine times while it scores, a few parts further on each time."""
    generator, output = random.Random(0), tmp_path / "out"
    images = tmp_path / "images.parquet"
    pq.write_table(pq.read_table(TEST_IMAGES).take(list(range(0, 1000, 2))), images)
    expected = score(images, output=tmp_path / "undisturbed")
    for kill in range(KILLS):
        process, before = start(output, images), journal_bytes(output)
        if kill == 1:
            time.sleep(generator.uniform(0, 0.5))
        else:
            wait_for_growth(output, before, process)
            time.sleep(generator.uniform(0, 0.05))
        process.kill()
        assert ended(process) == -signal.SIGKILL
        for part in output.glob("parts/part-*.parquet"):
            assert pq.read_metadata(part).num_rows == 5
    assert not (output / SUMMARY_FILE).exists()
    assert ended(start(output, images)) == 0
    assert rows_of(output).equals(expected)
    assert json.loads((output / SUMMARY_FILE).read_bytes())["images"] == 500
    assert not list(output.glob(".part*"))


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processes run too, so that paths are the same."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_that_can_go_on(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path / "out")
    wait_for_growth(tmp_path / "out", 0, process)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert ended(process) == 130
    assert not list((tmp_path / "out").glob(".part*"))
    done = journal.done_parts(tmp_path / "out", tmp_path / "out" / "parts")
    assert len(rows_of(tmp_path / "out")) == sum(part.counts.images for part in done.values())
    assert 0 < len(done) < 200


def test_a_torn_journal_and_damaged_parts_are_made_good(
    tmp_path: Path, score: Score, picture_parquet: Path
) -> None:
    expected, output = score(picture_parquet, part_rows=10), tmp_path / "out"
    lines = (output / "_journal.jsonl").read_bytes().splitlines(keepends=True)
    first, *_, last = sorted(output.glob("parts/part-*.parquet"))
    for damage in (
        lambda: (output / "_journal.jsonl").write_bytes(b"".join(lines)[:-30]),
        lambda: (output / "_journal.jsonl").write_bytes(b"\0\xff{]\n" + b"".join(lines[1:])),
        lambda: (output / "_journal.jsonl").write_text('{"shard": 0}\n[]\n7\n'),
        (output / "_journal.jsonl").unlink,
        first.unlink,
        lambda: last.write_bytes(b"short"),
        lambda: (output / ".part-0000000-00001.parquet.x7").write_bytes(b"left behind"),
    ):
        (output / "_summary.json").unlink()
        damage()
        assert score(picture_parquet, part_rows=10).equals(expected)
        assert json.loads((output / "_summary.json").read_bytes())["images"] == 48
        assert not list(output.glob(".part*"))


def test_a_finished_run_is_not_repeated(
    tmp_path: Path, picture_parquet: Path, run_score: Callable[..., object]
) -> None:
    for _ in range(2):
        run_score(picture_parquet, "--output", tmp_path / "out")
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()}
    again = run_score(picture_parquet, "--output", tmp_path / "out", "--json", "-")
    assert "is finished already: 48 images" in again.stderr  # type: ignore[attr-defined]
    assert json.loads(again.stdout)["images"] == 48  # type: ignore[attr-defined]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()}
    assert after == parts != {}


@pytest.fixture
def run_score(call_ride: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., object]:
    return lambda *arguments: call_ride("score", *arguments)


def test_a_run_file_that_was_altered(tmp_path: Path, score: Score, picture_parquet: Path) -> None:
    score(picture_parquet)
    path = tmp_path / "out" / "_run.json"
    run = json.loads(path.read_bytes())
    damaged: list[Any] = [
        [],
        {},
        {**run, "rule": None},
        {**run, "rule": {"thresholds": [0.5, "x"], "max_experts": 3}},
        {**run, "rule": {"thresholds": [0.5, 7], "max_experts": 3}},
        {**run, "inputs": None},
        {**run, "inputs": {**run["inputs"], "arguments": None}},
        {**run, "settings": []},
        {**run, "model": None},
    ]
    for altered in damaged:
        path.write_text(json.dumps(altered))
        with pytest.raises(OutputError, match="holds"):
            score(picture_parquet)


def test_foreign_files_stay(tmp_path: Path, score: Score, picture_parquet: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "precious.parquet").write_bytes(b"mine")
    for settings in ({}, {"overwrite": True}):
        with pytest.raises(OutputError, match=r"not empty and holds no _run.json"):
            score(picture_parquet, **settings)
    assert (output / "precious.parquet").read_bytes() == b"mine"


def test_two_runs_do_not_write_into_one_folder(
    tmp_path: Path, score: Score, picture_parquet: Path
) -> None:
    with (
        journal.locked(tmp_path / "out"),
        pytest.raises(OutputError, match="another run is writing into"),
    ):
        score(picture_parquet)
