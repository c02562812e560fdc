"""Where the files of a run are: readers of folders find its rows, and runs of before are known."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from scoring.errors import OutputError
from tests.scoring.conftest import as_layout_1

Score = Callable[..., pa.Table]
Ride = Callable[..., subprocess.CompletedProcess[str]]


def test_folder_readers_find_parts_and_nothing_else(
    score: Score, tmp_path: Path, picture_parquet: Path
) -> None:
    """Polars refuses a folder of several suffixes, `datasets` reads all but hidden files."""
    expected, parts = score(picture_parquet, part_rows=10), tmp_path / "out" / "parts"
    assert sorted({path.suffix for path in parts.rglob("*")}) == [".parquet"]
    every_file = ds.dataset(
        parts, format="parquet", exclude_invalid_files=False, ignore_prefixes=[]
    )
    assert every_file.to_table().equals(expected)


def test_a_run_of_the_earlier_layout_is_compared_but_does_not_go_on(
    score: Score, call_ride: Ride, tmp_path: Path, picture_parquet: Path
) -> None:
    expected = score(picture_parquet, part_rows=10)
    score(picture_parquet, output=tmp_path / "new")
    as_layout_1(tmp_path / "out")
    compared = call_ride("compare", tmp_path / "out", tmp_path / "new", "--json", "-")
    found = json.loads(compared.stdout)
    assert (found["images"]["common"], found["labels"]["changed"]) == (48, 0)
    with pytest.raises(OutputError, match=r"earlier version of ride began, .* by --overwrite"):
        score(picture_parquet, part_rows=10)
    assert score(picture_parquet, part_rows=10, overwrite=True).equals(expected)
    assert not list((tmp_path / "out").glob("part-*"))


def test_a_run_of_a_later_layout_is_refused(
    score: Score, call_ride: Ride, tmp_path: Path, picture_parquet: Path
) -> None:
    score(picture_parquet)
    path = tmp_path / "out" / "_run.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"layout": 3}))
    refused = call_ride("compare", tmp_path / "out", tmp_path / "out")
    assert refused.returncode == 1
    assert "was written by a later version of ride" in refused.stderr
    with pytest.raises(OutputError, match="was written by a later version of ride"):
        score(picture_parquet)


@pytest.mark.parametrize(
    "name", ["parts", "parts/mine.parquet", "parts/part-0000000-00000.parquet"]
)
def test_what_somebody_keeps_in_parts_stays(
    score: Score, tmp_path: Path, picture_parquet: Path, name: str
) -> None:
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"mine")
    with pytest.raises(OutputError):
        score(picture_parquet)
    assert file.read_bytes() == b"mine"


def test_written_over_are_only_files_of_the_run(
    score: Score, tmp_path: Path, picture_parquet: Path
) -> None:
    score(picture_parquet, part_rows=10)
    (tmp_path / "out" / "parts" / "mine.txt").write_bytes(b"mine")
    score(picture_parquet, part_rows=20, overwrite=True)
    names = sorted(path.name for path in (tmp_path / "out" / "parts").iterdir())
    assert names == ["mine.txt", *(f"part-{i:07}-{0:05}.parquet" for i in range(3))]
