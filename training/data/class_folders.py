"""Any images that are sorted into a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch

from serving.images.folders import Search, is_folder, left_out_by_name
from serving.images.formats import suffixes
from training.config import DataConfig
from training.data.class_names import LISTING, in_order, listed_names
from training.data.images import EncodedSet
from training.data.sources import Files
from training.errors import DataError

OUTSIDE = "outside_class_folders"
INSIDE = "folder_in_class_folder"


class ClassFolders:
    """`train/<class>/<image>` and `test/<class>/<image>`; `val` is the test split without `test`.

    Classes are the folders of `train`: in the order of `classes.txt` beside it, a name a line, else
    as people sort names (1, 2, 10). What does not end as the formats do that are decoded, or is
    hidden (`.name`), is left out, and counted in the description.
    """

    def __init__(self, directory: Path, config: DataConfig) -> None:
        self._directory = directory
        self._formats = config.formats

    @property
    def has_calibration(self) -> bool:
        """Whether there is a `val` besides `test`."""
        return self._has("test") and self._has("val")

    def train(self) -> EncodedSet:
        """The images of `train`."""
        return self._read("train")

    def calibration(self) -> EncodedSet:
        """The images of `val`."""
        return self._read("val")

    def test(self) -> EncodedSet:
        """The images of `test`, else of `val`."""
        return self._read("test" if self._has("test") else "val")

    def _has(self, split: str) -> bool:
        return (self._directory / split).is_dir()

    @cached_property
    def _names(self) -> tuple[str, ...]:
        listed = listed_names(self._directory)
        if listed is None:
            return in_order(
                _class_folders(self._directory / "train", Search(suffixes(self._formats)))
            )
        if len(set(listed)) < len(listed):
            raise DataError(f"{self._directory / LISTING} names a class twice")
        return listed

    def _read(self, split: str) -> EncodedSet:
        search = Search(suffixes(self._formats))
        found = _class_folders(self._directory / split, search)
        if unknown := found - set(self._names):
            listing = self._directory / LISTING
            known = f"listed in {listing}" if listing.is_file() else "of the training split"
            raise DataError(f"{self._directory / split / min(unknown)} is no class {known}")
        paths, labels = [], []
        for label, name in enumerate(self._names):
            if name in found:
                files = _images(self._directory / split / name, search)
                paths += [f"{split}/{name}/{file}" for file in files]
                labels += [label] * len(files)
        return EncodedSet(
            Files(self._directory, tuple(paths)),
            torch.arange(len(paths)),
            torch.tensor(labels, dtype=torch.int64),
            self._names,
            f"the folder {split}{search.told()}",
            self._formats,
        )


def _class_folders(directory: Path, search: Search) -> set[str]:
    """The names of the folders in a split's folder."""
    names = set()
    for name, is_a_folder in _visible(directory, search):
        if is_a_folder:
            names.add(name)
        else:
            search.left_out[OUTSIDE] += 1
    if not names:
        raise DataError(f"{directory} holds no folders of classes")
    return names


def _images(directory: Path, search: Search) -> list[str]:
    """The names of the images in a class's folder, sorted."""
    names = []
    for name, is_a_folder in _visible(directory, search):
        if is_a_folder:
            search.left_out[INSIDE] += 1
        elif search.takes(name):
            names.append(name)
    return sorted(names)


def _visible(directory: Path, search: Search) -> Iterator[tuple[str, bool]]:
    """What lies in a folder, and whether it is one."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if (kind := left_out_by_name(entry.name)) is None:
                    yield entry.name, is_folder(entry)
                else:
                    search.left_out[kind] += 1
    except OSError as error:
        raise DataError(f"the folder {directory} can't be read: {error.strerror}") from error
