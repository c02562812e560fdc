"""Encoded images, one after the other: files below a folder, one file, or rows of Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from scoring.errors import InputError
from scoring.inputs.locations import expand, read_image
from scoring.records import Fault, Shard
from serving.images.folders import Search
from serving.images.formats import IMAGE_SUFFIXES
from serving.tracing.terminal import escaped
from verify.errors import VerificationError

_PARQUET = (".parquet", ".pq")


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
        path: a file ending in .parquet or .pq is Parquet, any other file an image. Of a folder,
            files that end as images do, in the order of their paths.
        column: the one with the images, where a Parquet file has several.

    Raises:
        VerificationError: if there are no images.
        InputError: if a folder can't be listed.
    """
    if path.suffix.lower() in _PARQUET and path.is_file():
        return _parquet_rows(path, column)
    if column is not None:
        raise VerificationError(f"--column belongs to a Parquet file, which {path} is not")
    if path.is_dir():
        return _ImageFiles(path, tuple(_files_below(path)))
    if path.is_file():
        return _ImageFiles(path.parent, (str(path),))
    raise VerificationError(f"there is no folder or file {path}")


def _files_below(folder: Path) -> list[str]:
    search = Search(IMAGE_SUFFIXES)
    files = sorted(expand(str(folder), search))
    if not files:
        raise VerificationError(
            f"no file below {folder} ends in {', '.join(IMAGE_SUFFIXES)} "
            f"(a Parquet file must be named itself){search.told()}"
        )
    return files


@dataclass(frozen=True)
class _ImageFiles:
    root: Path
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[NamedImage]:
        for file in self.files:
            name = os.fsencode(os.path.relpath(file, self.root)).decode(errors="replace")
            yield _named(escaped(name), read_image(file))


@dataclass(frozen=True)
class _ParquetRows:
    shards: Sequence[Shard]

    def __len__(self) -> int:
        return sum(shard.rows or 0 for shard in self.shards)

    def __iter__(self) -> Iterator[NamedImage]:
        records = chain.from_iterable(shard.read() for shard in self.shards)
        for record in records:
            yield _named(f"row {record.id.rpartition('#')[2]}", record.image)


def _parquet_rows(path: Path, column: str | None) -> _ParquetRows:
    from scoring.inputs.parquet import parquet_shards  # noqa: PLC0415 needs pyarrow

    try:
        shards = parquet_shards(str(path), column, label=None, rows=1)
    except InputError as error:
        raise VerificationError(str(error)) from error
    if not shards:
        raise VerificationError(f"{path} has no rows")
    return _ParquetRows(shards)


def _named(name: str, image: bytes | Fault) -> NamedImage:
    if isinstance(image, Fault):
        raise VerificationError(f"{name}: {image.reason}")
    return NamedImage(name, image)
