"""Batches of a table -> their encoded images and the paths of image files, one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from columns.schema import Column, is_list, is_text

MOST_IN_LISTS = 2**22
"""Images that lists of one row group may have: Arrow reads a row whole."""

_Cells = Iterator[tuple[tuple[int, ...], int | None]]
"""Where each value of a batch is: its row and its places in lists, and its index in an array.

It has no index in the array if it is null. A list without values is one null.
"""


@dataclass(frozen=True, slots=True)
class ImageCell:
    """An image of a batch, which is copied out of it when it is asked for.

    Attributes:
        row: of the batch.
        places: in the list that the row has (and in lists of lists); empty without any.
        path: of the image's file, or what its writer called it; what is no Unicode as Python
            writes names of files.
    """

    row: int
    places: tuple[int, ...]
    path: str | None
    _array: Any
    _index: int | None

    @property
    def has_data(self) -> bool:
        """Whether there are bytes, be they none."""
        return value_bytes(self._array, self._index, 0) is not None

    def data(self, most: int) -> bytes | None:
        """The encoded image, at most so many bytes of it; None where there are none."""
        return value_bytes(self._array, self._index, most)


def image_cells(batch: pa.RecordBatch, column: Column) -> Iterator[ImageCell]:
    """The images of a column in order. A row whose list is empty or null is one without bytes."""
    array = batch.column(batch.schema.get_field_index(column.names[0]))
    cells: _Cells = (((row,), row) for row in range(len(batch)))
    for name in column.names[1:]:
        cells, array = _unwrapped(cells, array)
        array = _field(array, name)
    cells, array = _unwrapped(cells, array)
    data, paths = bytes_and_paths(array)
    for (row, *places), index in cells:
        path = value_bytes(paths, index)
        text = None if path is None else os.fsdecode(path)
        yield ImageCell(row, tuple(places), text, data, index)


def image_batches(
    file: pq.ParquetFile, group: int, columns: list[Column], most_rows: int, most_bytes: int
) -> Iterator[pa.RecordBatch]:
    """The rows of a row group, as many at once as the group's own sizes say is few enough.

    What repeats is in the file once, and in a batch each time. So that a value that is all of the
    group may be in every row, a batch has at most 16 times `most_bytes`.
    """
    about = file.metadata.row_group(group)
    each = max(1, about.total_byte_size // max(1, about.num_rows), about.total_byte_size // 16)
    size = min(most_rows, max(1, most_bytes // each))
    names = list(dict.fromkeys(column.to_read for column in columns))
    yield from file.iter_batches(size, row_groups=[group], columns=names)


def bytes_and_paths(values: pa.Array) -> tuple[pa.Array | None, pa.Array | None]:
    """The bytes and the paths of images, each [N]; None for what the values have not."""
    if is_text(values.type):
        return None, values
    if not pa.types.is_struct(values.type):
        return values, None
    index = values.type.get_field_index("path")
    has_path = index >= 0 and is_text(values.type.field(index).type)
    return _field(values, "bytes"), _field(values, "path") if has_path else None


def column_values(batch: pa.RecordBatch, column: Column) -> pa.Array:
    """The values of a column outside lists, one a row, null where a struct above them is."""
    array = batch.column(batch.schema.get_field_index(column.names[0]))
    for name in column.names[1:]:
        array = _field(array, name)
    return array


def decoded(array: pa.Array) -> pa.Array:
    """The same values, each in its place, without dictionaries and types of extensions."""
    while isinstance(array, pa.ExtensionArray | pa.DictionaryArray):
        array = array.storage if isinstance(array, pa.ExtensionArray) else array.dictionary_decode()
    return array


def _unwrapped(cells: _Cells, array: pa.Array) -> tuple[_Cells, pa.Array]:
    """The same cells, or those in their lists, in an array that is neither list nor dictionary."""
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_dictionary(array.type):
            cells, array = _looked_up(cells, array.indices, len(array.dictionary)), array.dictionary
        elif is_list(array.type):
            lengths = pc.list_value_length(array).fill_null(0).to_pylist()
            cells, array = _listed(cells, lengths), array.flatten()
        else:
            return cells, array


def _looked_up(cells: _Cells, indices: pa.Array, entries: int) -> _Cells:
    for place, index in cells:
        entry = None if index is None else indices[index].as_py()
        if entry is not None and not 0 <= entry < entries:
            raise pa.ArrowIndexError(
                f"a dictionary of {entries} entries has none of number {entry}"
            )
        yield place, entry


def _listed(cells: _Cells, lengths: list[int]) -> _Cells:
    starts = [0, *accumulate(lengths)]
    for place, index in cells:
        if index is None or not lengths[index]:
            yield place, None
        else:
            first = starts[index]
            yield from (((*place, n), first + n) for n in range(lengths[index]))


def _field(array: pa.StructArray, name: str) -> pa.Array:
    return pc.struct_field(array, [array.type.get_field_index(name)])


def value_bytes(array: pa.Array | None, index: int | None, most: int | None = None) -> bytes | None:
    """A value of binary or text, or None for null and where there is none."""
    value = None if array is None or index is None else array[index]
    while isinstance(value, pa.DictionaryScalar | pa.ExtensionScalar):
        value = value.value
    if value is None or not value.is_valid:
        return None
    content: bytes = value.as_buffer()[:most].to_pybytes()
    return content
