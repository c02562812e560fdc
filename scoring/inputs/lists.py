"""Lists of paths: CSV with a header, or text with a path a line.

A file may be named twice: each line is a row of its own. Relative paths start at the list's folder.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pacsv

from scoring.errors import InputError, one_line
from scoring.inputs.image_files import FileShard, file_shards, path_array
from scoring.inputs.locations import open_file

_PATH_COLUMNS = ("path", "file", "filename", "image", "url")


def csv_shards(location: str, column: str | None, label: str | None, rows: int) -> list[FileShard]:
    """The files that a CSV list names, in its order, in shards of so many.

    Raises:
        InputError: if the list can't be read, or has no such columns.
    """
    paths, labels = _read_csv(location, column, label)
    return file_shards(paths, rows, labels=labels, list_location=location)


def text_shards(location: str, column: str | None, label: str | None, rows: int) -> list[FileShard]:
    """The files that a list with a path a line names, in its order, in shards of so many.

    Raises:
        InputError: if the list can't be read, or is asked for columns.
    """
    if column is not None or label is not None:
        raise InputError(f"{location} is a list without columns: --column and --labels take CSV")
    return file_shards(path_array(_lines(location)), rows, list_location=location)


def _lines(location: str) -> list[str]:
    try:
        with open_file(location) as file:
            return [line for raw in file if (line := raw.decode().strip())]
    except UnicodeDecodeError as error:
        raise InputError(f"{location} is not a text list of paths: it is not UTF-8") from error


def _read_csv(location: str, column: str | None, label: str | None) -> tuple[pa.Array, pa.Array]:
    """The paths, large_binary [N], and the labels, strings [N], or None."""
    try:
        with open_file(location) as file:
            header = pacsv.open_csv(file).schema.names
            path = _path_column(location, header, column)
            if label is not None and label not in header:
                raise InputError(
                    f"{location} has no column {label!r} for --labels; it has {', '.join(header)}"
                )
            names = [path] if label in (None, path) else [path, label]
            file.seek(0)
            options = pacsv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
            )
            table = pacsv.read_csv(file, convert_options=options).combine_chunks()
    except pa.ArrowException as error:
        raise InputError(f"{location} is not a readable CSV file: {one_line(error)}") from error
    paths = table[path].cast(pa.large_string()).cast(pa.large_binary())
    return _whole(paths), None if label is None else _whole(table[label])


def _path_column(location: str, header: list[str], column: str | None) -> str:
    if column is not None:
        if column not in header:
            raise InputError(f"{location} has no column {column!r}; it has {', '.join(header)}")
        return column
    known = [name for name in _PATH_COLUMNS if name in header]
    if known or len(header) == 1:
        return (known or header)[0]
    raise InputError(
        f"{location} has none of the columns {', '.join(_PATH_COLUMNS)}: name the one with the "
        f"paths by --column; it has {', '.join(header)}"
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
