"""What a program writes as a table is what is read, whatever files are called."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring.inputs.image_files import FileShard
from scoring.inputs.opening import open_inputs

NAMES = st.text(st.sampled_from("ab.,;\t|\"' /\\=\n\u00e4\u2028"), min_size=1, max_size=9)
ROWS = st.lists(st.tuples(NAMES.map(lambda name: f"{name.strip()}.png"), NAMES), max_size=9)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_written_tables(
    tmp_path: Path, separator: str, encoding: str, rows: list[tuple[str, str]], quoting: int
) -> None:
    (tmp_path / "a.png").touch()
    rows = [("a.png", "0"), *rows]
    with io.StringIO() as text:
        table = csv.writer(text, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
        table.writerows([("path", "y"), *rows])
        (tmp_path / "a.csv").write_bytes(text.getvalue().encode(encoding))
    (shard,) = open_inputs([str(tmp_path / "a.csv")], None, "y", 1000).shards
    assert isinstance(shard, FileShard)
    assert list(map(os.fsdecode, shard.paths.to_pylist())) == [path.strip() for path, _ in rows]
    assert shard.labels.to_pylist() == [label.strip() or None for _, label in rows]
