"""Encoded images in a column of a Parquet file, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoring.errors import InputError, one_line
from scoring.inputs.locations import is_url, open_file
from scoring.records import LIMITS, Fault, FaultKind, Record

_MOST_ROWS_READ = 64
_MOST_BYTES_READ = 8 * 2**20
"""Of encoded images that are read at once, as far as the file's own averages tell."""

_READ_AHEAD_BYTES = 2**20


@dataclass(frozen=True)
class Columns:
    """The columns that are read: encoded images, and labels if they are wanted."""

    image: str
    label: str | None = None


@dataclass(frozen=True)
class ParquetShard:
    """Some row groups of a Parquet file, one after the other.

    Attributes:
        location: path or URL of the file.
        columns: what is read of it.
        groups: of each row group, its number, its first row and how many rows it has.
    """

    location: str
    columns: Columns
    groups: tuple[tuple[int, int, int], ...]

    @property
    def rows(self) -> int:
        """Of all its row groups."""
        return sum(rows for _, _, rows in self.groups)

    def read(self, skip: int = 0) -> Iterator[Record]:
        """Read the rows. Of a row group that is damaged, those that can't be read are faults.

        Raises:
            InputError: if the file can't be opened, or a URL can't be read any more.
        """
        with open_parquet(self.location) as file:
            for group, first, rows in self.groups:
                if skip < rows:
                    yield from self._read_group(file, group, first, rows, skip)
                skip = max(0, skip - rows)

    def _read_group(
        self, file: pq.ParquetFile, group: int, first: int, rows: int, skip: int
    ) -> Iterator[Record]:
        row = 0
        try:
            for batch in self._batches(file, group):
                left = batch.slice(max(0, skip - row))
                yield from self._records(left, first + row + len(batch) - len(left))
                row += len(batch)
        except (pa.ArrowException, OSError) as error:
            if is_url(self.location):  # most likely the network; the same command goes on
                raise _damaged(self.location, error) from error
            fault = Fault(FaultKind.UNREADABLE, f"the Parquet file is damaged: {one_line(error)}")
            for missing in range(max(row, skip), rows):
                yield Record(f"{self.location}#{first + missing}", None, fault)

    def _batches(self, file: pq.ParquetFile, group: int) -> Iterator[pa.RecordBatch]:
        about = file.metadata.row_group(group)
        each = max(1, about.total_byte_size // max(1, about.num_rows))
        size = min(_MOST_ROWS_READ, max(1, _MOST_BYTES_READ // each))
        names = [name for name in (self.columns.image, self.columns.label) if name is not None]
        yield from file.iter_batches(size, row_groups=[group], columns=names)

    def _records(self, batch: pa.RecordBatch, first: int) -> Iterator[Record]:
        images = batch.column(self.columns.image)
        paths: Iterable[str | None] = repeat(None, len(batch))
        if pa.types.is_struct(images.type):
            index = images.type.get_field_index("path")
            if index >= 0 and _is_text(images.type.field(index).type):
                paths = _values(pc.struct_field(images, "path"))
            images = pc.struct_field(images, "bytes")
        label = self.columns.label
        labels = repeat(None, len(batch)) if label is None else _values(batch.column(label))
        rows = zip(images.to_pylist(), paths, labels, strict=True)
        for row, (image, path, its_label) in enumerate(rows, start=first):
            data = (image or b"")[: LIMITS.max_bytes + 1]
            yield Record(f"{self.location}#{row}", path, data, its_label)


@contextmanager
def open_parquet(location: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for as long as this is entered.

    Raises:
        InputError: if it isn't there, or is no Parquet file.
    """
    with open_file(location) as source:
        try:
            # Without these settings it would read whole row groups at once.
            file = pq.ParquetFile(source, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False)
        except Exception as error:  # Arrow's errors, and those of whatever is behind a URL
            raise _damaged(location, error) from error
        yield file


def parquet_shards(
    location: str, column: str | None, label: str | None, rows: int
) -> list[ParquetShard]:
    """A file in shards of whole row groups that have at least so many rows together.

    Raises:
        InputError: if it can't be read, or has no such columns.
    """
    with open_parquet(location) as file:
        columns = find_columns(file.schema_arrow, location, column, label)
        counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    shards: list[ParquetShard] = []
    groups: list[tuple[int, int, int]] = []
    first = 0
    for group, count in enumerate(counts):
        groups.append((group, first, count))
        first += count
        if sum(each for _, _, each in groups) >= rows or group == len(counts) - 1:
            shards.append(ParquetShard(location, columns, tuple(groups)))
            groups = []
    return [shard for shard in shards if shard.rows]


def find_columns(
    schema: pa.Schema, location: str, column: str | None, label: str | None = None
) -> Columns:
    """The column of encoded images (bytes, or structs with a field `bytes`), and that of labels.

    Raises:
        InputError: unless there is exactly one of this name, or exactly one and no name.
    """
    found: list[str] = [field.name for field in schema if _holds_bytes(field.type)]
    chosen = [each for each in found if column in (None, each)]
    if len(chosen) != 1:
        raise InputError(
            f"{location} has {len(found)} columns of encoded images (bytes, or structs with a "
            f"field 'bytes'), {', '.join(map(repr, found)) or 'so there is nothing to read'}"
            f"{'; name one of them by --column' if found else ''}"
        )
    if label is not None:
        _check_labels(schema, location, label)
    return Columns(chosen[0], label)


def _damaged(location: str, error: Exception) -> InputError:
    """The error for a file that is no Parquet, or is damaged."""
    return InputError(f"{location} is not a readable Parquet file: {one_line(error)}")


def _check_labels(schema: pa.Schema, location: str, label: str) -> None:
    if schema.get_field_index(label) < 0:
        columns = ", ".join(map(repr, schema.names))
        raise InputError(f"{location} has no column {label!r} for --labels; it has {columns}")
    kind = schema.field(label).type
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_integer(values) or _is_text(values)):
        raise InputError(
            f"column {label!r} of {location} holds {kind}: labels are names or numbers of classes"
        )


def _values(column: pa.Array) -> list[Any]:
    """A column's values; text that is no Unicode is mended, for files may hold any bytes."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_text(column.type):
        return list(column.to_pylist())
    texts = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
    return [None if text is None else text.decode(errors="replace") for text in texts]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
