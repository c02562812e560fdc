"""Parquet files of encoded images, in the form that Hugging Face gives data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from training.config import DataConfig
from training.data.class_names import count_classes, listed_names, numbered
from training.data.images import EncodedSet
from training.data.sources import ParquetColumn
from training.errors import DataError

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")


class ParquetFolder:
    """`train.parquet`, `test.parquet` and perhaps `validation.parquet`.

    Images are in `img` or `image`, labels in `label` or `fine_label`. Classes are named by
    `classes.txt` (a line each) or Hugging Face's metadata; without either they are the numbers up
    to the largest training label.
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
            names = numbered(count_classes(train.labels(), self._path("train")))
        labels = file.labels(len(names))
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
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from error
        self._label_column = self._find(label_columns)
        self._image_column = self._find(_IMAGE_COLUMNS)

    def labels(self, num_classes: int | None = None) -> Tensor:
        """The labels, int64 [N], each below `num_classes` where that is known."""
        column, values = self._label_column, self._read(self._label_column)
        if not pa.types.is_integer(values.type) or values.null_count:
            raise DataError(f"column {column!r} of {self._path} must hold whole numbers, no gaps")
        if len(values) == 0:
            raise DataError(f"{self._path} has no rows")
        labels: np.ndarray = values.to_numpy().astype(np.int64)
        if labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes):
            last = "up" if num_classes is None else f"to {num_classes - 1}"
            raise DataError(
                f"column {column!r} of {self._path} has labels from {labels.min()} to "
                f"{labels.max()}; they must go from 0 {last}"
            )
        return torch.from_numpy(labels)

    def images(self) -> ParquetColumn:
        """The encoded images: bytes, or a struct with a field `bytes`."""
        values = self._read(self._image_column)
        if pa.types.is_struct(values.type) and values.type.get_field_index("bytes") >= 0:
            values = pc.struct_field(values, "bytes")
        if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
            raise DataError(
                f"column {self._image_column!r} of {self._path} holds {values.type}, "
                "not encoded images"
            )
        return ParquetColumn(self._path, values)

    def embedded_names(self) -> tuple[str, ...] | None:
        """The names of the classes in Hugging Face's metadata, if there are any."""
        try:
            document = json.loads(self._schema.metadata[b"huggingface"])
            names = document["info"]["features"][self._label_column]["names"]
            return tuple(str(name) for name in names) or None
        except (KeyError, TypeError, ValueError, RecursionError):
            return None

    def _find(self, columns: tuple[str, ...]) -> str:
        for column in columns:
            if column in self._schema.names:
                return column
        wanted = " or ".join(map(repr, columns))
        raise DataError(
            f"{self._path} has no column {wanted}; it has: {', '.join(self._schema.names)}"
        )

    def _read(self, column: str) -> pa.ChunkedArray:
        try:
            return pq.read_table(self._path, columns=[column])[column]
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self._path, error) from error


def class_names(directory: Path, file: ParquetFile) -> tuple[str, ...] | None:
    """From `classes.txt` in the folder, else from the file's metadata, else None."""
    return listed_names(directory) or file.embedded_names()


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split())  # Arrow's may have several lines
    return DataError(f"{path} is not a readable Parquet file: {reason}")
