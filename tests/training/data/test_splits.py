"""The three splits of every data set, and what calibration is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.data_folders import (
    CIFAR,
    CLASSES,
    LISTED,
    write_cifar,
    write_data,
    write_folders,
    write_parquet,
)
from training.choices import Dataset
from training.config import DataConfig
from training.data import EncodedSet, ImageSet, LabelledImages, Split, read_split
from training.errors import ConfigError, DataError

EACH = 10


@pytest.fixture(params=list(Dataset))
def dataset(request: pytest.FixtureRequest) -> Dataset:
    chosen: Dataset = request.param
    return chosen


@pytest.fixture
def root(dataset: Dataset, tmp_path: Path) -> Path:
    """A folder in the format of `dataset`: ten training images a class (of CIFAR eight)."""
    write_data(tmp_path, dataset, 8 if dataset in CIFAR else EACH)
    return tmp_path


def identities(images: LabelledImages) -> set[bytes]:
    """What tells the images of one split of a folder apart."""
    if isinstance(images, ImageSet):
        return {image[0, 0].numpy().tobytes() for image in images.images}
    assert isinstance(images, EncodedSet)
    return {images.source.name(index).encode() for index in images.rows.tolist()}


def config(dataset: Dataset, holdout: float = 0.0, factor: float | None = None) -> DataConfig:
    return DataConfig(dataset=dataset, imbalance_factor=factor, holdout=holdout)


def test_training_and_test_split_are_read(root: Path, dataset: Dataset) -> None:
    train = read_split(root, config(dataset), Split.TRAIN)
    test = read_split(root, config(dataset), Split.TEST)
    assert len(set(train.class_counts)) == 1
    assert set(test.class_counts) == {1}
    assert train.class_names == test.class_names
    assert train.description != test.description


def test_calibration_has_no_image_of_the_training_split(root: Path, dataset: Dataset) -> None:
    settings = config(dataset, holdout=0.3)
    train = read_split(root, settings, Split.TRAIN)
    calibration = read_split(root, settings, Split.CALIBRATION)
    assert len(identities(train)) == len(train)
    assert len(identities(calibration)) == len(calibration)
    assert identities(train).isdisjoint(identities(calibration))
    assert set(calibration.class_counts) <= {1, 2, 3}


def test_what_is_held_out_and_what_is_trained_on_is_the_whole(root: Path, dataset: Dataset) -> None:
    if dataset in (Dataset.IMAGENET_LT, Dataset.PLACES_LT):
        pytest.skip("it has a list of its own for calibration")
    whole = read_split(root, config(dataset), Split.TRAIN)
    train = read_split(root, config(dataset, holdout=0.3), Split.TRAIN)
    calibration = read_split(root, config(dataset, holdout=0.3), Split.CALIBRATION)
    assert identities(train) | identities(calibration) == identities(whole)
    assert calibration.description == (
        "30 % of each class of the training split, kept out of training"
    )


def test_without_a_holdout_there_is_nothing_to_calibrate_on(root: Path, dataset: Dataset) -> None:
    if dataset in (Dataset.IMAGENET_LT, Dataset.PLACES_LT):
        calibration = read_split(root, config(dataset), Split.CALIBRATION)
        assert calibration.class_counts == (1,) * CLASSES
        assert calibration.description == f"the list {LISTED[dataset]}_val.txt"
    else:
        with pytest.raises(ConfigError, match=f"{dataset} has no images to choose .* a holdout"):
            read_split(root, config(dataset), Split.CALIBRATION)


def test_an_imbalance_factor_is_for_cifar_only(root: Path, dataset: Dataset) -> None:
    settings = config(dataset, factor=4.0)
    if dataset in CIFAR:
        assert min(read_split(root, settings, Split.TRAIN).class_counts) == 2


@pytest.mark.parametrize("dataset", CIFAR)
def test_long_tailed_cifar_is_calibrated_on_what_the_subset_leaves_out(
    root: Path, dataset: Dataset
) -> None:
    settings = config(dataset, factor=4.0, holdout=0.3)
    whole = read_split(root, config(dataset), Split.TRAIN)
    train = read_split(root, settings, Split.TRAIN)
    calibration = read_split(root, settings, Split.CALIBRATION)
    assert identities(train).isdisjoint(identities(calibration))
    assert identities(train) | identities(calibration) == identities(whole)
    assert "the long-tailed subset left out" in calibration.description


@pytest.mark.parametrize("dataset", [Dataset.CIFAR10])
def test_a_factor_of_one_leaves_nothing_out_and_so_asks_for_a_holdout(
    root: Path, dataset: Dataset
) -> None:
    with pytest.raises(ConfigError, match="set a holdout"):
        read_split(root, config(dataset, factor=1.0), Split.CALIBRATION)
    calibration = read_split(root, config(dataset, 0.3, factor=1.0), Split.CALIBRATION)
    assert calibration.class_counts == (2,) * 10


@pytest.mark.parametrize("dataset", [Dataset.PARQUET, Dataset.IMAGE_FOLDER])
def test_validation_images_are_taken_before_a_holdout(root: Path, dataset: Dataset) -> None:
    write_folders(root / "val", 5)
    write_parquet(root / "validation.parquet", list(range(CLASSES)) * 5)
    settings = config(dataset, holdout=0.3)
    assert read_split(root, settings, Split.CALIBRATION).class_counts == (5,) * CLASSES
    assert read_split(root, settings, Split.TRAIN).class_counts == (EACH,) * CLASSES


@pytest.mark.parametrize("dataset", [Dataset.IMAGE_FOLDER])
def test_training_classes_without_images_are_named(root: Path, dataset: Dataset) -> None:
    for label in ("1", "3"):
        for image in (root / "train" / label).iterdir():
            image.unlink()
    with pytest.raises(DataError, match=r"no training images for 2 of 4 classes: 1, 3$"):
        read_split(root, config(dataset), Split.TRAIN)


@pytest.mark.parametrize("dataset", [Dataset.CIFAR10])
def test_of_many_empty_classes_the_first_are_named(root: Path, dataset: Dataset) -> None:
    write_cifar(root / "train.parquet", [9])
    with pytest.raises(DataError, match=r"for 9 of 10 classes: 0, 1, 2, 3, 4 and 4 more$"):
        read_split(root, config(dataset), Split.TRAIN)


@pytest.mark.parametrize("dataset", [Dataset.IMAGE_FOLDER])
def test_an_empty_split_is_refused(root: Path, dataset: Dataset) -> None:
    for label in range(CLASSES):
        (root / "test" / str(label) / "0.png").unlink()
    with pytest.raises(DataError, match="has no images for its test split"):
        read_split(root, config(dataset), Split.TEST)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no data folder .*nowhere"):
        read_split(tmp_path / "nowhere", DataConfig(), Split.TRAIN)


@pytest.mark.parametrize("dataset", [Dataset.PARQUET])
def test_a_split_is_the_same_every_time(root: Path, dataset: Dataset) -> None:
    settings = config(dataset, holdout=0.3)
    first, again = (read_split(root, settings, Split.TRAIN) for _ in range(2))
    assert first.fingerprint() == again.fingerprint()
    assert torch.equal(first.labels, again.labels)
