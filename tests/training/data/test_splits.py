"""The three splits of every data set, and what calibration is made of."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from training.config import DataConfig, Dataset
from training.data import EncodedSet, Images, ImageSet, Split, read_split
from training.errors import ConfigError, DataError

WriteImage = Callable[..., Path]
WriteParquet = Callable[..., Path]
CIFAR = (Dataset.CIFAR10, Dataset.CIFAR100)
LISTED = {
    Dataset.IMAGENET_LT: "ImageNet_LT",
    Dataset.PLACES_LT: "Places_LT",
    Dataset.INATURALIST18: "iNaturalist18",
}
CLASSES = 4
EACH = 10


@pytest.fixture(params=list(Dataset))
def dataset(request: pytest.FixtureRequest) -> Dataset:
    chosen: Dataset = request.param
    return chosen


@pytest.fixture
def root(
    dataset: Dataset, tmp_path: Path, write_image: WriteImage, write_parquet: WriteParquet
) -> Path:
    """A folder in the format of `dataset`, with no images for calibration besides lists of them.

    Ten training images of four classes (of CIFAR's 10 or 100: eight), and a test image of each.
    """
    if dataset in CIFAR:
        classes = 10 if dataset is Dataset.CIFAR10 else 100
        write_cifar(tmp_path / "train.parquet", list(range(classes)) * 8)
        write_cifar(tmp_path / "test.parquet", list(range(classes)))
    elif dataset is Dataset.PARQUET:
        write_parquet(tmp_path / "train.parquet", list(range(CLASSES)) * EACH)
        write_parquet(tmp_path / "test.parquet", list(range(CLASSES)))
    elif dataset is Dataset.IMAGE_FOLDER:
        write_folders(tmp_path / "train", EACH, write_image)
        write_folders(tmp_path / "test", 1, write_image)
    else:
        write_folders(tmp_path, EACH + 2, write_image)
        second = "test" if dataset is not Dataset.INATURALIST18 else "unused"
        for split, images in (("train", range(EACH)), ("val", [EACH]), (second, [EACH + 1])):
            lines = [f"{label}/{image}.png {label}" for image in images for label in range(CLASSES)]
            (tmp_path / f"{LISTED[dataset]}_{split}.txt").write_text("\n".join(lines))
    return tmp_path


def write_folders(directory: Path, each: int, write_image: WriteImage) -> None:
    for label in range(CLASSES):
        for image in range(each):
            write_image(directory / str(label) / f"{image}.png", 20 * label + image)


def write_cifar(path: Path, labels: list[int]) -> None:
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


def identities(images: Images) -> set[bytes]:
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
    else:
        with pytest.raises(ConfigError, match=f"{dataset} is taken as it is"):
            read_split(root, settings, Split.TRAIN)


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
def test_validation_images_are_taken_before_a_holdout(
    root: Path, dataset: Dataset, write_image: WriteImage, write_parquet: WriteParquet
) -> None:
    write_folders(root / "val", 5, write_image)
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
