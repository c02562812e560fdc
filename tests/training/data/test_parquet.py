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
    with pytest.raises(DataError, match=f"no column '.*{missing}'; it has: {other}"):
        folder(tmp_path).train()


def test_a_column_of_paths_is_no_column_of_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png"], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="'image'.*string, not encoded images"):
        folder(tmp_path).train()
