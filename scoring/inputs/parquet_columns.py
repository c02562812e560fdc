"""Which columns of a Parquet file are read: images or the paths of their files, and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa

from columns.images import column_values, decoded
from columns.schema import (
    Column,
    columns_of,
    described,
    image_columns,
    is_text,
    listed,
    named,
)
from scoring.errors import InputError
from scoring.inputs.list_layout import PATH_COLUMNS
from scoring.inputs.locations import is_url
from scoring.records import TrueLabel

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class ParquetColumns:
    """What is read of a file.

    Attributes:
        image: encoded images, perhaps with their paths, or paths alone.
        label: the column of the labels; None where they are none.
        label_of_all: the label that the folders above the file give to all its rows.
    """

    image: Column
    label: Column | None = None
    label_of_all: TrueLabel | None = None

    @property
    def all(self) -> list[Column]:
        """Those that are read."""
        return [self.image] if self.label is None else [self.image, self.label]

    def labels(self, batch: pa.RecordBatch) -> Sequence[TrueLabel | None]:
        """Of each row; text that is no Unicode is mended, for files may hold any bytes."""
        if self.label is None:
            return [self.label_of_all] * len(batch)
        values = decoded(column_values(batch, self.label))
        if not is_text(values.type):
            numbers: list[int | None] = values.to_pylist()
            return numbers
        texts = values.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        return [None if text is None else text.decode(errors="replace") for text in texts]


def find_columns(
    schema: pa.Schema, location: str, column: str | None, label: str | None = None
) -> ParquetColumns:
    """The columns of a file, by their names or by what they hold.

    Args:
        schema: the file's.
        location: its path or URL.
        column: of the images: bytes, structs with a field `bytes`, or text, which is paths. A field
            of structs is named `sample.img`. None for the only column of images, else of paths.
        label: of the labels, names or numbers of classes; or what folders above the file are called
            in Hive's way: `label=cat/part-0.parquet`.

    Raises:
        InputError: if there is no such column, or several.
    """
    image = _by_kind(schema, location) if column is None else _by_name(schema, location, column)
    if label is None:
        return ParquetColumns(image)
    folders = _folder_values(location)
    if label in folders and not named(schema, label):
        return ParquetColumns(image, label_of_all=folders[label])
    return ParquetColumns(image, _label_column(schema, location, label))


def _by_kind(schema: pa.Schema, location: str) -> Column:
    images = image_columns(schema)
    if len(images) == 1:
        return images[0]
    if images:
        raise InputError(
            f"{location} has {len(images)} columns of encoded images: {listed(images)}; name one "
            "of them by --column"
        )
    paths = [each for each in columns_of(schema) if _names_files(each)]
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise InputError(
            f"{location} has no column of encoded images, and {len(paths)} that may name their "
            f"files: {listed(paths)}; name one of them by --column"
        )
    raise InputError(
        f"{location} has no column of encoded images (bytes, or structs with a field 'bytes') and "
        f"none of the columns {', '.join(PATH_COLUMNS)}; it has {described(schema)}: name the one "
        "with the paths of images, if there is one, by --column"
    )


def _names_files(column: Column) -> bool:
    known = len(column.names) == 1 and column.names[0].strip().casefold() in PATH_COLUMNS
    return known and column.holds_text


def _by_name(schema: pa.Schema, location: str, name: str) -> Column:
    column = _one(schema, location, name, "")
    if column.holds_images or column.holds_text:
        return column
    inside = [each for each in columns_of(schema) if each.is_in(column) and each.holds_images]
    raise InputError(
        f"column {name!r} of {location} holds {column.type_name}: images are bytes, structs "
        "with a field 'bytes', or text that names their files"
        + (f"; in it are {listed(inside)}" if inside else "")
    )


def _label_column(schema: pa.Schema, location: str, name: str) -> Column:
    column = _one(schema, location, name, f" for --labels, and lies in no folder '{name}=..'")
    if column.in_list or not (pa.types.is_integer(column.type) or column.holds_text):
        raise InputError(
            f"column {name!r} of {location} holds {column.type_name}: labels are names or numbers "
            "of classes"
        )
    return column


def _one(schema: pa.Schema, location: str, name: str, what_for: str) -> Column:
    found = named(schema, name)
    if len(found) > 1:
        raise InputError(f"{location} has {len(found)} columns {name!r}: {listed(found)}")
    if not found:
        raise InputError(f"{location} has no column {name!r}{what_for}; it has {described(schema)}")
    return found[0]


def _folder_values(location: str) -> dict[str, str | None]:
    """What the folders `name=value` above a file say, as Hive, Spark and Arrow write them."""
    path = re.split("[?#]", location, maxsplit=1)[0] if is_url(location) else location
    pairs = [folder.split("=", 1) for folder in path.split("/")[:-1] if "=" in folder]
    return {unquote(name): None if value == _NO_VALUE else unquote(value) for name, value in pairs}
