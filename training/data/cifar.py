"""CIFAR, which is small enough to live decoded in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from training.choices import Dataset
from training.config import DataConfig
from training.data.class_names import numbered
from training.data.decoding import decode_image
from training.data.images import ImageSet
from training.data.long_tail import MOST_LEFT_OVER, left_over, long_tailed_subset
from training.data.parquet import ParquetFile, class_names
from training.errors import DataError

CIFAR_SIZE = 32
_TORCHVISION = {Dataset.CIFAR10: CIFAR10, Dataset.CIFAR100: CIFAR100}
_LABEL_COLUMNS = {Dataset.CIFAR10: "label", Dataset.CIFAR100: "fine_label"}
_NUM_CLASSES = {Dataset.CIFAR10: 10, Dataset.CIFAR100: 100}


class CifarFolder:
    """CIFAR-10 or CIFAR-100 at any imbalance factor.

    Two layouts are known: `train.parquet` and `test.parquet` with encoded images in `img` (or
    `image`) and labels in `fine_label` (CIFAR-100) or `label` (CIFAR-10); and torchvision's
    extracted archive, whose files are checked against their published MD5 before they are opened.
    """

    def __init__(self, directory: Path, config: DataConfig) -> None:
        self._directory = directory
        self._config = config

    @property
    def has_calibration(self) -> bool:
        """Whether the long-tailed subset leaves images out."""
        factor = self._config.imbalance_factor
        return factor is not None and factor > 1

    def train(self) -> ImageSet:
        """The published training split, or its long-tailed part."""
        full = read_cifar(self._directory, self._config.dataset, "train")
        return long_tailed_subset(full, self._config)

    def calibration(self) -> ImageSet:
        """What the long-tailed part leaves out."""
        full = read_cifar(self._directory, self._config.dataset, "train")
        return left_over(full, self._config).described(
            "images of the training split that the long-tailed subset left out, "
            f"at most {MOST_LEFT_OVER} a class"
        )

    def test(self) -> ImageSet:
        """The published test split."""
        return read_cifar(self._directory, self._config.dataset, "test")


def read_cifar(directory: Path, dataset: Dataset, split: str) -> ImageSet:
    """Read the published `train` or `test` split from either layout.

    Raises:
        DataError: if neither layout is there, or the one that is there is damaged.
    """
    parquet = directory / f"{split}.parquet"
    if parquet.is_file():
        return _read_parquet(parquet, dataset).described(f"the {split} split")
    reader = _TORCHVISION[dataset]
    if (directory / reader.base_folder).is_dir():
        return _read_torchvision(directory, dataset, split).described(f"the {split} split")
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
    file = ParquetFile(path, (_LABEL_COLUMNS[dataset],))
    names = class_names(path.parent, file) or numbered(_NUM_CLASSES[dataset])
    if len(names) != _NUM_CLASSES[dataset]:
        raise DataError(
            f"{path.parent} names {len(names)} classes, and {dataset} has {_NUM_CLASSES[dataset]}"
        )
    labels, encoded = file.labels(names), file.images()
    images = np.empty((len(labels), CIFAR_SIZE, CIFAR_SIZE, 3), dtype=np.uint8)
    for row in range(len(labels)):
        image = decode_image(encoded.read(row), encoded.name(row))
        if image.size != (CIFAR_SIZE, CIFAR_SIZE):
            raise DataError(f"{encoded.name(row)}: the image is {image.size}, not 32 by 32 pixels")
        images[row] = np.asarray(image)
    return ImageSet(torch.from_numpy(images), labels, names)
