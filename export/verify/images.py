"""Encoded images, one after the other: files below a folder, one file, or rows of Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from export.errors import VerificationError
from export.verify.printable import printable
from serving.images import ImageLimits

LIMITS = ImageLimits()
"""What a server accepts unless it was told otherwise."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""Of the formats that serving/image_files.py reads."""


@dataclass(frozen=True)
class NamedImage:
    """An encoded image, and its file or row in words that can be printed."""

    name: str
    data: bytes


class ImageSource(Protocol):
    """Images in a fixed order. None is in memory before it is asked for.

    An image of more bytes than are accepted is cut off one byte behind the limit.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[NamedImage]: ...


def open_images(path: Path, column: str | None = None) -> ImageSource:
    """The images of a folder and the folders in it, of a Parquet file, or one image file.

    Args:
        path: a file ending in `.parquet` is Parquet, any other file an image. Of a folder, files
            ending in .jpg, .jpeg, .png and .webp, in the order of their paths.
        column: the one with the images, where a Parquet file has several.

    Raises:
        VerificationError: if there are no images.
    """
    if path.suffix.lower() == ".parquet" and path.is_file():
        from export.verify.parquet import ParquetImages  # noqa: PLC0415 serving does without it

        return ParquetImages(path, column)
    if column is not None:
        raise VerificationError(f"--column belongs to a Parquet file, which {path} is not")
    if path.is_dir():
        files = _files_below(path)
        if not files:
            raise VerificationError(
                f"no file below {path} ends in {', '.join(SUFFIXES)} "
                "(a Parquet file must be named itself)"
            )
        return _ImageFiles(path, files)
    if path.is_file():
        return _ImageFiles(path.parent, (path,))
    raise VerificationError(f"there is no folder or file {path}")


@dataclass(frozen=True)
class _ImageFiles:
    root: Path
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[NamedImage]:
        for file in self.files:
            name = os.fsencode(file.relative_to(self.root)).decode(errors="replace")
            with file.open("rb") as stream:
                yield NamedImage(printable(name), stream.read(LIMITS.max_bytes + 1))


def _files_below(folder: Path) -> tuple[Path, ...]:
    def stop(error: OSError) -> None:  # else a folder that can't be read would be passed over
        raise error

    found = (
        Path(directory, name)
        for directory, _, names in os.walk(folder, onerror=stop)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    return tuple(sorted(file for file in found if file.is_file()))
