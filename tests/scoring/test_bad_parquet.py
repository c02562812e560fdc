"""Parquet that is damaged, lies, or has not what is asked for: bounded, and told in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from columns.images import MOST_IN_LISTS
from scoring.errors import InputError
from scoring.inputs.parquet import parquet_shards
from scoring.records import Fault, FaultKind
from tests.scoring.parquet_files import IMAGE, records, write


def test_lists_of_millions_in_a_few_bytes_are_refused(tmp_path: Path) -> None:
    nulls = pa.nulls(MOST_IN_LISTS + 1, pa.binary())
    rows = pa.ListArray.from_arrays(pa.array([0, len(nulls)], pa.int32()), nulls)
    path = write(tmp_path / "a.parquet", images=rows)
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="row group 0 of .* has 4,194,305 images in lists, .* at "):
        parquet_shards(str(path), None, None, 1)


def footer_with(path: Path, was: int, now: int, found: Callable[[Any], bool]) -> None:
    """Change the one number of a file's footer with which that is so."""
    whole = path.read_bytes()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in range(start, len(whole) - 8):
        if whole[at] == 2 * was:  # as Thrift keeps small numbers
            path.write_bytes(whole[:at] + bytes([2 * now]) + whole[at + 1 :])
            with suppress(OSError, pa.ArrowException):
                if found(pq.read_metadata(path).row_group(0)):
                    return
    raise AssertionError("there is no such number")


def test_a_row_group_has_as_many_rows_as_it_says(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", photo=[b"%d" % i for i in range(20)])
    footer_with(path, 20, 30, lambda group: group.num_rows == 30)
    found = records(path)
    assert [each.image for each in found[:20]] == [b"%d" % i for i in range(20)]
    assert [each.id for each in found] == [f"{path}#{i}" for i in range(30)]
    problem = "the Parquet file is damaged: it has fewer rows than it says"
    assert [each.image for each in found[20:]] == [Fault(FaultKind.UNREADABLE, problem)] * 10


def test_a_damaged_row_group_of_lists_costs_its_images_only(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    lists = pa.array([[b"%d" % i] * 2 for i in range(30)], pa.list_(pa.binary()))
    pq.write_table(
        pa.table({"a": lists}), path, row_group_size=10, compression="none", use_dictionary=False
    )
    chunk = pq.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset : chunk.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(content)
    whole = records(path)
    assert [each.image for each in whole[:20]] == [b"%d" % (i // 2) for i in range(20)]
    assert {getattr(each.image, "kind", None) for each in whole[20:40]} == {FaultKind.UNREADABLE}
    assert [each.image for each in whole[40:]] == [b"%d" % (i // 2) for i in range(40, 60)]
    assert len({each.id for each in whole}) == 60
    (shard,) = parquet_shards(str(path), None, None, 100)
    assert list(shard.read(25)) == whole[25:]


def test_a_name_that_is_no_unicode_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", photo=pa.array([{"inner": b"1"}]))
    path.write_bytes(path.read_bytes().replace(b"inner", b"\xd5nner"))
    with pytest.raises(InputError, match="a.parquet is not a readable Parquet file: "):
        records(path)


@pytest.mark.parametrize(
    "column",
    [
        ["x/a.png", None, "b.png"],
        pa.array([{"bytes": None, "path": path} for path in ("x/a.png", "b.png", None)], IMAGE),
        [{"bytes": None, "path": path} for path in ("x/a.png", "b.png")],
        pa.array([["x/a.png"], [], ["b.png"]], pa.list_(pa.string())),
    ],
    ids=["text", "structs", "nulls", "lists"],
)
def test_files_of_which_none_is_there_are_told_before_scoring(tmp_path: Path, column: Any) -> None:
    path = write(tmp_path / "a.parquet", image=column)
    problem = "none of the first 2 files that .* names is there: 'x/a.png' would be '.*/x/a.png'; "
    with pytest.raises(InputError, match=problem):
        records(path)
    (tmp_path / "b.png").write_bytes(b"1")
    assert [each.image for each in records(path)].count(b"1") == 1


SAMPLE = pa.array([{"img": b"1", "n": 1}], pa.struct([("img", pa.binary()), ("n", pa.int64())]))
CAPTION: dict[str, list[Any]] = {"caption": ["?"], "y": [0.5]}
PAIR = {"left": [b"1"], "right": pa.array([None], IMAGE), **CAPTION}
NESTED = {"photo": [b"1"], "sample": SAMPLE, "tags": [["a"]]}
TWO_IMAGES = (
    r"a.parquet has 2 columns of encoded images: 'left' \(binary\), "
    r"'right' \(struct<bytes: binary, path: string>\); name one of them by --column"
)
TWO_PATHS = (
    r"no column of encoded images, and 2 that may name their files: "
    r"'path' \(string\), 'url' \(string\); name one of them by --column"
)
NO_IMAGES = (
    "has no column of encoded images .* and none of the columns path, .* it has "
    r"'caption' \(string\), 'y' \(double\): name the one with the paths"
)


@pytest.mark.parametrize(
    ("columns", "column", "label", "problem"),
    [
        (PAIR, None, None, TWO_IMAGES),
        ({"path": ["a"], "url": ["b"]}, None, None, TWO_PATHS),
        (CAPTION, None, None, NO_IMAGES),
        (PAIR, "y", None, "column 'y' of .*a.parquet holds double: images are bytes, structs"),
        (PAIR, "gone", None, r"has no column 'gone'; it has 'left' \(binary\), .* 'y' \(double\)"),
        (NESTED, "sample", None, r"'sample' of .* names their files; in it are 'sample.img' \(b"),
        (NESTED, None, "tags", "column 'tags' of .* holds lists of string: labels are names"),
        (NESTED, None, "sample", "column 'sample' of .* holds struct<.*: labels are names"),
        (PAIR, "left", "y", "column 'y' of .* holds double: labels are names or numbers"),
        (PAIR, "left", "gone", "no column 'gone' for --labels, and lies in no folder 'gone=..'; "),
        ({f"c{i}": [i] for i in range(100)}, None, None, r"'c19' \(int64\) and 80 more: name"),
    ],
)
def test_what_is_not_found_is_told_with_what_there_is(
    tmp_path: Path, columns: dict[str, Any], column: str | None, label: str | None, problem: str
) -> None:
    path = write(tmp_path / "a.parquet", **columns)
    with pytest.raises(InputError, match=problem):
        parquet_shards(str(path), column, label, 1)
