"""Where encoded images come from: files below a folder, or a column of a Parquet file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from training.errors import DataError

MAX_FILE_BYTES = 64 * 2**20


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
        path = self.root / self.paths[index]
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

    def name(self, index: int) -> str:
        """The file's path."""
        return str(self.root / self.paths[index])

    def identity(self, index: int) -> bytes:
        """Relative path and size; a file that is missing has no size."""
        path = self.paths[index]
        try:
            size = str((self.root / path).stat().st_size)
        except OSError:
            size = "missing"
        return os.fsencode(path) + b"\0" + size.encode()


@dataclass(frozen=True)
class ParquetColumn:
    """A column of encoded images, in memory as they are in the file.

    Parquet is compressed in blocks of many rows, so single rows can't be read from the file.
    """

    path: Path
    values: pa.ChunkedArray

    def read(self, index: int) -> bytes:
        """The row's bytes, empty where there are none."""
        return self.values[index].as_py() or b""

    def name(self, index: int) -> str:
        """The file and the row."""
        return f"{self.path}, row {index}"

    def identity(self, index: int) -> bytes:
        """The bytes themselves."""
        return self.read(index)
