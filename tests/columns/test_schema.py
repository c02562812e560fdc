"""Columns are found by what they hold and by their names, wherever they are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from columns.schema import Column, columns_of, described, image_columns, leaf_number, named

IMAGE = pa.struct([("path", pa.string()), ("bytes", pa.binary())])
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("tags", pa.map_(pa.string(), pa.list_(pa.int8()))),
        ("sample", pa.struct([("views", pa.list_(IMAGE)), ("mask", IMAGE), ("mask.x", pa.int8())])),
        ("sample.mask", pa.string()),
        ("kind", pa.dictionary(pa.int32(), pa.large_binary())),
    ]
)


def names(columns: list[Column]) -> list[str]:
    return [str(column) for column in columns]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["kind", "sample"], ["kind"]),
        (["sample"], ["sample.mask"]),
        (["id", "tags"], []),
    ],
)
def test_the_nearest_images_are_meant_and_lists_last(
    fields: list[str], expected: list[str]
) -> None:
    schema = pa.schema([SCHEMA.field(name) for name in fields])
    assert names(image_columns(schema)) == expected


@pytest.mark.parametrize(
    ("kind", "images"),
    [
        (pa.binary(8), False),  # a hash
        (pa.struct([("bytes", pa.string())]), False),
        (pa.struct([("bytes", pa.null())]), False),
        (pa.struct([("bytes", pa.null()), ("path", pa.large_string())]), True),
        (pa.struct([("bytes", pa.binary()), ("bytes", pa.binary())]), False),
        (pa.list_(pa.list_(pa.binary_view())), True),
        (pa.map_(pa.string(), pa.binary()), False),
        (pa.opaque(pa.binary(), "image", "somebody"), True),
    ],
    ids=str,
)
def test_what_holds_images(kind: pa.DataType, images: bool) -> None:
    (column, *_) = columns_of(pa.schema([("a", kind)]))
    assert column.holds_images is images


def test_a_name_means_a_column_at_the_top_before_a_field() -> None:
    assert [column.names for column in named(SCHEMA, "sample.mask")] == [("sample.mask",)]
    (views,) = named(SCHEMA, "sample.views")
    assert (views.names, views.type, views.in_list) == (("sample", "views"), IMAGE, True)
    assert named(SCHEMA, "sample.views.bytes")[0].names == ("sample", "views", "bytes")
    assert not named(SCHEMA, "views")
    assert len(named(pa.schema([("a", pa.int8()), ("a", pa.int8())]), "a")) == 2


@pytest.mark.parametrize(
    ("column", "leaf"),
    [
        ("id", "id"),
        ("sample.views", "sample.views.list.element.bytes"),
        ("sample.mask.path", "sample.mask.path"),
        ("kind", "kind"),
    ],
)
def test_leaves_are_counted_as_parquet_does(tmp_path: Path, column: str, leaf: str) -> None:
    pq.write_table(SCHEMA.empty_table(), tmp_path / "a.parquet")
    file = pq.ParquetFile(tmp_path / "a.parquet")
    (found,) = named(file.schema_arrow, column)
    assert file.schema.column(leaf_number(file.schema_arrow, found)).path == leaf


def test_any_depth_and_width_is_looked_at_and_told_in_bounds() -> None:
    deep = pa.binary()
    for _ in range(500):
        deep = pa.struct([("inner", deep)])
    schema = pa.schema([("deep", deep), *((f"c{i}", pa.int8()) for i in range(5000))])
    assert not image_columns(schema)
    assert len(described(schema)) < 1000
    assert described(schema).endswith("'c18' (int8) and 4981 more")
    assert described(pa.schema([])) == "none"
