"""CIFAR: what is read, and what is said of a damaged folder."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10

from training.choices import Dataset
from training.data import ImageSet
from training.data.cifar import read_cifar
from training.errors import DataError

Coloured = Callable[[Tensor, int], Tensor]
PngColumn = Callable[[Tensor], pa.StructArray]
LABELS = torch.tensor([3, 0, 7, 3])


@pytest.fixture
def images(coloured: Coloured) -> Tensor:
    return coloured(LABELS, 32)


@pytest.fixture
def columns(images: Tensor, png_column: PngColumn) -> dict[str, object]:
    """Four rows of CIFAR-100 as it is published in Parquet."""
    return {"img": png_column(images), "fine_label": LABELS.numpy()}


def write(folder: Path, columns: dict[str, object], metadata: bytes | None = None) -> Path:
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, folder / "train.parquet")
    return folder


def read(folder: Path) -> ImageSet:
    return read_cifar(folder, Dataset.CIFAR100, "train")


def test_parquet_gives_back_what_was_written(
    tmp_path: Path, columns: dict[str, object], images: Tensor
) -> None:
    data = read(write(tmp_path, columns))
    assert torch.equal(data.images, images)
    assert data.images.dtype == torch.uint8
    assert data.labels.tolist() == LABELS.tolist()
    assert len(data) == 4
    assert (data.class_counts[3], sum(data.class_counts)) == (2, 4)


def test_the_folder_of_the_other_tests_is_read(cifar10_folder: Path) -> None:
    train = read_cifar(cifar10_folder, Dataset.CIFAR10, "train")
    test = read_cifar(cifar10_folder, Dataset.CIFAR10, "test")
    assert train.class_counts == (8,) * 10
    assert test.class_counts == (3,) * 10
    assert train.class_names[:2] == ("airplane", "automobile")


def test_plain_bytes_in_a_column_named_image_are_read(
    tmp_path: Path, columns: dict[str, object], images: Tensor
) -> None:
    encoded = columns["img"]
    assert isinstance(encoded, pa.StructArray)
    data = read(write(tmp_path, {"image": encoded.field("bytes"), "fine_label": LABELS.numpy()}))
    assert torch.equal(data.images, images)


def test_grey_images_become_rgb(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (32, 32), 77).save(file, "PNG")
    data = read(write(tmp_path, {"img": [file.getvalue()], "fine_label": [0]}))
    assert data.images.shape == (1, 32, 32, 3)
    assert (data.images == 77).all()


def names_of(folder: Path) -> tuple[str, ...]:
    return read(folder).class_names


def test_class_names_come_from_the_listing_first(
    tmp_path: Path, columns: dict[str, object]
) -> None:
    listed = [f"listed_{k}" for k in range(100)]
    embedded = [f"embedded {k}" for k in range(100)]
    metadata = json.dumps({"info": {"features": {"fine_label": {"names": embedded}}}}).encode()
    write(tmp_path, columns, metadata)
    assert names_of(tmp_path) == tuple(embedded)
    (tmp_path / "classes.txt").write_text("\n".join(listed))
    assert names_of(tmp_path) == tuple(listed)


@pytest.mark.parametrize("metadata", [None, b"", b"[]", b"\xff", b'{"info": 3}'])
def test_without_any_names_classes_are_numbered(
    tmp_path: Path, columns: dict[str, object], metadata: bytes | None
) -> None:
    assert names_of(write(tmp_path, columns, metadata)) == tuple(str(k) for k in range(100))


@pytest.mark.parametrize(
    ("listing", "problem"),
    [(b"apple\nbear\n", "names 2 classes, and cifar100 has 100"), (b"\xff", "UTF-8")],
)
def test_a_wrong_listing_of_classes_is_refused(
    tmp_path: Path, columns: dict[str, object], listing: bytes, problem: str
) -> None:
    write(tmp_path, columns)
    (tmp_path / "classes.txt").write_bytes(listing)
    assert_refused(tmp_path, "", problem)


def assert_refused(folder: Path, name: str, problem: str) -> None:
    """The message names the file (or its row) and the problem."""
    with pytest.raises(DataError, match=problem) as caught:
        read(folder)
    assert str(folder / name) in str(caught.value)


def test_a_folder_without_either_layout_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, "", "neither train.parquet nor torchvision's folder cifar-100-python")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet" * 100, b"PAR1" * 100])
def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    assert_refused(tmp_path, "train.parquet", "not a readable Parquet file")


def test_a_truncated_parquet_file_is_refused(tmp_path: Path, columns: dict[str, object]) -> None:
    file = write(tmp_path, columns) / "train.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    assert_refused(tmp_path, "train.parquet", "not a readable Parquet file")


@pytest.mark.parametrize("missing", ["img", "fine_label"])
def test_a_missing_column_is_named(
    tmp_path: Path, columns: dict[str, object], missing: str
) -> None:
    del columns[missing]
    columns["other"] = ["?"] * 4
    assert_refused(write(tmp_path, columns), "train.parquet", f"no column .*'{missing}'.*other")


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([0, 1, 2, 100], "from 0 to 100; they must go from 0 to 99"),
        ([0, 1, -1, 2], "from -1 to 2"),
        ([0, 1, None, 2], "'fine_label' of .* has 1 rows without a label"),
        ([0.0, 1.0, 2.0, 3.0], "'fine_label' of .* holds double: labels are whole numbers or"),
        (["0", "1", "owl", "3"], "row 2: 'owl' is none of the 100 classes"),
        ([None] * 4, "'fine_label' of .* holds null: labels are whole numbers or names"),
        (pa.array([0, 1, 2, 2**64 - 1], pa.uint64()), "they must go from 0 to 99"),
    ],
)
def test_wrong_labels_are_refused(
    tmp_path: Path, columns: dict[str, object], labels: object, problem: str
) -> None:
    write(tmp_path, {**columns, "fine_label": labels})
    assert_refused(tmp_path, "train.parquet", problem)


def test_a_file_without_rows_is_refused(tmp_path: Path, columns: dict[str, object]) -> None:
    pq.write_table(pa.table(columns)[:0], tmp_path / "train.parquet")
    assert_refused(tmp_path, "train.parquet", "no rows")


def test_a_column_that_holds_no_images_is_refused(
    tmp_path: Path, columns: dict[str, object]
) -> None:
    write(tmp_path, {**columns, "img": ["a.png"] * 4})
    assert_refused(tmp_path, "a.png", "is missing or no file")


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def huge_png() -> bytes:
    """A few bytes that claim to be four thousand million pixels."""
    header = struct.pack(">IIBBBBB", 65_000, 65_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


@pytest.mark.parametrize("data", [None, b"", b"not an image", b"\x89PNG\r\n\x1a\n", huge_png()])
def test_an_undecodable_image_is_named_by_its_row(
    tmp_path: Path, columns: dict[str, object], data: bytes | None
) -> None:
    encoded = columns["img"]
    assert isinstance(encoded, pa.StructArray)
    rows = encoded.field("bytes").to_pylist()
    write(tmp_path, {**columns, "img": [*rows[:2], data, *rows[3:]]})
    assert_refused(tmp_path, "train.parquet", "row 2: the ")


def test_an_image_of_another_size_is_refused(
    tmp_path: Path, columns: dict[str, object], coloured: Coloured, png_column: PngColumn
) -> None:
    write(tmp_path, {**columns, "img": png_column(coloured(LABELS, 16))})
    assert_refused(tmp_path, "train.parquet", r"row 0: the image is \(16, 16\), not 32 by 32")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coloured: Coloured) -> Path:
    """CIFAR-10 as torchvision extracts it, with checksums of these files as the published ones."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rows = coloured(LABELS, 32).permute(0, 3, 1, 2).reshape(len(LABELS), -1).numpy()
    names = [f"name_{k}" for k in range(10)]
    contents = {
        "data_batch_1": {"data": rows, "labels": LABELS.tolist()},
        "test_batch": {"data": rows[:1], "labels": [3]},
        "batches.meta": {"label_names": names},
    }
    checksums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        checksums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    meta = {"filename": "batches.meta", "key": "label_names", "md5": checksums["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", checksums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", checksums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return tmp_path


def test_torchvisions_archive_is_read(archive: Path, images: Tensor) -> None:
    train = read_cifar(archive, Dataset.CIFAR10, "train")
    assert torch.equal(train.images, images)
    assert train.labels.tolist() == LABELS.tolist()
    assert train.class_names == tuple(f"name_{k}" for k in range(10))
    assert len(read_cifar(archive, Dataset.CIFAR10, "test")) == 1


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_tampered_archive_is_refused_and_not_unpickled(archive: Path, name: str) -> None:
    file = archive / "cifar-10-batches-py" / name
    trap = archive / "unpickled"
    file.write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(DataError, match=f"{re.escape(str(file))} is not the published file"):
        read_cifar(archive, Dataset.CIFAR10, "train")
    assert not trap.exists()


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_an_incomplete_archive_is_refused(archive: Path, name: str) -> None:
    file = archive / "cifar-10-batches-py" / name
    file.unlink()
    with pytest.raises(DataError, match=f"{re.escape(str(file))} is missing"):
        read_cifar(archive, Dataset.CIFAR10, "train")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)
