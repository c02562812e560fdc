"""Decoded and encoded images behave alike: subsets, counts, fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from training.data.images import EncodedSet, ImageSet, LabelledImages
from training.data.sources import MAX_FILE_BYTES, Files, ParquetColumn
from training.errors import DataError

LABELS = torch.tensor([2, 0, 2, 1])
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def decoded() -> ImageSet:
    pixels = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 10, 12, 3)
    return ImageSet(pixels, LABELS, NAMES)


@pytest.fixture
def files(tmp_path: Path, write_image: Callable[..., Path]) -> EncodedSet:
    for grey in range(4):
        write_image(tmp_path / f"{grey}.png", grey)
    source = Files(tmp_path, tuple(f"{grey}.png" for grey in range(4)))
    return EncodedSet(source, torch.arange(4), LABELS, NAMES)


@pytest.fixture
def column(encode: Callable[..., bytes]) -> EncodedSet:
    values = pa.chunked_array([[encode(0), encode(1)], [encode(2), encode(3)]])
    return EncodedSet(ParquetColumn(Path("x.parquet"), values), torch.arange(4), LABELS, NAMES)


@pytest.fixture(params=["decoded", "files", "column"])
def images(request: pytest.FixtureRequest) -> LabelledImages:
    chosen: LabelledImages = request.getfixturevalue(request.param)
    return chosen


def grey(images: LabelledImages, row: int) -> int:
    if isinstance(images, EncodedSet):
        return int(np.asarray(images.decode(row))[0, 0, 0])
    assert isinstance(images, ImageSet)
    return int(images.images[row, 0, 0, 0])


def test_classes_are_counted_also_empty_ones(images: LabelledImages) -> None:
    assert images.class_counts == (1, 1, 2, 0)
    assert len(images) == 4


def test_a_subset_has_the_images_at_the_rows_in_their_order(images: LabelledImages) -> None:
    twice = images.subset(torch.tensor([3, 1, 0])).subset(torch.tensor([2, 0, 0]))
    assert [grey(twice, row) for row in range(3)] == [0, 3, 3]
    assert twice.labels.tolist() == [2, 1, 1]
    assert twice.class_names == NAMES


def test_a_description_stays_with_its_subsets(images: LabelledImages) -> None:
    described = images.described("the test split")
    assert described.subset(torch.tensor([0])).description == "the test split"
    assert described.fingerprint() == images.fingerprint()


def test_the_same_images_have_the_same_fingerprint(images: LabelledImages) -> None:
    again = images.subset(torch.arange(4))
    assert images.fingerprint() == again.fingerprint()
    assert len(images.fingerprint()) == 64


def test_other_images_labels_or_names_change_the_fingerprint(images: LabelledImages) -> None:
    assert isinstance(images, ImageSet | EncodedSet)
    others = [
        images.subset(torch.tensor([2, 1, 0, 3])),  # the same labels
        images.subset(torch.tensor([0, 1, 2])),
        replace(images, labels=torch.tensor([2, 0, 2, 0])),
        replace(images, class_names=("a", "b", "c", "e")),
    ]
    assert len({images.fingerprint(), *(other.fingerprint() for other in others)}) == 5


def test_a_changed_pixel_changes_the_fingerprint(decoded: ImageSet) -> None:
    before, pixels = decoded.fingerprint(), decoded.images.clone()
    pixels[3, 9, 11, 2] += 1
    assert replace(decoded, images=pixels).fingerprint() != before


def test_a_file_of_another_size_changes_the_fingerprint(files: EncodedSet, tmp_path: Path) -> None:
    before = files.fingerprint()
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes() + b"\0")
    grown = files.fingerprint()
    (tmp_path / "3.png").unlink()
    assert len({before, grown, files.fingerprint()}) == 3


def test_a_moved_folder_keeps_the_fingerprint(
    files: EncodedSet, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    for number in range(4):
        write_image(tmp_path / "moved" / f"{number}.png", number)
    source = files.source
    assert isinstance(source, Files)
    moved = replace(files, source=replace(source, root=tmp_path / "moved"))
    assert moved.fingerprint() == files.fingerprint()


def test_a_missing_file_is_named(files: EncodedSet, tmp_path: Path) -> None:
    (tmp_path / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png is missing"):
        files.decode(2)


def test_a_folder_in_place_of_a_file_is_named(files: EncodedSet, tmp_path: Path) -> None:
    (tmp_path / "2.png").unlink()
    (tmp_path / "2.png").mkdir()
    with pytest.raises(DataError, match=r"2\.png is missing or no file"):
        files.decode(2)


def test_a_file_that_is_far_too_large_is_refused(files: EncodedSet, tmp_path: Path) -> None:
    with (tmp_path / "1.png").open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(DataError, match=r"1\.png has more than 67108864 bytes"):
        files.decode(1)


def test_a_link_is_followed(files: EncodedSet, tmp_path: Path) -> None:
    (tmp_path / "1.png").unlink()
    (tmp_path / "1.png").symlink_to(tmp_path / "3.png")
    assert grey(files, 1) == 3


def test_a_row_without_an_image_is_named(column: EncodedSet) -> None:
    values = pa.chunked_array([[b"damaged", None]])
    damaged = replace(column, source=ParquetColumn(Path("x.parquet"), values))
    for row, problem in enumerate(("the bytes are text", "the image is empty")):
        with pytest.raises(DataError, match=rf"x\.parquet, row {row}: {problem}"):
            damaged.decode(row)
