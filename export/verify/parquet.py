"""Encoded images in a column of a Parquet file, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from export.errors import VerificationError
from export.verify.images import LIMITS, NamedImage

_ROWS = 64
_READ_AHEAD_BYTES = 2**20


class ParquetImages:
    """A column of bytes, or of structs with a field `bytes`. A row without any is an empty image.

    Raises:
        VerificationError: if it is no Parquet file, has no such column, or several and none of
            them is named.
    """

    def __init__(self, path: Path, column: str | None) -> None:
        self._path = path
        try:
            # Without these settings it would read whole row groups at once.
            self._file = pq.ParquetFile(path, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        self._column = self._find(column)
        if not len(self):
            raise VerificationError(f"{path} has no rows")

    def __len__(self) -> int:
        rows: int = self._file.metadata.num_rows
        return rows

    def __iter__(self) -> Iterator[NamedImage]:
        row = 0
        for values in self._batches():
            for value in values:
                data = value.as_py() or b""
                yield NamedImage(f"row {row}", data[: LIMITS.max_bytes + 1])
                row += 1

    def _batches(self) -> Iterator[pa.Array]:
        try:
            for batch in self._file.iter_batches(_ROWS, columns=[self._column]):
                values = batch.column(0)
                is_struct = pa.types.is_struct(values.type)
                yield pc.struct_field(values, "bytes") if is_struct else values
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _find(self, column: str | None) -> str:
        schema = self._file.schema_arrow
        columns: list[str] = [field.name for field in schema if _holds_bytes(field.type)]
        chosen = [each for each in columns if column in (None, each)]
        if len(chosen) == 1:
            return chosen[0]
        raise VerificationError(
            f"{self._path} has {len(columns)} columns of encoded images (bytes, or structs with a "
            f"field 'bytes'), {', '.join(map(repr, columns)) or 'so there is nothing to compare'}"
            f"{'; name one of them by --column' if columns else ''}"
        )

    def _unreadable(self, error: Exception) -> VerificationError:
        reason = " ".join(str(error).split())  # Arrow's may have several lines
        return VerificationError(f"{self._path} is not a readable Parquet file: {reason}")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_binary(kind.field(index).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
