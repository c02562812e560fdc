"""Parquet as others write it: images in any form of column, their files, labels, folders."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from scoring.inputs.opening import open_inputs
from scoring.inputs.parquet import parquet_shards
from scoring.records import FaultKind
from serving.model.routing import Routed
from tests.scoring.conftest import assert_answers
from tests.scoring.parquet_files import IMAGE, records, write

Score = Callable[..., pa.Table]
Pictures = tuple[bytes, ...]


@pytest.mark.parametrize(
    "kind",
    [
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.dictionary(pa.int8(), pa.large_binary()),
    ],
    ids=str,
)
def test_bytes_however_arrow_keeps_them(
    score: Score, tmp_path: Path, pictures: Pictures, expected: Routed, kind: pa.DataType
) -> None:
    path = write(tmp_path / "a.parquet", photo=pa.array(pictures, kind), size=[0.5] * 48)
    assert_answers(score(path, part_rows=7), expected)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (pa.binary(), pa.string()),
        (pa.large_binary(), pa.large_string()),
        (pa.binary_view(), pa.string_view()),
        (pa.binary(), pa.dictionary(pa.int32(), pa.string())),
    ],
    ids=str,
)
def test_structs_of_bytes_and_a_path(
    tmp_path: Path, content: pa.DataType, name: pa.DataType
) -> None:
    fields = [pa.array([b"1", b"", None], content), pa.array(["a", None, None], name)]
    column = pa.StructArray.from_arrays(fields, ["bytes", "path"])
    found = records(write(tmp_path / "a.parquet", image=column))
    assert [each.image for each in found] == [b"1", b"", b""]
    assert [each.path for each in found] == ["a", None, None]


def test_a_field_of_structs(
    score: Score, tmp_path: Path, pictures: Pictures, expected: Routed
) -> None:
    rows = [{"img": {"bytes": each, "path": None}, "y": i} for i, each in enumerate(pictures)]
    kind = pa.struct([("img", IMAGE), ("y", pa.int64())])
    path = write(tmp_path / "a.parquet", sample=pa.array(rows, kind))
    for column in (None, "sample.img", "sample.img.bytes"):
        table = score(path, column=column, labels="sample.y", output=tmp_path / str(column))
        assert_answers(table, expected)
        assert table["true_index"].to_pylist() == list(range(48))


def test_nulls_at_every_level_are_rows(tmp_path: Path) -> None:
    rows = [None, {"img": None}, {"img": {"bytes": None, "path": None}}, {"img": {"bytes": b"1"}}]
    kind = pa.struct([("img", IMAGE)])
    path = write(tmp_path / "a.parquet", sample=pa.array(rows, kind))
    assert [each.image for each in records(path)] == [b"", b"", b"", b"1"]


def test_a_dot_in_a_name_is_no_field(tmp_path: Path) -> None:
    inner = pa.array([{"img": b"field"}], pa.struct([("img", pa.binary())]))
    path = write(tmp_path / "a.parquet", **{"sample.img": [b"column"], "sample": inner})
    assert [each.image for each in records(path, "sample.img")] == [b"column"]


@pytest.mark.parametrize(
    "of", [pa.list_, pa.large_list, pa.list_view, lambda kind: pa.list_(kind, 2)]
)
def test_each_image_of_a_list_is_a_row(
    tmp_path: Path, of: Callable[[pa.DataType], pa.DataType]
) -> None:
    one, two, three, none = ({"bytes": each, "path": None} for each in (b"1", b"2", b"3", None))
    rows = [[one, two], None, [three, None], [none, one]]
    path = tmp_path / "a.parquet"
    table = pa.table({"images": pa.array(rows, of(IMAGE)), "y": ["a", "b", "c", "d"]})
    pq.write_table(table, path, row_group_size=3)
    (shard,) = parquet_shards(str(path), None, "y", 100)
    whole = list(shard.read())
    assert [each.image for each in whole] == [b"1", b"2", b"", b"3", b"", b"", b"1"]
    assert [each.label for each in whole] == ["a", "a", "b", "c", "c", "d", "d"]
    assert [each.id.rpartition("#")[2] for each in whole] == [
        *("0.0", "0.1", "1", "2.0", "2.1", "3.0", "3.1")
    ]
    assert shard.rows == len(whole)
    for skip in range(8):
        assert list(shard.read(skip)) == whole[skip:]


def test_lists_in_structs_in_lists(tmp_path: Path) -> None:
    rows = [
        [{"shots": [b"1", b"2"], "n": 1}, {"shots": [], "n": 2}],
        [],
        [{"shots": None, "n": 3}, None, {"shots": [b"3"], "n": 4}],
    ]
    kind = pa.list_(pa.struct([("n", pa.int64()), ("shots", pa.list_(pa.binary()))]))
    path = write(tmp_path / "a.parquet", n=[1, 2, 3], visits=pa.array(rows, kind))
    found = records(path, "visits.shots")
    places = [each.id.rpartition("#")[2] for each in found]
    assert places == ["0.0.0", "0.0.1", "0.1", "1", "2.0", "2.1", "2.2.0"]
    assert [each.image for each in found] == [b"1", b"2", b"", b"", b"", b"", b"3"]
    assert [shard.rows for shard in parquet_shards(str(path), None, None, 1)] == [7]


def test_a_list_of_one_answers_as_a_column_does(
    score: Score, tmp_path: Path, pictures: Pictures, expected: Routed
) -> None:
    rows = pa.array([[{"bytes": each, "path": None}] for each in pictures], pa.list_(IMAGE))
    path = write(tmp_path / "a.parquet", images=rows)
    assert_answers(score(path, part_rows=7), expected)


def test_files_that_are_not_embedded(
    score: Score, tmp_path: Path, picture_folder: Path, pictures: Pictures, expected: Routed
) -> None:
    """As `datasets` writes them: paths beside the Parquet file, or whole ones."""
    rows = [
        {"bytes": None, "path": f"pictures/{i:02}.png"}
        if i % 3 == 0
        else {"bytes": None, "path": str(picture_folder / f"{i:02}.png")}
        if i % 3 == 1
        else {"bytes": picture, "path": "not/there.png"}
        for i, picture in enumerate(pictures)
    ]
    table = score(write(tmp_path / "a.parquet", image=pa.array(rows, IMAGE)), part_rows=7)
    assert_answers(table, expected)
    assert table["path"].to_pylist()[:1] == ["pictures/00.png"]


def test_files_that_are_not_there(tmp_path: Path, pictures: Pictures) -> None:
    (tmp_path / "a.png").write_bytes(pictures[0])
    paths = ["a.png", "gone.png", "", None, ".", "a\0b", "/dev/zero", "what://x"]
    rows = pa.array([{"bytes": None, "path": path} for path in paths], IMAGE)
    found = records(write(tmp_path / "a.parquet", image=rows))
    assert found[0].image == pictures[0]
    assert [getattr(each.image, "kind", each.image) for each in found[1:]] == [
        *(FaultKind.MISSING, b"", b""),
        *[FaultKind.UNREADABLE] * 4,
    ]


def test_bytes_of_the_type_null(tmp_path: Path, pictures: Pictures) -> None:
    (tmp_path / "a.png").write_bytes(pictures[0])
    path = write(tmp_path / "a.parquet", image=[{"bytes": None, "path": "a.png"}])
    assert pq.read_schema(path).field("image").type.field("bytes").type == pa.null()
    assert [each.image for each in records(path)] == [pictures[0]]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_a_column_of_paths(
    score: Score, tmp_path: Path, picture_folder: Path, expected: Routed, kind: pa.DataType
) -> None:
    paths = pa.array([f"pictures/{i:02}.png" for i in range(48)], kind)
    path = write(tmp_path / "a.parquet", Path=paths, caption=["?"] * 48, y=range(48))
    table = score(path, labels="y", part_rows=7)
    assert_answers(table, expected)
    assert table["path"].to_pylist() == paths.to_pylist()
    assert table["true_index"].to_pylist() == list(range(48))


def test_a_row_without_a_path_and_names_that_are_no_unicode(
    tmp_path: Path, pictures: Pictures
) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb") as file:  # noqa: PTH123
        file.write(pictures[0])
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff.png", None]).buffers())
    found = records(write(tmp_path / "a.parquet", file=texts))
    assert found[0].image == pictures[0]
    assert found[0].path == "\udcff.png"
    assert getattr(found[1].image, "kind", None) == FaultKind.MISSING


def test_bytes_go_before_paths(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"2")
    path = write(tmp_path / "a.parquet", path=["gone.png"], jpg=[b"1"], text=["a.png"])
    assert [each.image for each in records(path)] == [b"1"]
    assert [each.image for each in records(path, "text")] == [b"2"]


def test_paths_behind_a_url(tmp_path: Path, pictures: Pictures) -> None:
    system = fsspec.filesystem("memory")
    file = io.BytesIO()
    pq.write_table(pa.table({"image": ["a.png", "memory://parquet/b/c.png", "/etc/passwd"]}), file)
    try:
        system.pipe("/parquet/b/a.png", pictures[0])
        system.pipe("/parquet/b/c.png", pictures[1])
        system.pipe("/parquet/b/x.parquet", file.getvalue())
        (shard,) = parquet_shards("memory://parquet/b/x.parquet", None, None, 10)
        *found, outside = [each.image for each in shard.read()]
    finally:
        system.rm("/parquet", recursive=True)
    assert found == list(pictures[:2])
    assert getattr(outside, "kind", None) == FaultKind.MISSING


def test_labels_of_hive_partitions(score: Score, tmp_path: Path, pictures: Pictures) -> None:
    names = ["apple", "worm", None, "aquarium_fish", "50%/off"]
    table = pa.table({"photo": list(pictures[:5]), "label": names})
    ds.write_dataset(
        table,
        tmp_path / "data",
        format="parquet",
        partitioning=["label"],
        partitioning_flavor="hive",
    )
    assert len(list((tmp_path / "data").glob("label=*/*.parquet"))) == 5
    scored = score(tmp_path / "data", labels="label")
    assert sorted(scored["true_label"].to_pylist(), key=str) == [
        *(None, None, "apple", "aquarium_fish", "worm")
    ]
    shown = score(
        tmp_path / "data" / "label=worm" / "part-0.parquet", labels="label", output=tmp_path / "one"
    )
    assert shown["true_index"].to_pylist() == [99]


def test_a_column_goes_before_a_folder_and_the_nearest_folder_before_others(
    tmp_path: Path,
) -> None:
    path = tmp_path / "y=far" / "y=near" / "x%20y=spaced" / "a.parquet"
    write(path, photo=[b"1"])
    assert [each.label for each in records(path, label="y")] == ["near"]
    assert [each.label for each in records(path, label="x y")] == ["spaced"]
    write(path, photo=[b"1"], y=["column"])
    assert [each.label for each in records(path, label="y")] == ["column"]


def test_hidden_files_of_a_folder_are_left_out(tmp_path: Path) -> None:
    shown = ["part-0.parquet", "_y=1/part-0.parquet", "sub/a.pq", "a_b.parquet"]
    hidden = [
        "_tmp.parquet",
        ".part.parquet",
        "_temporary/0/a.parquet",
        ".x/a.pq",
        "y=1/_a.parquet",
    ]
    for name in (*shown, *hidden):
        write(tmp_path / "data" / name, photo=[b"1"])
    (tmp_path / "data" / "_metadata").touch()
    (tmp_path / "data" / "_SUCCESS").touch()

    def found(*arguments: object) -> list[str]:
        shards = open_inputs(list(map(str, arguments)), None, None, 100).shards
        ids = [record.id.removesuffix("#0") for shard in shards for record in shard.read()]
        return sorted(os.path.relpath(each, tmp_path / "data") for each in ids)

    data = tmp_path / "data"
    assert found(data) == found(f"{data}/") == found(f"{data}/**/*.parquet", data) == sorted(shown)
    assert found(f"{data}/*.parquet") == ["a_b.parquet", "part-0.parquet"]
    assert found(f"{data}/_*.parquet") == ["_tmp.parquet"]
    assert found(data / "_tmp.parquet", data / ".part.parquet") == [".part.parquet", "_tmp.parquet"]
    assert found(data / "_temporary") == ["_temporary/0/a.parquet"]
    assert found(f"{data}/_temporary/*/a*") == ["_temporary/0/a.parquet"]
