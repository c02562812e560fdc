"""Images and labels: readers, and the long-tailed subset.

CIFAR is small enough to live decoded in memory: one uint8 tensor, from which the loop takes and
augments whole batches.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from training.config import DataConfig, Dataset
from training.errors import ConfigError, DataError

CIFAR_SIZE = 32
_TORCHVISION = {Dataset.CIFAR10: CIFAR10, Dataset.CIFAR100: CIFAR100}
_LABEL_COLUMNS = {Dataset.CIFAR10: "label", Dataset.CIFAR100: "fine_label"}
_NUM_CLASSES = {Dataset.CIFAR10: 10, Dataset.CIFAR100: 100}


@dataclass(frozen=True)
class ImageSet:
    """Decoded images and their labels.

    Shapes: images uint8 [N, H, W, 3] (RGB), labels int64 [N], one name a class.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Images of each class, in class order."""
        counts = torch.bincount(self.labels, minlength=len(self.class_names))
        return tuple(int(count) for count in counts)

    def subset(self, rows: Tensor) -> ImageSet:
        """The images at `rows` (int64 [M]), in that order."""
        return ImageSet(self.images[rows], self.labels[rows], self.class_names)


def long_tailed_counts(largest: int, num_classes: int, imbalance_factor: float) -> list[int]:
    """Images of each class: n_k = int(n_max * IF^(-k/(C-1))) (Cui et al. 2019, section 5.1)."""
    exponents = (-k / (num_classes - 1) for k in range(num_classes))
    return [int(largest * imbalance_factor**exponent) for exponent in exponents]


def long_tailed_subset(full: ImageSet, config: DataConfig) -> ImageSet:
    """The long-tailed part of a balanced training split; the same for the same `subset_seed`.

    Raises:
        DataError: if the split has fewer images of some class than the subset wants.
        ConfigError: if the imbalance factor would leave a class without images.
    """
    if (factor := config.imbalance_factor) is None:
        return full
    largest = max(full.class_counts)
    if not 1 <= factor < math.inf:
        raise ConfigError(f"the imbalance factor must be a number from 1 on, not {factor:g}")
    wanted = long_tailed_counts(largest, len(full.class_names), factor)
    if min(wanted) < 1:
        raise ConfigError(
            f"an imbalance factor of {factor:g} leaves a class without images: "
            f"the largest class has {largest}"
        )
    generator = torch.Generator().manual_seed(config.subset_seed)
    chosen = []
    for label, count in enumerate(wanted):
        rows = torch.nonzero(full.labels == label).flatten()
        if len(rows) < count:
            raise DataError(
                f"class {full.class_names[label]!r} has {len(rows)} training images, "
                f"and the long-tailed subset wants {count}"
            )
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return full.subset(torch.cat(chosen).sort().values)


def read_split(directory: Path, dataset: Dataset, split: str) -> ImageSet:
    """Read the `train` or `test` split of a CIFAR set.

    Two layouts are known: `<split>.parquet` with encoded images in `img` (or `image`) and labels
    in `fine_label` (CIFAR-100) or `label` (CIFAR-10); and torchvision's extracted archive, whose
    files are checked against their published MD5 before they are opened.

    Raises:
        DataError: if neither layout is there, or the one that is there is damaged.
    """
    if not directory.is_dir():
        raise DataError(f"there is no data folder {directory}")
    parquet = directory / f"{split}.parquet"
    if parquet.is_file():
        return _read_parquet(parquet, dataset)
    reader = _TORCHVISION[dataset]
    if (directory / reader.base_folder).is_dir():
        return _read_torchvision(directory, dataset, split)
    raise DataError(
        f"{directory} holds neither {split}.parquet nor torchvision's folder {reader.base_folder}"
    )


def _read_torchvision(directory: Path, dataset: Dataset, split: str) -> ImageSet:
    reader = _TORCHVISION[dataset]
    _require_published_files(directory, reader)
    try:
        source = reader(str(directory), train=split == "train", download=False)
    except (RuntimeError, OSError) as error:
        raise DataError(f"torchvision can't read {dataset} in {directory}: {error}") from error
    return ImageSet(
        torch.from_numpy(np.ascontiguousarray(source.data)),
        torch.tensor(source.targets, dtype=torch.int64),
        tuple(source.classes),
    )


def _require_published_files(directory: Path, reader: type[CIFAR10]) -> None:
    """Name the file at fault, which torchvision's own check does not."""
    meta = (reader.meta["filename"], reader.meta["md5"])
    for name, md5 in (*reader.train_list, *reader.test_list, meta):
        path = directory / reader.base_folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing")
        if not check_integrity(path, md5):
            raise DataError(f"{path} is not the published file: its MD5 is not {md5}")


def _read_parquet(path: Path, dataset: Dataset) -> ImageSet:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    labels = _labels(table, _LABEL_COLUMNS[dataset], _NUM_CLASSES[dataset], path)
    encoded = _encoded_images(table, path)
    images = np.empty((len(encoded), CIFAR_SIZE, CIFAR_SIZE, 3), dtype=np.uint8)
    for row, data in enumerate(encoded):
        images[row] = _decode(data, f"{path}, row {row}")
    names = _class_names(path, table.schema, _LABEL_COLUMNS[dataset], _NUM_CLASSES[dataset])
    return ImageSet(torch.from_numpy(images), labels, names)


def _labels(table: pa.Table, column: str, num_classes: int, path: Path) -> Tensor:
    if column not in table.column_names:
        raise DataError(f"{path} has no column {column!r}; it has: {', '.join(table.column_names)}")
    values = table[column]
    if not pa.types.is_integer(values.type) or values.null_count:
        raise DataError(f"column {column!r} of {path} must hold whole numbers without gaps")
    labels = values.to_numpy().astype(np.int64)
    if len(labels) == 0:
        raise DataError(f"{path} has no rows")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"column {column!r} of {path} has labels from {labels.min()} to {labels.max()}; "
            f"they must lie between 0 and {num_classes - 1}"
        )
    return torch.from_numpy(labels)


def _encoded_images(table: pa.Table, path: Path) -> list[bytes]:
    column = next((name for name in ("img", "image") if name in table.column_names), None)
    if column is None:
        raise DataError(
            f"{path} has no column 'img' or 'image'; it has: {', '.join(table.column_names)}"
        )
    values = table[column].combine_chunks()
    if isinstance(values, pa.StructArray) and values.type.get_field_index("bytes") >= 0:
        values = values.field("bytes")
    if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
        raise DataError(f"column {column!r} of {path} holds {values.type}, not encoded images")
    return [data or b"" for data in values.to_pylist()]


def _decode(data: bytes, where: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.size != (CIFAR_SIZE, CIFAR_SIZE):
                raise DataError(f"{where}: the image is {image.size}, not 32 by 32 pixels")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: not a readable PNG or JPEG image") from error


def _class_names(path: Path, schema: pa.Schema, column: str, num_classes: int) -> tuple[str, ...]:
    """From `classes.txt` beside the file, else from Hugging Face's metadata, else numbers."""
    listing = path.parent / "classes.txt"
    if listing.is_file():
        try:
            names = listing.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{listing} is not readable as UTF-8 text: {error}") from error
        if len(names) != num_classes:
            raise DataError(f"{listing} names {len(names)} classes, not {num_classes}")
        return tuple(names)
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = [str(name) for name in features[column]["names"]]
    except (KeyError, TypeError, ValueError):
        names = []
    if len(names) == num_classes:
        return tuple(names)
    return tuple(str(label) for label in range(num_classes))
