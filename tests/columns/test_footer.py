"""Values are counted by the footer alone, and a damaged footer is no end of the process."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from columns.footer import counts_of_values
from columns.schema import named

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two row groups of three rows, with lists of images."""
    one = {"bytes": b"1", "path": None}
    rows = pa.array([[one, None], [], None, [one], [one] * 5, [one]], pa.list_(IMAGE))
    pq.write_table(
        pa.table({"y": range(6), "images": rows}), tmp_path / "a.parquet", row_group_size=3
    )
    return tmp_path / "a.parquet"


def counts(path: Path, name: str) -> list[int]:
    with pq.ParquetFile(path) as file:
        (column,) = named(file.schema_arrow, name)
        return counts_of_values(file, column)


def test_values_are_counted_in_each_row_group(path: Path) -> None:
    assert counts(path, "images") == [4, 7]
    assert counts(path, "y") == [3, 3]


def test_a_damaged_entry_is_passed_over(path: Path) -> None:
    """For some of these pyarrow ends the process, if it is asked directly."""
    whole = path.read_bytes()
    size = int.from_bytes(whole[-8:-4], "little")
    found = set()
    for at in range(len(whole) - 8 - size, len(whole) - 8):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 3]) + whole[at + 1 :])
        try:
            found.add(tuple(counts(path, "images")))
        except (pa.ArrowException, OSError, KeyError, ValueError):  # nothing is where it was
            continue
    assert {(4, 7), (3, 7), (4, 3)} <= found
