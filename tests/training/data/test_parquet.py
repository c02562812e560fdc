"""Any Parquet of encoded images: how classes are found, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.choices import Dataset
from training.config import DataConfig
from training.data.images import EncodedSet
from training.data.parquet import ParquetFolder
from training.errors import DataError

WriteParquet = Callable[..., Path]


def folder(path: Path) -> ParquetFolder:
    return ParquetFolder(path, DataConfig(dataset=Dataset.PARQUET))


def greys(images: EncodedSet) -> list[int]:
    return [int(np.asarray(images.decode(row))[0, 0, 0]) for row in range(len(images))]


def metadata(names: list[str], column: str = "label") -> dict[bytes, bytes]:
    document = {"info": {"features": {column: {"names": names}}}}
    return {b"huggingface": json.dumps(document).encode()}


@pytest.mark.parametrize("names", [["a", "\ud800"], ["\ud83d", "\ude00"]])
def test_names_of_classes_that_are_no_unicode_are_refused(
    tmp_path: Path, write_parquet: WriteParquet, names: list[str]
) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1], metadata(names))
    with pytest.raises(DataError, match="names a class in its metadata that is no Unicode"):
        folder(tmp_path).train()


def test_rows_are_read_with_their_labels(tmp_path: Path, write_parquet: WriteParquet) -> None:
    write_parquet(tmp_path / "train.parquet", [1, 0, 1])
    train = folder(tmp_path).train()
    assert greys(train) == [0, 1, 2]
    assert train.labels.tolist() == [1, 0, 1]
    assert train.description == "the train split"


@pytest.mark.parametrize("image", ["img", "image"])
@pytest.mark.parametrize("label", ["label", "fine_label"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_columns_may_have_either_name_and_plain_bytes(
    tmp_path: Path, encode: Callable[..., bytes], image: str, label: str, kind: pa.DataType
) -> None:
    table = pa.table(
        {image: pa.array([encode(5), encode(6)], kind), label: [0, 1], "other": [1, 2]}
    )
    pq.write_table(table, tmp_path / "train.parquet")
    assert greys(folder(tmp_path).train()) == [5, 6]


def test_rows_of_many_row_groups_are_told_apart(
    tmp_path: Path, encode: Callable[..., bytes]
) -> None:
    table = pa.table({"image": [encode(grey) for grey in range(9)], "label": [0] * 9})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=2)
    assert greys(folder(tmp_path).train()) == list(range(9))


def test_names_come_from_the_listing_then_the_metadata_then_are_numbers(
    tmp_path: Path, write_parquet: WriteParquet
) -> None:
    file = tmp_path / "train.parquet"
    write_parquet(file, [0, 2, 1])
    assert folder(tmp_path).train().class_names == ("0", "1", "2")
    write_parquet(file, [0, 2, 1], metadata(["x", "y", "z"]))
    assert folder(tmp_path).train().class_names == ("x", "y", "z")
    (tmp_path / "classes.txt").write_text("a cat\na dog\na cow\na hen\n")
    assert folder(tmp_path).train().class_names == ("a cat", "a dog", "a cow", "a hen")


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"\xff", b'{"info": 3}', b"[" * 100_000, json.dumps({}).encode()]
)
def test_senseless_metadata_is_passed_over(
    tmp_path: Path, write_parquet: WriteParquet, value: bytes
) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1], {b"huggingface": value})
    assert folder(tmp_path).train().class_names == ("0", "1")


def test_the_number_of_classes_is_that_of_the_training_labels(
    tmp_path: Path, write_parquet: WriteParquet
) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1, 2])
    write_parquet(tmp_path / "test.parquet", [0, 1])
    write_parquet(tmp_path / "validation.parquet", [0, 3])
    assert len(folder(tmp_path).test().class_names) == 3
    with pytest.raises(DataError, match=r"validation\.parquet has labels from 0 to 3; .* to 2"):
        folder(tmp_path).calibration()


def test_labels_without_names_and_without_images_are_refused(
    tmp_path: Path, write_parquet: WriteParquet
) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 2**62])
    with pytest.raises(DataError, match=r"labels up to 4611686018427387904 and only 2 images"):
        folder(tmp_path).train()


def test_labels_beyond_the_names_are_refused(tmp_path: Path, write_parquet: WriteParquet) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1, 2], metadata(["x", "y"]))
    with pytest.raises(DataError, match="labels from 0 to 2; they must go from 0 to 1"):
        folder(tmp_path).train()


def test_negative_labels_are_refused(tmp_path: Path, write_parquet: WriteParquet) -> None:
    write_parquet(tmp_path / "train.parquet", [0, -1, 2])
    with pytest.raises(DataError, match="labels from -1 to 2; they must go from 0 up"):
        folder(tmp_path).train()


def test_a_validation_file_is_found(tmp_path: Path, write_parquet: WriteParquet) -> None:
    write_parquet(tmp_path / "train.parquet", [0, 1])
    assert not folder(tmp_path).has_calibration
    write_parquet(tmp_path / "validation.parquet", [1])
    assert folder(tmp_path).has_calibration
    assert folder(tmp_path).calibration().labels.tolist() == [1]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test\.parquet is missing"):
        folder(tmp_path).test()


def test_a_file_with_a_name_that_is_no_unicode_is_refused(
    tmp_path: Path, write_parquet: WriteParquet
) -> None:
    file = write_parquet(tmp_path / "train.parquet", [0, 1])
    file.write_bytes(file.read_bytes().replace(b"image", b"im\xd5ge"))
    with pytest.raises(DataError, match=r"train\.parquet is not a readable Parquet file"):
        folder(tmp_path).train()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 100])
def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet is not a readable Parquet file"):
        folder(tmp_path).train()


@pytest.mark.parametrize(("missing", "other"), [("image", "label"), ("label", "image")])
def test_a_missing_column_is_named(
    tmp_path: Path, write_parquet: WriteParquet, missing: str, other: str
) -> None:
    file = write_parquet(tmp_path / "train.parquet", [0, 1])
    pq.write_table(pq.read_table(file).drop_columns([missing]), file)
    with pytest.raises(DataError, match=f"no column .*'{missing}' .*; it has '{other}' .(int|str)"):
        folder(tmp_path).train()


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())], ids=str)
def test_bytes_however_arrow_keeps_them(
    tmp_path: Path, encode: Callable[..., bytes], kind: pa.DataType
) -> None:
    table = pa.table({"image": pa.array([encode(5), encode(6), encode(5)], kind), "label": [0] * 3})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=2)
    assert greys(folder(tmp_path).train()) == [5, 6, 5]


def test_the_only_column_of_images_is_found_by_what_it_holds(
    tmp_path: Path, encode: Callable[..., bytes]
) -> None:
    rows = [{"png": {"bytes": encode(grey), "path": None}} for grey in (3, 4)]
    samples = pa.array(rows, pa.struct([("png", IMAGE)]))
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"sample": samples, "label": [0, 0], "image": ["a", "b"]}), file)
    assert greys(folder(tmp_path).train()) == [3, 4]
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"], "label": [0]}), file)
    with pytest.raises(
        DataError, match=r"2 columns of .*: 'a' \(binary\), 'b' \(binary\); call the"
    ):
        folder(tmp_path).train()
    pq.write_table(pa.table({"image": [[b"1", b"2"]], "label": [0]}), file)
    with pytest.raises(DataError, match="column 'image' of .* holds lists of binary: one image"):
        folder(tmp_path).train()


def test_images_that_are_not_embedded_lie_below_the_folder(
    tmp_path: Path, write_image: Callable[..., Path], encode: Callable[..., bytes]
) -> None:
    """As `datasets` writes them."""
    write_image(tmp_path / "a" / "0.png", 7)
    rows = [
        {"bytes": None, "path": "a/0.png"},
        {"bytes": encode(8), "path": "/elsewhere/a.png"},
        {"bytes": None, "path": str(write_image(tmp_path / "b.png", 9))},
    ]
    table = pa.table({"image": pa.array(rows, IMAGE), "label": [0, 0, 0]})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=2)
    train = folder(tmp_path).train()
    assert greys(train) == [7, 8, 9]
    before = train.fingerprint()
    write_image(tmp_path / "b.png", 9, (40, 40))
    assert folder(tmp_path).train().fingerprint() != before
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png is missing or no file"):
        train.decode(2)


def test_a_column_of_paths_is_read(tmp_path: Path, write_image: Callable[..., Path]) -> None:
    paths = [str(write_image(tmp_path / f"{grey}.png", grey).name) for grey in (4, 2)]
    pq.write_table(pa.table({"image": paths, "label": [1, 0]}), tmp_path / "train.parquet")
    assert greys(folder(tmp_path).train()) == [4, 2]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/etc/passwd", "row 1: the path must stay below the data folder: '/etc/passwd'"),
        ("a/../../b.png", "row 1: the path must stay below the data folder"),
        ("a\0b", "row 1: the path must stay below the data folder"),
        ("a" * 5000, "row 1: a path of 5000 characters; at most 4096 are read"),
        (None, "row 1: it names no image"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(
    tmp_path: Path, path: str | None, problem: str
) -> None:
    (tmp_path / "a.png").touch()
    pq.write_table(
        pa.table({"image": ["a.png", path], "label": [0, 0]}), tmp_path / "train.parquet"
    )
    with pytest.raises(DataError, match=problem):
        folder(tmp_path).train()


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_labels_may_be_the_names_of_classes(
    tmp_path: Path, encode: Callable[..., bytes], kind: pa.DataType
) -> None:
    def write(split: str, names: list[str]) -> None:
        images = [encode(0)] * len(names)
        table = pa.table({"image": images, "label": pa.array(names, kind)})
        pq.write_table(table, tmp_path / f"{split}.parquet", row_group_size=2)

    write("train", ["10", "9", "owl 10", "10", "owl 9", "009"])
    write("test", ["owl 9", "9"])
    train = folder(tmp_path).train()
    assert train.class_names == ("009", "9", "10", "owl 9", "owl 10")
    assert train.labels.tolist() == [2, 1, 4, 2, 3, 0]
    assert folder(tmp_path).test().labels.tolist() == [3, 1]
    (tmp_path / "classes.txt").write_text("owl 10\n10\n9\n009\nowl 9\n")
    assert folder(tmp_path).train().labels.tolist() == [1, 2, 0, 1, 4, 3]
    (tmp_path / "classes.txt").write_text("10\n9\n10\n")
    with pytest.raises(DataError, match="names classes, and two of them have the same name"):
        folder(tmp_path).train()
    (tmp_path / "classes.txt").unlink()
    write("test", ["9", "wren"])
    with pytest.raises(DataError, match=r"test\.parquet, row 1: 'wren' is none of the 5 classes"):
        folder(tmp_path).test()


def test_names_that_are_no_unicode_are_refused(
    tmp_path: Path, encode: Callable[..., bytes]
) -> None:
    names = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    pq.write_table(pa.table({"image": [encode(0)], "label": names}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="'label' of .* holds names that are no Unicode"):
        folder(tmp_path).train()


def test_folders_above_are_no_columns(tmp_path: Path, write_parquet: WriteParquet) -> None:
    """Arrow's data sets would take them for Hive's partitions."""
    (tmp_path / "label=cat").mkdir()
    write_parquet(tmp_path / "label=cat" / "train.parquet", [1, 0])
    assert folder(tmp_path / "label=cat").train().labels.tolist() == [1, 0]
