"""A real Ray cluster of this machine gives the table that threads give, also when workers die."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.studies.scoring import scoring
from scoring.errors import RayError
from scoring.reader import ShardTask
from scoring.records import Record
from scoring.request import KeptFields, RayCluster
from tests.checkout import ROOT
from tests.scoring.conftest import RAY_WARNINGS

TEST_IMAGES = ROOT / "tests" / "data" / "cifar100" / "test.parquet"

ray = pytest.importorskip("ray")
pytestmark = RAY_WARNINGS

Score = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two processors, which this process has joined; gives its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.chdir(ROOT)
        on_term = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
        )
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()
        signal.signal(signal.SIGTERM, on_term)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """400 test images in one row group, so that its parts are dealt out to two workers."""
    path = tmp_path / "images.parquet"
    pq.write_table(pq.read_table(TEST_IMAGES).take(list(range(0, 1000, 5)) * 2), path)
    return path


def counts_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "_summary.json").read_bytes())
    return {name: value for name, value in found.items() if name != "images_per_second"}


def test_the_table_is_that_of_threads_though_a_worker_is_killed(
    cluster: str, score: Score, tmp_path: Path, labelled: Path
) -> None:
    settings = {"labels": "fine_label", "part_rows": 25, "workers": 1}
    expected = score(labelled, output=tmp_path / "threads", **settings)
    output, killed = tmp_path / "ray", threading.Event()

    def kill() -> None:
        while not list(output.glob("parts/part-*")):
            time.sleep(0.01)
        workers = [pid for pid in descendants(os.getpid()) if "ShareScorer" in title(pid)]
        os.kill(workers[0], signal.SIGKILL)
        killed.set()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    table = score(labelled, output=output, ray=RayCluster(actors=2), **settings)
    killer.join(5)
    assert killed.is_set()
    assert table.equals(expected)
    assert table.schema.equals(expected.schema)
    assert counts_of(output) == counts_of(tmp_path / "threads")
    written = sorted(path.relative_to(output) for path in output.rglob("*"))
    threads = tmp_path / "threads"
    assert written == sorted(path.relative_to(threads) for path in threads.rglob("*"))
    for path in output.glob("parts/part-*"):
        assert path.read_bytes() == (threads / "parts" / path.name).read_bytes()


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def title(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_a_run_goes_on_with_the_other_engine(
    cluster: str, score: Score, tmp_path: Path, picture_folder: Path, picture_parquet: Path
) -> None:
    inputs, settings = (picture_folder, picture_parquet), {"part_rows": 6, "workers": 1}
    expected = score(*inputs, **settings)
    parts = sorted((tmp_path / "out").glob("parts/part-*"))
    assert len(parts) > 12
    (tmp_path / "out" / "_summary.json").unlink()
    for part in parts[3:10]:
        part.unlink()
    kept = {part: part.stat().st_ino for part in parts[:3] + parts[10:]}
    parts[9].mkdir()  # no file can take its place, not even root's
    with pytest.raises(RayError, match=rf"{parts[9]} can't be written: .* \(on "):
        score(*inputs, ray=RayCluster(), **settings)
    parts[9].rmdir()
    assert score(*inputs, ray=RayCluster(), **settings).equals(expected)
    assert {part: part.stat().st_ino for part in kept} == kept
    (tmp_path / "out" / "_summary.json").unlink()
    parts[0].unlink()
    assert score(*inputs, **settings).equals(expected)


def test_more_workers_than_fit_are_refused(
    cluster: str, score: Score, picture_parquet: Path
) -> None:
    with pytest.raises(RayError, match="3 workers of 1 processors do not fit"):
        score(picture_parquet, workers=1, ray=RayCluster(actors=3))


def test_an_address_where_nothing_answers(
    tmp_path: Path, picture_parquet: Path, run_ride: Callable[..., Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        started = time.monotonic()
        flags = ("--engine", "ray", "--ray-address", address, "--output", tmp_path / "out")
        failed = run_ride("score", picture_parquet, *flags)
        assert time.monotonic() - started < 60
    assert failed.returncode == 1
    assert f"no Ray cluster answers at {address}" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_run_on_a_cluster_that_is_joined_can_be_stopped(
    cluster: str, tmp_path: Path, score: Score
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "ride", "score", str(TEST_IMAGES), "--output", str(output)]
    flags = ["--part-rows", "5", "--engine", "ray", "--ray-address", cluster]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as process:
        while not list(output.glob("parts/part-*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "the same command goes on from there" in printed
    assert "Traceback" not in printed
    expected = score(TEST_IMAGES, output=tmp_path / "undisturbed", part_rows=5)
    assert score(TEST_IMAGES, output=output, part_rows=5).equals(expected)


def test_the_benchmark_measures_in_turns(cluster: str, tmp_path: Path, labelled: Path) -> None:
    images = pq.read_table(labelled).slice(0, 50)
    pq.write_table(images, tmp_path / "test.parquet")
    *_, ratio = scoring(tmp_path, rounds=1, threads=1, ray=2)
    assert re.match(r"on Ray / threads: [0-9.]+ in images/s", ratio)


def test_flags_of_ray_without_ray(
    tmp_path: Path, picture_parquet: Path, call_ride: Callable[..., Any]
) -> None:
    command = ("score", picture_parquet, "--output", tmp_path / "out")
    refused = call_ride(*command, "--ray-actors", 2)
    assert refused.returncode == 1
    assert "belong to --engine ray" in refused.stderr


def test_without_the_extra_the_command_says_which(tmp_path: Path, picture_parquet: Path) -> None:
    program = f"""
import sys
sys.modules["ray"] = None
import ride
sys.argv = ["ride", "score", {str(picture_parquet)!r}, "--output", {str(tmp_path / "out")!r},
            "--engine", "ray"]
ride.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'ride-server[ray]'" in done.stderr


class RowShard:
    """Of so many rows, or of unknown length."""

    def __init__(self, rows: int | None) -> None:
        self.rows = rows

    def read(self, skip: int = 0) -> Iterator[Record]:
        return (Record(str(row), None, b"") for row in range(skip, self.rows or 7))


@given(
    st.lists(st.tuples(st.none() | st.integers(1, 40), st.sets(st.integers(0, 8))), max_size=6),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_each_part_that_is_left_is_dealt_out_once(
    shards: list[tuple[int | None, set[int]]], part_rows: int, actors: int
) -> None:
    from scoring.ray_scorer import shares  # noqa: PLC0415 where there is Ray
    from scoring.reader import read_chunks  # noqa: PLC0415

    tasks = [ShardTask(i, RowShard(rows), frozenset(done)) for i, (rows, done) in enumerate(shards)]

    def parts_of(some: list[ShardTask]) -> list[tuple[Any, list[str], bool]]:
        from scoring.parts import Part  # noqa: PLC0415

        chunks = read_chunks(
            some, part_rows, 64, lambda key: Part(key, part_rows, KeptFields(1), 3)
        )
        parts = {chunk.part.key: chunk.part for chunk in chunks}
        return [(key, part.ids, part.last) for key, part in parts.items()]

    dealt = shares(tasks, part_rows, actors)
    found = [part for share in dealt for part in parts_of(pickle.loads(pickle.dumps(share)))]
    assert found == parts_of(tasks)
