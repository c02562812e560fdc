"""Where encoded images come from: files below a folder, or a column of a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import pyarrow as pa

from training.errors import DataError

MAX_FILE_BYTES = 64 * 2**20
_LONGEST_PATH = 4096


class Source(Protocol):
    """Encoded images by number. It can be pickled, for worker processes."""

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            DataError: if it can't be read.
        """

    def name(self, index: int) -> str:
        """The file, or the file and row, for messages."""

    def identity(self, index: int) -> bytes:
        """What changes when the image does; cheap where it can be."""


@dataclass(frozen=True)
class Files:
    """Image files: paths relative to a root folder."""

    root: Path
    paths: tuple[str, ...]

    def read(self, index: int) -> bytes:
        """The file's content; at most 64 MiB."""
        return _read_file(self.root / self.paths[index])

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.root / self.paths[index])

    def identity(self, index: int) -> bytes:
        """Relative path and size; a file that is missing has no size."""
        return _file_identity(self.root, self.paths[index])


@dataclass(frozen=True)
class ParquetColumn:
    """A column of encoded images, in memory as they are in the file.

    Parquet is compressed in blocks of many rows, so single rows can't be read from the file.
    `files` are the rows whose image lies in a file beside it, and that file's relative path.
    """

    path: Path
    values: pa.ChunkedArray
    files: Mapping[int, str] = field(default_factory=dict)

    def read(self, index: int) -> bytes:
        """The row's bytes, or those of its file; empty where there are none."""
        if index in self.files:
            return _read_file(self.path.parent / self.files[index])
        return self.values[index].as_py() or b""

    def name(self, index: int) -> str:
        """The file and the row."""
        return f"{self.path}, row {index}"

    def identity(self, index: int) -> bytes:
        """The bytes themselves; of a file its path and size."""
        if index in self.files:
            return _file_identity(self.path.parent, self.files[index])
        return self.read(index)


def path_below(text: str, where: str, root: Path | None = None) -> str:
    """A path that data names, relative to their folder.

    Args:
        text: what is written there.
        where: that place, for the error.
        root: the folder, if absolute paths may lie below it; None if they may not be.

    Raises:
        DataError: if it is too long, or leads out of the folder.
    """
    if len(text) > _LONGEST_PATH:
        raise DataError(
            f"{where}: a path of {len(text)} characters; at most {_LONGEST_PATH} are read"
        )
    path = PurePosixPath(text)
    if root is not None and path.is_relative_to(root.absolute()):
        path = path.relative_to(root.absolute())
    if path.is_absolute() or ".." in path.parts or "\0" in text:
        raise DataError(f"{where}: the path must stay below the data folder: {text[:100]!r}")
    return str(path)


def _read_file(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise DataError(f"{path} is missing or no file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{path} has more than {MAX_FILE_BYTES} bytes")
    return data


def _file_identity(root: Path, path: str) -> bytes:
    try:
        size = str((root / path).stat().st_size)
    except OSError:
        size = "missing"
    return os.fsencode(path) + b"\0" + size.encode()
