"""Any images that are sorted into a folder for each class."""

from __future__ import annotations

from pathlib import Path

import torch

from training.config import DataConfig
from training.data.images import EncodedSet
from training.data.sources import Files
from training.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif")


class ClassFolders:
    """`train/<class>/<image>` and `test/<class>/<image>`; `val` is the test split without `test`.

    Classes are the folders of `train`, in the order of their names. Images end in .jpg, .jpeg,
    .png or .webp; other files, and what is hidden (`.name`), are passed over.
    """

    def __init__(self, directory: Path, _config: DataConfig) -> None:
        self._directory = directory

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

    def _read(self, split: str) -> EncodedSet:
        names = tuple(_class_folders(self._directory / "train"))
        number = {name: label for label, name in enumerate(names)}
        paths, labels = [], []
        for name in _class_folders(self._directory / split):
            if name not in number:
                raise DataError(
                    f"{self._directory / split / name} is no class of the training split"
                )
            images = _visible(self._directory / split / name)
            files = [path.name for path in images if path.suffix.lower() in SUFFIXES]
            paths += [f"{split}/{name}/{file}" for file in files]
            labels += [number[name]] * len(files)
        return EncodedSet(
            Files(self._directory, tuple(paths)),
            torch.arange(len(paths)),
            torch.tensor(labels, dtype=torch.int64),
            names,
            f"the folder {split}",
        )


def _class_folders(directory: Path) -> list[str]:
    names = [path.name for path in _visible(directory) if path.is_dir()]
    if not names:
        raise DataError(f"{directory} holds no folders of classes")
    return names


def _visible(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"the folder {directory} can't be read: {error.strerror}") from error
