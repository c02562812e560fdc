"""The three splits of a data set, whatever it is: training, calibration, test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import torch

from training.choices import Dataset
from training.config import DataConfig
from training.data.cifar import CifarFolder
from training.data.class_folders import ClassFolders
from training.data.class_names import require_order
from training.data.holdout import split_holdout
from training.data.image_lists import ImageLists
from training.data.images import LabelledImages
from training.data.parquet import ParquetFolder
from training.errors import ConfigError, DataError

_NAMED = 5
_LIST_THEM = ": name them in the run's order in {}/classes.txt, a name a line"


class Split(StrEnum):
    """What images are for. Thresholds are chosen on `CALIBRATION`, results are those of `TEST`."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    TEST = "test"


class DataFolder(Protocol):
    """A folder in the format of one data set."""

    @property
    def has_calibration(self) -> bool:
        """Whether there are images that are neither for training nor for testing."""

    def train(self) -> LabelledImages:
        """The training split."""

    def calibration(self) -> LabelledImages:
        """The images that are neither; only where there are some."""

    def test(self) -> LabelledImages:
        """The test split."""


_READERS: dict[Dataset, Callable[[Path, DataConfig], DataFolder]] = {
    Dataset.CIFAR10: CifarFolder,
    Dataset.CIFAR100: CifarFolder,
    Dataset.IMAGENET_LT: ImageLists,
    Dataset.PLACES_LT: ImageLists,
    Dataset.INATURALIST18: ImageLists,
    Dataset.IMAGE_FOLDER: ClassFolders,
    Dataset.PARQUET: ParquetFolder,
}


def read_split(
    directory: Path, config: DataConfig, split: Split, classes: Sequence[str] = ()
) -> LabelledImages:
    """Read one split of the data set in `directory`; its `description` says where it comes from.

    `TRAIN` is the training split (long-tailed, where the configuration asks for it) without the
    images that are held out. `CALIBRATION` is neither training nor test data, and is

    * for CIFAR with an imbalance factor, what the long-tailed subset leaves out (`left_over`),
    * for ImageNet-LT and Places-LT, their validation list,
    * for class folders `val`, for Parquet `validation`, where they are there besides a test split,
    * otherwise the share `config.holdout` of each class of the training split (`split_holdout`).

    `classes` are those of the run that the images are for, in its order, once there is one.

    Raises:
        DataError: if the folder is not what the data set's reader expects, the split has no
            images, a class has none to train on, or the run knows classes by other numbers.
        ConfigError: if a setting makes no sense, or there is nothing to calibrate on.
    """
    if not directory.is_dir():
        raise DataError(f"there is no data folder {directory}")
    folder = _READERS[config.dataset](directory, config)
    images = folder.test() if split is Split.TEST else _read_for_training(folder, config, split)
    if len(images) == 0:
        raise DataError(f"{directory} has no images for its {split} split")
    advice = _LIST_THEM.format(directory) if config.dataset is Dataset.IMAGE_FOLDER else ""
    require_order(images.class_names, classes, str(directory), advice)
    if split is Split.TRAIN:
        _require_every_class(images, directory)
    return images


def _read_for_training(folder: DataFolder, config: DataConfig, split: Split) -> LabelledImages:
    if folder.has_calibration:
        return folder.train() if split is Split.TRAIN else folder.calibration()
    if split is Split.CALIBRATION and config.holdout == 0:
        raise ConfigError(
            f"{config.dataset} has no images to choose thresholds on: set a holdout, the share of "
            "each class that is kept out of training for it (0.1, say), and train anew"
        )
    train = folder.train()
    kept, held = split_holdout(train.labels, config)
    if split is Split.TRAIN:
        return train.subset(kept)
    return train.subset(held).described(
        f"{100 * config.holdout:g} % of each class of the training split, kept out of training"
    )


def _require_every_class(images: LabelledImages, directory: Path) -> None:
    counts = torch.tensor(images.class_counts)
    empty = [images.class_names[label] for label in torch.nonzero(counts == 0).flatten()]
    if empty:
        more = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
        raise DataError(
            f"{directory} has no training images for {len(empty)} of {len(counts)} classes: "
            f"{', '.join(empty[:_NAMED])}{more}"
        )
