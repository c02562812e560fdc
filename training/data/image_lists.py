"""ImageNet-LT, Places-LT and iNaturalist 2018: lists of image files and labels."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from serving.files import as_text
from training.choices import Dataset
from training.config import DataConfig
from training.data.class_names import count_classes, listed_names, numbered
from training.data.images import EncodedSet
from training.data.sources import Files, path_below
from training.errors import DataError

_LABEL = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class _Names:
    """The lists of one data set; iNaturalist's validation split is what everybody tests on."""

    train: str
    test: str
    validation: str | None


_NAMES = {
    Dataset.IMAGENET_LT: _Names(
        "ImageNet_LT_train.txt", "ImageNet_LT_test.txt", "ImageNet_LT_val.txt"
    ),
    Dataset.PLACES_LT: _Names("Places_LT_train.txt", "Places_LT_test.txt", "Places_LT_val.txt"),
    Dataset.INATURALIST18: _Names("iNaturalist18_train.txt", "iNaturalist18_val.txt", None),
}


@dataclass(frozen=True)
class _ImageList:
    """Paths relative to the images' root folder, and labels int64 [N]."""

    file: Path
    paths: tuple[str, ...]
    labels: Tensor


class ImageLists:
    """Images below a root folder, and lists with `relative/path label` a line in or beside it.

    A space or a tab is before the label; a path may stand in quotation marks.

    There are as many classes as the training list has labels. They are named by `classes.txt` in
    the root folder, else by the folders of the training images where each class has one of its
    own, else by number.
    """

    def __init__(self, directory: Path, config: DataConfig) -> None:
        self._directory = directory
        self._names = _NAMES[config.dataset]
        self._formats = config.formats

    @property
    def has_calibration(self) -> bool:
        """Whether a validation list belongs to the data set."""
        return self._names.validation is not None

    def train(self) -> EncodedSet:
        """The images of the training list."""
        return self._images(self._training_list)

    def calibration(self) -> EncodedSet:
        """The images of the validation list."""
        assert self._names.validation is not None, "the data set has a validation list"
        return self._images(self._read(self._names.validation))

    def test(self) -> EncodedSet:
        """The images of the test list."""
        return self._images(self._read(self._names.test))

    @cached_property
    def _training_list(self) -> _ImageList:
        return self._read(self._names.train)

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        listing = self._training_list
        classes = count_classes(listing.labels, listing.file)
        names = listed_names(self._directory)
        if names is None:
            return _folder_names(listing, classes) or numbered(classes)
        if len(names) != classes:
            raise DataError(
                f"{self._directory} names {len(names)} classes, and {listing.file} has {classes}"
            )
        return names

    def _images(self, listing: _ImageList) -> EncodedSet:
        names = self._class_names
        if (largest := int(listing.labels.max())) >= len(names):
            raise DataError(
                f"{listing.file} has label {largest}; "
                f"the training list has labels up to {len(names) - 1}"
            )
        files = Files(self._directory, listing.paths)
        rows = torch.arange(len(listing.paths))
        description = f"the list {listing.file.name}"
        return EncodedSet(files, rows, listing.labels, names, description, self._formats)

    def _read(self, name: str) -> _ImageList:
        for folder in (self._directory, self._directory.parent):
            if (folder / name).is_file():
                return _read_list(folder / name)
        raise DataError(f"{name} lies neither in {self._directory} nor beside it")


def _read_list(file: Path) -> _ImageList:
    paths, labels = [], []
    try:
        with as_text(file.open("rb")) as text:
            for number, line in enumerate(text, start=1):
                if line.strip():
                    path, label = _parse(line, f"{file}, line {number}")
                    paths.append(path)
                    labels.append(label)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not readable as text, UTF-8 or UTF-16: {error}") from error
    if not paths:
        raise DataError(f"{file} lists no images")
    return _ImageList(file, tuple(paths), torch.tensor(labels, dtype=torch.int64))


def _parse(line: str, where: str) -> tuple[str, int]:
    path, label = (["", *line.rsplit(maxsplit=1)])[-2:]  # a tab is a space too
    path = path.strip()
    if len(path) > 2 and path[0] == path[-1] == '"':
        path = path[1:-1]
    if not path or not _LABEL.fullmatch(label) or "\0" in path:
        raise DataError(f"{where}: not a path, a space and a label: {line.strip()[:100]!r}")
    return path_below(path, where), int(label)


def _folder_names(listing: _ImageList, num_classes: int) -> tuple[str, ...] | None:
    """The folder of each class below the folder that all share, if it is one of its own."""
    folders = [os.path.dirname(path) for path in listing.paths]  # noqa: PTH120 - of many paths
    shared = os.path.commonpath(folders)
    pairs = set(zip(listing.labels.tolist(), folders, strict=True))
    folder_of = dict(pairs)
    one_each = len(pairs) == len(folder_of) == len(set(folder_of.values())) == num_classes
    if not one_each:
        return None
    names = (os.path.relpath(folder_of[label], shared or ".") for label in range(num_classes))
    return tuple(names)
