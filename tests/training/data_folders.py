"""Data folders in every format, made of tiny images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from training.choices import Dataset

CIFAR = {Dataset.CIFAR10: 10, Dataset.CIFAR100: 100}
LISTED = {
    Dataset.IMAGENET_LT: "ImageNet_LT",
    Dataset.PLACES_LT: "Places_LT",
    Dataset.INATURALIST18: "iNaturalist18",
}
CLASSES = 4


def encode(grey: int, size: tuple[int, int] = (12, 10), kind: str = "PNG") -> bytes:
    """An image of one grey as a file's bytes."""
    file = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(file, kind)
    return file.getvalue()


def write_image(path: Path, grey: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    """Write such an image, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(grey, size))
    return path


def write_parquet(
    path: Path, labels: Sequence[int], metadata: dict[bytes, bytes] | None = None
) -> Path:
    """Write a Parquet file with an image for each label, whose grey is its row's number."""
    images = [{"bytes": encode(row), "path": None} for row in range(len(labels))]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, struct), "label": labels})
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def write_cifar(path: Path, labels: Sequence[int]) -> None:
    """Images whose first pixel is their row's number, so that they can be told apart."""
    encoded = []
    for row in range(len(labels)):
        pixels = np.zeros((32, 32, 3), dtype=np.uint8)
        pixels[0, 0] = (*divmod(row, 256), 0)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        encoded.append(file.getvalue())
    columns = {"img": encoded, "label": labels, "fine_label": labels}
    pq.write_table(pa.table(columns), path)


def write_folders(directory: Path, each: int) -> None:
    """A folder for each of four classes."""
    for label in range(CLASSES):
        for image in range(each):
            write_image(directory / str(label) / f"{image}.png", 20 * label + image)


def write_data(root: Path, dataset: Dataset, each: int) -> None:
    """A folder in the format of `dataset`: so many training images a class, and one to test on.

    There are no images for calibration besides lists of them.
    """
    if dataset in CIFAR:
        write_cifar(root / "train.parquet", list(range(CIFAR[dataset])) * each)
        write_cifar(root / "test.parquet", list(range(CIFAR[dataset])))
    elif dataset is Dataset.PARQUET:
        write_parquet(root / "train.parquet", list(range(CLASSES)) * each)
        write_parquet(root / "test.parquet", list(range(CLASSES)))
    elif dataset is Dataset.IMAGE_FOLDER:
        write_folders(root / "train", each)
        write_folders(root / "test", 1)
    else:
        _write_lists(root, dataset, each)


def _write_lists(root: Path, dataset: Dataset, each: int) -> None:
    write_folders(root, each + 2)
    second = "test" if dataset is not Dataset.INATURALIST18 else "unused"
    for split, images in (("train", range(each)), ("val", [each]), (second, [each + 1])):
        lines = [f"{label}/{image}.png {label}" for image in images for label in range(CLASSES)]
        (root / f"{LISTED[dataset]}_{split}.txt").write_text("\n".join(lines))
