"""What a Parquet file's footer says of a column, without reading the column."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from columns.schema import Column, leaf_number

BIT_BY_BIT: dict[str, Any] = {"buffer_size": 2**20, "pre_buffer": False}
"""Settings of Arrow's reader, which else reads whole row groups at once."""


def check_names(schema: pa.Schema) -> None:
    """Raise ValueError if there are columns whose names are no Unicode, at whatever depth."""
    schema.to_string(show_field_metadata=False, show_schema_metadata=False)


def counts_of_values(file: pq.ParquetFile, column: Column) -> list[int]:
    """How many values each row group has; an empty list and a null count as one.

    A row group whose entry is damaged has as many as it has rows, none of which can be read.
    """
    leaf = leaf_number(file.schema_arrow, column)
    name = file.schema.column(leaf).path
    with pq.ParquetFile(_NoPages(), metadata=file.metadata, **BIT_BY_BIT) as entries:
        counts = []
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            sane = _is_sane(entries, number, name)
            counts.append(group.column(leaf).num_values if sane else group.num_rows)
    return counts


def _is_sane(file: pq.ParquetFile, group: int, name: str) -> bool:
    # Asked directly for a damaged entry, pyarrow 26 ends the process: "terminate called". Its
    # reader looks at the entry with the same checks before it reads, and says what is wrong.
    try:
        next(file.iter_batches(1, row_groups=[group], columns=[name]), None)
    except _PagesWanted:
        return True
    except (pa.ArrowException, OSError):
        return False
    return False


class _PagesWanted(Exception):
    pass


class _NoPages(io.RawIOBase):
    """A file of any size that can't be read."""

    _at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (2**62 if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, _: int = -1) -> bytes:
        raise _PagesWanted
