"""Columns of a schema, however deep in structs and lists: by name, and by what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

_DEEPEST = 16
"""Structs in structs that are looked into."""

_SHOWN_COLUMNS = 20
_SHOWN_LETTERS = 60
"""Of a type, in messages."""


@dataclass(frozen=True)
class Column:
    """A column, or a field of structs in one.

    Attributes:
        names: from the column at the top down; lists on the way have none.
        type: of a value, without the lists around it; of a dictionary, what its entries are.
        in_list: whether a row has any number of values.
    """

    names: tuple[str, ...]
    type: pa.DataType
    in_list: bool = False

    def __str__(self) -> str:
        """The name to type: `sample.img`."""
        return ".".join(self.names)

    @property
    def type_name(self) -> str:
        """The type in words, for messages."""
        return f"lists of {_short(self.type)}" if self.in_list else _short(self.type)

    @property
    def holds_images(self) -> bool:
        """Whether it holds encoded images: bytes, or structs with a field `bytes`."""
        if not pa.types.is_struct(self.type):
            return _is_binary(self.type)
        content = self.field_type("bytes")
        if content == pa.null():  # where all of a file are null, for some writers
            return is_text(self.field_type("path"))
        return content is not None and _is_binary(content)

    @property
    def holds_text(self) -> bool:
        """Whether it holds text, such as paths of images."""
        return is_text(self.type)

    def field_type(self, name: str) -> pa.DataType | None:
        """The type of a field of its structs, if there is one of this name."""
        index = self.type.get_field_index(name) if pa.types.is_struct(self.type) else -1
        return self.type.field(index).type if index >= 0 else None

    def is_in(self, other: Column) -> bool:
        """Whether it is a field of the structs of another one, however deep."""
        return self.names[: len(other.names)] == other.names and self.names != other.names

    @property
    def leaf(self) -> tuple[str, ...]:
        """The names down to the values themselves: of a struct of an image, its `bytes`."""
        return (*self.names, "bytes") if pa.types.is_struct(self.type) else self.names

    @property
    def to_read(self) -> str:
        """What to name to Arrow's Parquet reader, which knows lists by other names."""
        return self.names[0] if self.in_list else str(self)


def columns_of(schema: pa.Schema) -> Iterator[Column]:
    """All columns, then the fields of their structs, then the fields of those."""
    level = [_column((field.name,), field.type, in_list=False) for field in schema]
    for _ in range(_DEEPEST):
        yield from level
        level = [
            _column((*column.names, field.name), field.type, in_list=column.in_list)
            for column in level
            if pa.types.is_struct(column.type)
            for field in column.type
        ]


def named(schema: pa.Schema, name: str) -> list[Column]:
    """The columns that a name means, `sample.img` the field `img` of `sample`: one at best.

    A column at the top whose own name has such a dot goes before.
    """
    found = [column for column in columns_of(schema) if str(column) == name]
    return [column for column in found if len(column.names) == len(found[0].names)]


def image_columns(schema: pa.Schema) -> list[Column]:
    """The columns of encoded images that are nearest to the top; in lists only if no others are."""
    found = [column for column in columns_of(schema) if column.holds_images]
    first = min(((column.in_list, len(column.names)) for column in found), default=None)
    return [column for column in found if (column.in_list, len(column.names)) == first]


def leaf_number(schema: pa.Schema, column: Column) -> int:
    """The number that Parquet gives to a column's values: it counts leaves, depth first."""
    number = 0
    coming: list[tuple[tuple[str, ...], pa.DataType]] = []
    coming += (((each.name,), each.type) for each in list(schema)[::-1])
    while coming:
        names, kind = coming.pop()
        kind = _inner(kind)
        if kind.num_fields:
            fields = [kind.field(i) for i in range(kind.num_fields)]
            own = pa.types.is_struct(kind)
            inside = [((*names, each.name) if own else names, each.type) for each in fields]
            coming += inside[::-1]
        elif names == column.leaf:
            return number
        else:
            number += 1
    raise KeyError(str(column))


def described(schema: pa.Schema) -> str:
    """The columns at the top with their types, for messages: `'y' (int64), 'name' (string)`."""
    return _enumerated([(field.name, _short(field.type)) for field in schema])


def listed(columns: Sequence[Column]) -> str:
    """These columns with their types, in the same way."""
    return _enumerated([(str(column), column.type_name) for column in columns])


def _enumerated(columns: Sequence[tuple[str, str]]) -> str:
    shown = [f"{name!r} ({kind})" for name, kind in columns[:_SHOWN_COLUMNS]]
    more = len(columns) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") or "none"


def is_text(kind: pa.DataType | None) -> bool:
    """Whether values are text, however Arrow keeps it."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return kind is not None and any(test(_inner(kind)) for test in tests)


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists of others; not maps."""
    tests = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return any(test(kind) for test in tests)


def _is_binary(kind: pa.DataType) -> bool:
    # Not of a fixed size: those are hashes and the like.
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(_inner(kind)) for test in tests)


def _column(names: tuple[str, ...], kind: pa.DataType, *, in_list: bool) -> Column:
    kind = _inner(kind)
    while is_list(kind):
        in_list = True
        kind = _inner(kind.value_type)
    return Column(names, kind, in_list)


def _inner(kind: pa.DataType) -> pa.DataType:
    """What the values are, without what only says how they are kept."""
    while pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind.storage_type
    return kind


def _short(kind: pa.DataType) -> str:
    text = str(kind)  # of any length
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}.."
