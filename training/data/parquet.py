"""Parquet files of encoded images, in the form that Hugging Face gives data sets."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from columns.footer import BIT_BY_BIT, check_names
from columns.images import bytes_and_paths, column_values, decoded, image_batches, value_bytes
from columns.schema import Column, described, image_columns, is_text, listed, named
from training.config import DataConfig
from training.data.class_names import (
    count_classes,
    in_order,
    listed_names,
    numbered,
)
from training.data.images import EncodedSet
from training.data.sources import Files, ParquetColumn, Source, path_below
from training.errors import DataError

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")
_ROWS_READ, _BYTES_READ = 4096, 64 * 2**20
"""At once, as far as the file's own averages tell."""


class ParquetFolder:
    """`train.parquet`, `test.parquet` and perhaps `validation.parquet`.

    Images are in `img` or `image`, else in the only column of encoded images: bytes, structs with a
    field `bytes` (null where `path` names a file below the folder), or paths of files there. Labels
    are in `label` or `fine_label`, numbers of classes or their names. Classes are named by
    `classes.txt` (a line each) or Hugging Face's metadata; without either they are the names that
    are training labels, as people count, or the numbers up to the largest training label.
    """

    def __init__(self, directory: Path, config: DataConfig) -> None:
        self._directory = directory
        self._formats = config.formats

    @property
    def has_calibration(self) -> bool:
        """Whether there is a `validation.parquet`."""
        return self._path("validation").is_file()

    def train(self) -> EncodedSet:
        """The rows of `train.parquet`."""
        return self._read("train")

    def calibration(self) -> EncodedSet:
        """The rows of `validation.parquet`."""
        return self._read("validation")

    def test(self) -> EncodedSet:
        """The rows of `test.parquet`."""
        return self._read("test")

    def _path(self, split: str) -> Path:
        return self._directory / f"{split}.parquet"

    def _read(self, split: str) -> EncodedSet:
        file = ParquetFile(self._path(split), _LABEL_COLUMNS)
        names = class_names(self._directory, file)
        if names is None:
            train = file if split == "train" else ParquetFile(self._path("train"), _LABEL_COLUMNS)
            names = train.named_by_labels()
        labels = file.labels(names)
        rows = torch.arange(len(labels))
        description = f"the {split} split"
        return EncodedSet(file.images(), rows, labels, names, description, self._formats)


class ParquetFile:
    """One file, of which only the columns that are asked for are read.

    Raises:
        DataError: if it is no Parquet file, or holds something else than images and labels.
    """

    def __init__(self, path: Path, label_columns: tuple[str, ...]) -> None:
        if not path.is_file():
            raise DataError(f"{path} is missing")
        self._path = path
        try:
            self._schema = pq.read_schema(path)
            check_names(self._schema)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        self._label_column = self._find_labels(label_columns)
        self._image_column = self._find_images()

    def labels(self, names: Sequence[str]) -> Tensor:
        """The labels, int64 [N]: numbers of these classes as they are, or their names."""
        values = self._label_values
        if not is_text(values.type):
            labels = values.to_numpy().astype(np.int64)
            if labels.min() < 0 or labels.max() >= len(names):
                raise self._out_of_range(labels, f"to {len(names) - 1}")
            return torch.from_numpy(labels)
        if len(set(names)) < len(names):
            raise DataError(
                f"{self._named(self._label_column)} names classes, and two of them have the same "
                "name: their numbers would tell them apart"
            )
        found = pc.index_in(values, pa.array(names, values.type))
        if found.null_count:
            row = found.to_pylist().index(None)
            raise DataError(
                f"{self._path}, row {row}: {values[row].as_py()!r:.100} is none of the "
                f"{len(names)} classes"
            )
        return torch.from_numpy(found.to_numpy().astype(np.int64))

    def named_by_labels(self) -> tuple[str, ...]:
        """The classes, for want of a list: the names that are labels, else their numbers."""
        values = self._label_values
        if is_text(values.type):
            return in_order(pc.unique(values).to_pylist())
        labels = values.to_numpy().astype(np.int64)
        if labels.min() < 0:
            raise self._out_of_range(labels, "up")
        return numbered(count_classes(torch.from_numpy(labels), self._path))

    def images(self) -> Source:
        """The encoded images: bytes, or files that the rows name."""
        data: list[pa.Array] = []
        files: dict[int, str] = {}
        first = 0
        for values in self._read(self._image_column):
            content, paths = bytes_and_paths(values)
            missing = range(len(values)) if content is None else np.flatnonzero(content.is_null())
            if content is not None:
                data.append(self._decoded(content))  # each piece has all of its group's dictionary
            for row in map(int, missing) if paths is not None else ():
                if path := value_bytes(paths, row):
                    files[first + row] = self._beside(os.fsdecode(path), first + row)
                elif content is None:
                    raise DataError(f"{self._path}, row {first + row}: it names no image")
            first += len(values)
        if self._image_column.holds_text:
            return Files(self._path.parent, tuple(files.values()))
        return ParquetColumn(self._path, pa.chunked_array(data), files)

    def _beside(self, path: str, row: int) -> str:
        return path_below(path, f"{self._path}, row {row}", self._path.parent)

    def embedded_names(self) -> tuple[str, ...] | None:
        """The names of the classes in Hugging Face's metadata, if there are any.

        Raises:
            DataError: if one of them is no Unicode, as half of a surrogate pair isn't.
        """
        try:
            document = json.loads(self._schema.metadata[b"huggingface"])
            names = document["info"]["features"][str(self._label_column)]["names"]
            found = tuple(str(name) for name in names)
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
        try:
            "".join(found).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self._path} names a class in its metadata that is no Unicode"
            ) from error
        return found or None

    @cached_property
    def _label_values(self) -> pa.ChunkedArray:
        """Whole numbers or text, none of them null."""
        values = pa.chunked_array([self._decoded(part) for part in self._read(self._label_column)])
        if values.null_count:
            raise DataError(
                f"{self._named(self._label_column)} has {values.null_count} rows without a label"
            )
        if not is_text(values.type):
            return values
        try:  # for files may hold any bytes
            return values.cast(pa.large_binary()).cast(pa.large_string())
        except pa.ArrowException as error:
            raise DataError(
                f"{self._named(self._label_column)} holds names that are no Unicode"
            ) from error

    def _decoded(self, values: pa.Array) -> pa.Array:
        try:
            return decoded(values)
        except pa.ArrowException as error:  # a dictionary that has no such entry
            raise _unreadable(self._path, error) from error

    def _find_labels(self, names: Sequence[str]) -> Column:
        found = [each for name in names for each in named(self._schema, name)]
        if not found:
            raise DataError(
                f"{self._path} has no column {_either(names)} of labels; it has "
                f"{described(self._schema)}"
            )
        column = found[0]
        if column.in_list or not (pa.types.is_integer(column.type) or column.holds_text):
            raise DataError(
                f"{self._named(column)} holds {column.type_name}: labels are whole numbers or "
                "names of classes"
            )
        return column

    def _find_images(self) -> Column:
        images = image_columns(self._schema)
        known = [each for name in _IMAGE_COLUMNS for each in images if str(each) == name]
        others = [each for name in _IMAGE_COLUMNS for each in named(self._schema, name)]
        found = known[:1] or images or [each for each in others if each.holds_text][:1]
        if len(found) > 1:
            raise DataError(
                f"{self._path} has {len(found)} columns of encoded images: {listed(found)}; call "
                f"the one to train on {_IMAGE_COLUMNS[1]!r}"
            )
        if not found:
            raise DataError(
                f"{self._path} has no column of encoded images (bytes, or structs with a field "
                f"'bytes') and no column {_either(_IMAGE_COLUMNS)} of paths; it has "
                f"{described(self._schema)}"
            )
        if found[0].in_list:
            raise DataError(
                f"{self._named(found[0])} holds {found[0].type_name}: one image a row is trained on"
            )
        return found[0]

    def _out_of_range(self, labels: np.ndarray, last: str) -> DataError:
        return DataError(
            f"{self._named(self._label_column)} has labels from {labels.min()} to {labels.max()}; "
            f"they must go from 0 {last}"
        )

    def _named(self, column: Column) -> str:
        return f"column {str(column)!r} of {self._path}"

    def _read(self, column: Column) -> list[pa.Array]:
        """The column's values, at least one; in pieces, for Arrow reads no nested ones of 2 GiB."""
        try:
            with pq.ParquetFile(self._path, **BIT_BY_BIT) as file:
                parts = [
                    column_values(batch, column)
                    for group in range(file.num_row_groups)
                    for batch in image_batches(file, group, [column], _ROWS_READ, _BYTES_READ)
                ]
                rows, expected = sum(map(len, parts)), file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self._path, error) from error
        if rows != expected:
            raise _unreadable(self._path, ValueError(f"{rows} rows, and it says {expected}"))
        if not rows:
            raise DataError(f"{self._path} has no rows")
        return parts


def class_names(directory: Path, file: ParquetFile) -> tuple[str, ...] | None:
    """From `classes.txt` in the folder, else from the file's metadata, else None."""
    return listed_names(directory) or file.embedded_names()


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())  # Arrow's may have several lines
    return DataError(f"{path} is not a readable Parquet file: {reason}")
