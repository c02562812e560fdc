"""Images sorted into a folder for each class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.choices import Dataset
from training.config import DataConfig
from training.data.class_folders import ClassFolders
from training.data.images import EncodedSet
from training.data.splits import Split, read_split
from training.errors import DataError

WriteImage = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path, write_image: WriteImage) -> Path:
    """Grey 10 * class + image; `test` lacks a class."""
    for label, name in enumerate(("ant", "bee", "cat")):
        for image in range(label + 1):
            write_image(tmp_path / "train" / name / f"{image}.png", 10 * label + image)
    write_image(tmp_path / "test" / "bee" / "0.png", 77)
    return tmp_path


def folder(root: Path) -> ClassFolders:
    return ClassFolders(root, DataConfig(dataset=Dataset.IMAGE_FOLDER))


def greys(images: EncodedSet) -> list[int]:
    return [int(np.asarray(images.decode(row))[0, 0, 0]) for row in range(len(images))]


def test_folders_are_classes_in_the_order_of_their_names(root: Path) -> None:
    train = folder(root).train()
    assert train.class_names == ("ant", "bee", "cat")
    assert train.class_counts == (1, 2, 3)
    assert greys(train) == [0, 10, 11, 20, 21, 22]


def test_endings_and_formats_are_those_that_were_chosen(root: Path) -> None:
    for name, kind in (("4.bmp", "BMP"), ("5.TIFF", "TIFF"), ("6.avif", "AVIF")):
        Image.new("RGB", (8, 8), (99, 99, 99)).save(root / "train" / "ant" / name, kind)
    assert folder(root).train().class_counts == (2, 2, 3)
    chosen = DataConfig(dataset=Dataset.IMAGE_FOLDER, formats=("png", "bmp", "tiff"))
    train = ClassFolders(root, chosen).train()
    assert train.class_counts == (3, 2, 3)
    assert greys(train)[:3] == [0, 99, 99]
    assert greys(train.subset(torch.tensor([2, 1]))) == [99, 99]


def test_an_ending_says_nothing_of_a_format(root: Path) -> None:
    Image.new("RGB", (8, 8)).save(root / "train" / "ant" / "0.png", "BMP")
    with pytest.raises(DataError, match=r"0\.png: the bytes are a BMP image, which is not accept"):
        folder(root).train().decode(0)


def test_a_class_without_test_images_keeps_its_place(root: Path) -> None:
    test = folder(root).test()
    assert test.class_counts == (0, 1, 0)
    assert greys(test) == [77]


def test_val_is_for_calibration_only_where_there_is_a_test_folder(
    root: Path, write_image: WriteImage
) -> None:
    assert not folder(root).has_calibration
    write_image(root / "val" / "ant" / "0.png", 55)
    assert folder(root).has_calibration
    assert greys(folder(root).calibration()) == [55]
    assert greys(folder(root).test()) == [77]
    (root / "test").rename(root / "elsewhere")
    assert not folder(root).has_calibration
    assert greys(folder(root).test()) == [55]


def test_other_and_hidden_files_are_passed_over(root: Path, write_image: WriteImage) -> None:
    (root / "train" / "ant" / "notes.txt").write_text("no image")
    write_image(root / "train" / "ant" / ".hidden.png", 99)
    write_image(root / "train" / ".cache" / "0.png", 99)
    write_image(root / "train" / "0.png", 99)
    write_image(root / "train" / "ant" / "1.PNG", 1)
    assert greys(folder(root).train()) == [0, 1, 10, 11, 20, 21, 22]


def test_linked_folders_and_files_are_followed(root: Path) -> None:
    (root / "train" / "dog").symlink_to(root / "train" / "cat")
    (root / "train" / "ant" / "1.png").symlink_to(root / "train" / "cat" / "2.png")
    train = folder(root).train()
    assert train.class_counts == (2, 2, 3, 3)
    assert greys(train)[:2] == [0, 22]


def test_a_class_that_is_not_trained_on_is_refused(root: Path, write_image: WriteImage) -> None:
    write_image(root / "test" / "dog" / "0.png")
    with pytest.raises(DataError, match="test/dog is no class of the training split"):
        folder(root).test()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_folder_is_named(root: Path, split: str) -> None:
    (root / split).rename(root / "elsewhere")
    with pytest.raises(DataError, match="can't be read: No such file"):
        folder(root).test()


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train holds no folders of classes"):
        folder(tmp_path).train()


def test_numbers_in_names_are_counted(tmp_path: Path, write_image: WriteImage) -> None:
    names = ("1", "2", "10", "01", "a", "a2", "a10b", "a10", "B", "é")
    for name in names:
        write_image(tmp_path / "train" / name / "0.png")
    ordered = ("01", "1", "2", "10", "B", "a", "a2", "a10", "a10b", "é")
    assert folder(tmp_path).train().class_names == ordered


def test_classes_txt_gives_the_order(root: Path) -> None:
    before = folder(root).train()
    (root / "classes.txt").write_text("cat\nant\nbee\n")
    train, test = folder(root).train(), folder(root).test()
    assert train.class_names == ("cat", "ant", "bee")
    assert greys(train) == [20, 21, 22, 0, 10, 11]
    assert train.labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert test.labels.tolist() == [2]
    assert train.fingerprint() != before.fingerprint()
    (root / "classes.txt").write_text("ant\nbee\ncat\n")
    assert folder(root).train().fingerprint() == before.fingerprint()
    (root / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(DataError, match=r"train/cat is no class listed in .*classes\.txt"):
        folder(root).train()
    (root / "classes.txt").write_text("ant\nbee\ncat\nant\n")
    with pytest.raises(DataError, match=r"classes\.txt names a class twice"):
        folder(root).train()


def test_an_order_that_the_run_does_not_know_is_refused(
    tmp_path: Path, write_image: WriteImage
) -> None:
    """As of a run from before numbers were counted; a file brings its order back."""
    for name in ("1", "2", "10"):
        for image in range(4):
            write_image(tmp_path / "train" / name / f"{image}.png", image)
        write_image(tmp_path / "test" / name / "0.png")
    config = DataConfig(dataset=Dataset.IMAGE_FOLDER, holdout=0.5)
    known = ("1", "10", "2")
    for split in Split:
        with pytest.raises(DataError) as refused:
            read_split(tmp_path, config, split, known)
        assert str(refused.value) == (
            f"{tmp_path} has the classes in another order than the run: 2 is class 1 there, and "
            f"class 2 of the run: name them in the run's order in {tmp_path}/classes.txt, "
            "a name a line"
        )
        assert read_split(tmp_path, config, split).class_names == ("1", "2", "10")
    (tmp_path / "classes.txt").write_text("1\n10\n2\n")
    assert read_split(tmp_path, config, Split.TEST, known).labels.tolist() == [0, 1, 2]
    assert read_split(tmp_path, config, Split.TRAIN, ("other", "names")).class_names == known


def test_what_is_left_out_is_told(root: Path, write_image: WriteImage) -> None:
    train = root / "train"
    for name in ("ant/a.gif", "ant/b.GIF", "ant/.hidden.png", "ant/._a.png", "notes.txt"):
        (train / name).touch()
    write_image(train / "ant" / "below" / "a.png")
    for name in ("a.jpe", "b.jfif", "c.avif"):
        (train / "ant" / name).touch()
    images = folder(root).train()
    assert images.class_counts == (4, 2, 3)
    assert images.description == (
        "the folder train; left out: .gif 2, folder_in_class_folder 1, hidden 1, "
        "macos_metadata 1, outside_class_folders 1"
    )
    assert folder(root).test().description == "the folder test"
