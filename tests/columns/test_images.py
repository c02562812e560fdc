"""Images come out of a batch where they are in it, whatever is null above them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from columns.images import column_values, decoded, image_batches, image_cells
from columns.schema import named

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROWS = [
    {"views": [{"bytes": b"one", "path": "a"}, None], "y": 0},
    {"views": [], "y": 1},
    None,
    {"views": None, "y": 3},
    {"views": [{"bytes": None, "path": "b"}, {"bytes": b"", "path": None}], "y": 4},
]
KIND = pa.struct([("views", pa.list_(IMAGE)), ("y", pa.int64())])
BATCH = pa.RecordBatch.from_arrays([pa.array(ROWS, KIND)], ["sample"])


def test_each_has_its_place_its_bytes_and_its_path() -> None:
    (column,) = named(BATCH.schema, "sample.views")
    found = [
        (each.row, each.places, each.path, each.data(2)) for each in image_cells(BATCH, column)
    ]
    assert found == [
        (0, (0,), "a", b"on"),
        (0, (1,), None, None),
        (1, (), None, None),
        (2, (), None, None),
        (3, (), None, None),
        (4, (0,), "b", None),
        (4, (1,), None, b""),
    ]
    has_data = [each.has_data for each in image_cells(BATCH, column)]
    assert has_data == [True, *[False] * 5, True]


def test_a_slice_of_a_batch_is_its_own_rows() -> None:
    (column,) = named(BATCH.schema, "sample.views")
    (first, second) = image_cells(BATCH.slice(4), column)
    assert (first.row, first.path, second.row, second.data(9)) == (0, "b", 0, b"")
    (label,) = named(BATCH.schema, "sample.y")
    assert column_values(BATCH.slice(1), label).to_pylist() == [1, None, 3, 4]


def test_values_behind_dictionaries_and_extensions() -> None:
    kept = pa.array([b"x", None, b"y", b"x"]).dictionary_encode()
    kind = pa.opaque(pa.binary(), "image", "somebody")
    extended = pa.ExtensionArray.from_storage(kind, pa.array([b"x", None, b"y", b"x"]))
    for array in (kept, extended):
        batch = pa.RecordBatch.from_arrays([array], ["a"])
        (column,) = named(batch.schema, "a")
        assert [each.data(9) for each in image_cells(batch, column)] == [b"x", None, b"y", b"x"]
        assert decoded(column_values(batch, column)).to_pylist() == [b"x", None, b"y", b"x"]


def test_an_entry_that_a_dictionary_has_not_is_told() -> None:
    indices = pa.array([0, 7], pa.int8())
    array = pa.DictionaryArray.from_arrays(indices, pa.array([b"x"]), safe=False)
    batch = pa.RecordBatch.from_arrays([array], ["a"])
    cells = image_cells(batch, *named(batch.schema, "a"))
    assert next(cells).data(1) == b"x"
    with pytest.raises(pa.ArrowIndexError, match="of 1 entries has none of number 7"):
        next(cells)


def test_one_value_many_times_is_kept_once() -> None:
    """Sixty-four rows of one image of 16 MiB would be a gibibyte."""
    before = pa.total_allocated_bytes()
    large = pa.DictionaryArray.from_arrays(pa.array([0] * 64), pa.array([bytes(2**24)]))
    batch = pa.RecordBatch.from_arrays([large], ["a"])
    (column,) = named(batch.schema, "a")
    assert sum(len(each.data(2**24) or b"") for each in image_cells(batch, column)) == 2**30
    assert pa.total_allocated_bytes() - before < 2**26


def test_few_rows_are_read_at_once_where_one_value_may_fill_them_all(tmp_path: Path) -> None:
    """A kilobyte of file, of which a batch of 64 rows would take a gibibyte."""
    images = [{"bytes": bytes(2**24), "path": None}] * 64
    pq.write_table(
        pa.table({"image": pa.array(images, IMAGE)}), tmp_path / "a.parquet", compression="zstd"
    )
    assert (tmp_path / "a.parquet").stat().st_size < 2000
    with pq.ParquetFile(tmp_path / "a.parquet", pre_buffer=False) as file:
        (column,) = named(file.schema_arrow, "image")
        rows = [len(each) for each in image_batches(file, 0, [column], 64, 2**23)]
    assert sum(rows) == 64
    assert max(rows) <= 8
