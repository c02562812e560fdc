"""Lists of image files: what a line may hold, where lists lie, how classes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.choices import Dataset
from training.config import DataConfig
from training.data.image_lists import ImageLists
from training.data.sources import Files
from training.errors import DataError

TRAIN = "ImageNet_LT_train.txt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The images' root folder; lists beside it are in `tmp_path`."""
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def lists(root: Path, dataset: Dataset = Dataset.IMAGENET_LT) -> ImageLists:
    return ImageLists(root, DataConfig(dataset=dataset))


def names_from(root: Path, *lines: str) -> tuple[str, ...]:
    (root / TRAIN).write_text("\n".join(lines))
    return lists(root).train().class_names


def test_lines_are_read_in_their_order(root: Path) -> None:
    (root / TRAIN).write_text("train/b/2.jpg 1\n\ntrain/a/an image.jpg 0\r\ntrain/b/1.jpg 1\n")
    train = lists(root).train()
    assert isinstance(train.source, Files)
    assert train.source.paths == ("train/b/2.jpg", "train/a/an image.jpg", "train/b/1.jpg")
    assert train.source.name(1) == str(root / "train/a/an image.jpg")
    assert train.labels.tolist() == [1, 0, 1]
    assert train.class_counts == (1, 2)
    assert train.description == "the list ImageNet_LT_train.txt"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_as_other_programs_write_them(root: Path, encoding: str, end: str) -> None:
    lines = ["a/1.jpg 0", "a/an image.jpg\t0", '"b/an image.jpg"  1', "b/\u00e4\u2028.jpg 1"]
    (root / TRAIN).write_bytes(end.join(lines).encode(encoding))
    (root / "classes.txt").write_bytes(end.join(["St.\x0bBernard", "\u00e4"]).encode(encoding))
    train = lists(root).train()
    assert isinstance(train.source, Files)
    assert train.source.paths == (
        *("a/1.jpg", "a/an image.jpg", "b/an image.jpg"),
        "b/\u00e4\u2028.jpg",
    )
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert train.class_names == ("St.\x0bBernard", "\u00e4")


def test_lists_may_lie_beside_the_images(root: Path) -> None:
    (root.parent / TRAIN).write_text("a/1.jpg 0\n")
    assert len(lists(root).train()) == 1
    (root / TRAIN).write_text("a/1.jpg 0\na/2.jpg 0\n")
    assert len(lists(root).train()) == 2


def test_a_missing_list_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="ImageNet_LT_train.txt lies neither in .* nor beside it"):
        lists(root).train()


@pytest.mark.parametrize(
    ("dataset", "stem", "test", "validation"),
    [
        (Dataset.IMAGENET_LT, "ImageNet_LT", "test", "val"),
        (Dataset.PLACES_LT, "Places_LT", "test", "val"),
        (Dataset.INATURALIST18, "iNaturalist18", "val", None),
    ],
)
def test_each_data_set_has_its_own_lists(
    root: Path, dataset: Dataset, stem: str, test: str, validation: str | None
) -> None:
    for split in ("train", "val", "test"):
        (root / f"{stem}_{split}.txt").write_text(f"{split}/a/1.jpg 0\n")
    folder = lists(root, dataset)

    def first(images: object) -> str:
        return str(images).split("paths=('")[1].split("/")[0]

    assert first(folder.train()) == "train"
    assert first(folder.test()) == test
    assert folder.has_calibration == (validation is not None)
    if validation is not None:
        assert first(folder.calibration()) == validation


@pytest.mark.parametrize(
    "line",
    [
        "a/1.jpg",
        "a/1.jpg one",
        "a/1.jpg -1",
        "a/1.jpg 1.5",
        "a/1.jpg 1_0",
        "a/1.jpg ²",
        "a/1.jpg 9999999999",
        "3",
        "a\0b.jpg 0",
    ],
)
def test_a_malformed_line_is_named(root: Path, line: str) -> None:
    (root / TRAIN).write_text(f"a/0.jpg 0\n\n{line}\n")
    with pytest.raises(DataError, match=r"ImageNet_LT_train\.txt, line 3: not a path, a space"):
        lists(root).train()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "a/.."])
def test_a_path_that_leaves_the_folder_is_refused(root: Path, path: str) -> None:
    (root / TRAIN).write_text(f"a/0.jpg 0\n{path} 0\n")
    with pytest.raises(DataError, match="line 2: the path must stay below the data folder"):
        lists(root).train()


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "lists no images"), (b"\n\n", "lists no images"), (b"\xff 0\n", "UTF-8")],
)
def test_a_list_without_images_or_text_is_refused(root: Path, content: bytes, problem: str) -> None:
    (root / TRAIN).write_bytes(content)
    with pytest.raises(DataError, match=problem):
        lists(root).train()


def test_labels_beyond_the_training_list_are_refused(root: Path) -> None:
    (root / TRAIN).write_text("a/1.jpg 0\nb/1.jpg 1\n")
    (root / "ImageNet_LT_test.txt").write_text("a/2.jpg 0\nc/1.jpg 2\n")
    with pytest.raises(DataError, match=r"test\.txt has label 2; the training list .* up to 1"):
        lists(root).test()


def test_a_huge_label_is_refused_and_not_counted_up_to(root: Path) -> None:
    (root / TRAIN).write_text("a/1.jpg 0\nb/1.jpg 999999999\n")
    with pytest.raises(DataError, match="labels up to 999999999 and only 2 images"):
        lists(root).train()


def test_classes_are_named_by_their_folders(root: Path) -> None:
    assert names_from(root, "train/n01/1.jpg 1", "train/n00/1.jpg 0") == ("n00", "n01")
    nested = ("d/a/house/in/1.jpg 0", "d/a/house/out/1.jpg 1", "d/b/barn/1.jpg 2")
    assert names_from(root, *nested) == ("a/house/in", "a/house/out", "b/barn")


@pytest.mark.parametrize(
    "lines",
    [
        ("a/1.jpg 0", "a/2.jpg 1"),  # a folder of two classes
        ("a/1.jpg 0", "b/1.jpg 0", "c/1.jpg 1"),  # a class in two folders
        ("1.jpg 0", "2.jpg 1"),  # no folders
        ("a/1.jpg 0", "c/1.jpg 2", "c/2.jpg 2"),  # a class without images
    ],
)
def test_classes_without_a_folder_of_their_own_are_numbered(
    root: Path, lines: tuple[str, ...]
) -> None:
    names = names_from(root, *lines)
    assert names == tuple(str(label) for label in range(len(names)))


def test_a_listing_names_the_classes_first(root: Path) -> None:
    (root / "classes.txt").write_text("great white shark\ntench\n")
    assert names_from(root, "a/1.jpg 0", "b/1.jpg 1") == ("great white shark", "tench")
    with pytest.raises(DataError, match=r"names 2 classes, and .*ImageNet_LT_train\.txt has 3"):
        names_from(root, "a/1.jpg 0", "b/1.jpg 1", "c/1.jpg 2")
