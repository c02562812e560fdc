"""Parquet files, read a few rows at a time: encoded images in a column, or paths of image files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress, islice

import pyarrow as pa
import pyarrow.parquet as pq

from columns.footer import BIT_BY_BIT, check_names, counts_of_values
from columns.images import MOST_IN_LISTS, ImageCell, image_batches, image_cells
from columns.schema import Column, is_text
from scoring.errors import InputError, one_line
from scoring.inputs.image_files import read_ahead
from scoring.inputs.locations import is_url, join, open_file
from scoring.inputs.parquet_columns import ParquetColumns, find_columns
from scoring.records import LIMITS, Fault, FaultKind, Record

_MOST_ROWS_READ = 64
_MOST_BYTES_READ = 8 * 2**20
"""Of encoded images that are read at once, as far as the file's own averages tell."""

_SMALL_BYTES = 1024
"""Of a row without an image, on average."""

_MOST_ROWS = 2**31 - 1
"""Of a row group, as other readers have it."""


@dataclass(frozen=True)
class RowGroup:
    """One of a file: its number, its first row, and how many images it has.

    Rows whose column is a list have any number of images; one that has none counts as one.
    """

    number: int
    first_row: int
    images: int


@dataclass(frozen=True)
class ParquetShard:
    """Some row groups of a Parquet file, one after the other.

    Attributes:
        location: path or URL of the file.
        columns: what is read of it.
        groups: in the file's order.
    """

    location: str
    columns: ParquetColumns
    groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        """The images of all its row groups."""
        return sum(group.images for group in self.groups)

    def read(self, skip: int = 0) -> Iterator[Record]:
        """Read the images. Of a row group that is damaged, rows that can't be read are faults.

        Raises:
            InputError: if the file can't be opened, or a URL can't be read any more.
        """
        with open_parquet(self.location) as file:
            for group in self.groups:
                if skip < group.images:
                    yield from self._read_group(file, group, skip)
                skip = max(0, skip - group.images)

    def _read_group(self, file: pq.ParquetFile, group: RowGroup, skip: int) -> Iterator[Record]:
        """As many images as the file says that there are, whatever is in it."""
        row, done = group.first_row, 0
        reason = "it has fewer rows than it says"
        try:
            for batch in image_batches(
                file, group.number, self.columns.all, _MOST_ROWS_READ, _MOST_BYTES_READ
            ):
                coming = image_cells(batch, self.columns.image)
                while cells := list(islice(coming, min(_MOST_ROWS_READ, group.images - done))):
                    yield from self._records(batch, cells[max(0, skip - done) :], row)
                    done += len(cells)
                row += len(batch)
        except (pa.ArrowException, OSError) as error:
            if is_url(self.location):  # most likely the network; the same command goes on
                raise _damaged(self.location, one_line(error)) from error
            reason = one_line(error)
        fault = Fault(FaultKind.UNREADABLE, f"the Parquet file is damaged: {reason}")
        last = max(row, group.first_row + file.metadata.row_group(group.number).num_rows - 1)
        for missing in range(max(done, skip), group.images):
            place, more = row + missing - done, row + missing - done - last
            yield Record(f"{self.location}#{f'{last}+{more}' if more > 0 else place}", None, fault)

    def _records(
        self, batch: pa.RecordBatch, cells: Sequence[ImageCell], first: int
    ) -> Iterator[Record]:
        labels = self.columns.labels(batch)
        images = self._images(cells)
        for cell, image in zip(cells, images, strict=True):
            place = ".".join(map(str, (first + cell.row, *cell.places)))
            yield Record(f"{self.location}#{place}", cell.path, image, labels[cell.row])

    def _images(self, cells: Sequence[ImageCell]) -> Iterator[bytes | Fault]:
        """Of each cell its bytes, else its file's; files are read ahead."""
        named = self.columns.image.holds_text
        in_file = [named or bool(cell.path and not cell.has_data) for cell in cells]
        paths = [cell.path for cell in compress(cells, in_file)]
        coming = read_ahead([path and join(self.location, path) for path in paths])
        for cell, elsewhere in zip(cells, in_file, strict=True):
            yield next(coming) if elsewhere else cell.data(LIMITS.max_bytes + 1) or b""


@contextmanager
def open_parquet(location: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for as long as this is entered.

    Raises:
        InputError: if it isn't there, or is no Parquet file.
    """
    with open_file(location) as source:
        try:
            file = pq.ParquetFile(source, **BIT_BY_BIT)
            check_names(file.schema_arrow)
        except Exception as error:  # Arrow's errors, and those of whatever is behind a URL
            raise _damaged(location, one_line(error)) from error
        yield file


def parquet_shards(
    location: str, column: str | None, label: str | None, rows: int, _: tuple[str, ...] = ()
) -> list[ParquetShard]:
    """A file in shards of whole row groups that have at least so many images together.

    Raises:
        InputError: if it can't be read, or has no such columns.
    """
    with open_parquet(location) as file:
        columns = find_columns(file.schema_arrow, location, column, label)
        groups = _row_groups(file, columns.image, location)
        if groups and not is_url(location) and _may_name_files(file, columns.image):
            _require_files(file, columns.image, location)
    shards: list[ParquetShard] = []
    waiting: list[RowGroup] = []
    images = 0
    for group in groups:
        waiting.append(group)
        images += group.images
        if images and (images >= rows or group is groups[-1]):
            shards.append(ParquetShard(location, columns, tuple(waiting)))
            waiting, images = [], 0
    return shards


def _row_groups(file: pq.ParquetFile, column: Column, location: str) -> list[RowGroup]:
    rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    counts = counts_of_values(file, column) if column.in_list else rows
    groups: list[RowGroup] = []
    first = 0
    for number, (its_rows, images) in enumerate(zip(rows, counts, strict=True)):
        if column.in_list and images > MOST_IN_LISTS:
            raise InputError(
                f"row group {number} of {location} has {images:,} images in lists, and at most "
                f"{MOST_IN_LISTS:,} are read: write it with smaller row groups"
            )
        if images < 0 or not 0 <= its_rows <= _MOST_ROWS:
            raise _damaged(location, f"row group {number} has {its_rows:,} rows")
        groups.append(RowGroup(number, first, images))
        first += its_rows
    return groups


def _may_name_files(file: pq.ParquetFile, column: Column) -> bool:
    """Whether its first rows are paths, or so small that this is soon seen."""
    about = file.metadata.row_group(0)
    small = about.total_byte_size <= _SMALL_BYTES * about.num_rows
    return column.holds_text or (small and is_text(column.field_type("path")))


def _require_files(file: pq.ParquetFile, column: Column, location: str) -> None:
    """Raise InputError if the first rows name files of this machine, and none is there."""
    try:
        batch = next(image_batches(file, 0, [column], _MOST_ROWS_READ, _MOST_BYTES_READ))
    except (StopIteration, pa.ArrowException, OSError):  # told when its rows are read
        return
    cells = list(islice(image_cells(batch, column), _MOST_ROWS_READ))
    paths = [cell.path for cell in cells if cell.path and not cell.has_data]
    files = [join(location, path) for path in paths]
    there = (not isinstance(each, str) or is_url(each) or os.path.exists(each) for each in files)  # noqa: PTH110
    if files and not any(cell.has_data for cell in cells) and not any(there):
        raise InputError(
            f"none of the first {len(files)} files that {location} names is there: {paths[0]!r} "
            f"would be {files[0]!r}; relative paths start at its folder"
        )


def _damaged(location: str, reason: str) -> InputError:
    """The error for a file that is no Parquet, or is damaged."""
    return InputError(f"{location} is not a readable Parquet file: {reason}")
