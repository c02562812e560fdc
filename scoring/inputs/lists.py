"""Lists of files: tables (CSV, TSV, whatever separates their cells), or text with a path a line.

A file may be named twice: each line is a row of its own. Relative paths start at the list's folder.
A line that begins with # is a comment, unless a file of this machine has the name that it gives.

Tables are read by the csv module, over one file that is opened once and read from start to end.
Arrow's readers are faster, but their threads read a file object on when an error ended the reading,
and they know no comments.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice

import pyarrow as pa

from scoring.errors import InputError
from scoring.inputs.image_files import FileShard, file_shards
from scoring.inputs.list_layout import (
    ListLayout,
    ReadList,
    bare_header,
    cells_of,
    find_layout,
    is_row,
)
from scoring.inputs.locations import input_error, is_url, join, may_exist, open_file
from scoring.records import Fault
from serving.files import as_text

_MOST_CHARACTERS = 2**17
"""Of a row; the csv module has the same limit for a cell."""

_HEAD_LINES = 100
_HEAD_CHARACTERS = 2**20
_MOST_SAID = 100
_BUILT_AT_ONCE = 10_000

_LOOKED_FOR = 200
_LOOKED_FOR_BEHIND_URLS = 16
"""Files of a list, spread over it, of which one must be there."""


def table_shards(
    location: str, column: str | None, label: str | None, rows: int, _: tuple[str, ...] = ()
) -> list[FileShard]:
    """The files that a table names, in its order, in shards of so many.

    Raises:
        InputError: if the list can't be read, has no such columns, or names no file that is there.
    """
    with _opened(location) as lines:
        lines.head[:1] = map(bare_header, lines.head[:1])
        said = list(filter(is_row, lines.head)) or list(filter(str.strip, lines.head))
        if not said:
            raise _nothing(location)
        layout = find_layout(location, said, column, label)
        lines.is_comment = partial(_is_comment, location, layout)
        paths, labels = _columns(_rows(lines, layout))
    read = ReadList(location, layout, len(paths), lines.comments)
    return _shards(read, paths, None if label is None else labels, rows)


def text_shards(
    location: str, column: str | None, label: str | None, rows: int, _: tuple[str, ...] = ()
) -> list[FileShard]:
    """The files that a list with a path a line names, in its order, in shards of so many.

    Raises:
        InputError: as `table_shards`, or if the list is asked for columns.
    """
    if column is not None or label is not None:
        raise InputError(
            f"{location} is a list without columns: --column and --labels take CSV and TSV"
        )
    with _opened(location) as lines:
        lines.is_comment = lambda line: not _is_here(location, line.strip())
        paths, _ = _columns((path, "") for path in _paths(lines))
    return _shards(ReadList(location, None, len(paths), lines.comments), paths, None, rows)


class _Lines:
    """The lines of a list without comments, in bounded memory.

    Making it and iterating over it raise InputError for all that can go wrong with the file.

    Attributes:
        location: of the list.
        head: its first lines, which are among the others too.
        is_comment: whether a line that begins with # is one, where a row may begin.
        number: of the last line that was read.
        comments: lines that were left out.
    """

    def __init__(self, location: str, text: io.TextIOWrapper) -> None:
        self.location = location
        self._coming = self._read(text)
        self._characters = 0  # of a row of which not all lines are read
        self.head = list(_head(self._coming))
        self.is_comment: Callable[[str], bool] = lambda _: True
        self.number = self.comments = 0

    def __iter__(self) -> Iterator[str]:
        for line in chain(self.head, self._coming):
            self.number += 1
            if not self._characters and line.startswith("#") and self.is_comment(line):
                self.comments += 1
                continue
            self._characters += len(line)
            if self._characters >= _MOST_CHARACTERS:
                raise self.error(
                    f"a row of {_MOST_CHARACTERS:,} characters or more; is a quotation mark open?"
                )
            if "\0" in line:
                raise self.error("a zero byte: it is no text")
            yield line

    def _read(self, text: io.TextIOWrapper) -> Iterator[str]:
        try:
            yield from iter(partial(text.readline, _MOST_CHARACTERS), "")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.location} is not a list of paths as text: it is neither UTF-8 nor UTF-16: "
                "save it as UTF-8"
            ) from error
        except Exception as error:  # every file system has its own
            raise input_error(self.location, error) from error

    def end_row(self) -> None:
        """The next line begins a row."""
        self._characters = 0

    def error(self, problem: str) -> InputError:
        """The error for what is wrong in the last line."""
        return InputError(f"{self.location}, line {self.number}: {problem}")


@contextmanager
def _opened(location: str) -> Iterator[_Lines]:
    """The lines of a list for as long as this is entered; they alone read the file."""
    with open_file(location) as file:
        try:
            text = as_text(file)
        except Exception as error:  # every file system has its own
            raise input_error(location, error) from error
        with text:
            yield _Lines(location, text)


def _head(lines: Iterator[str]) -> Iterator[str]:
    """So many lines that some say something, however many comments are before them."""
    said = characters = 0
    for line in lines:
        said += is_row(line)
        characters += len(line)
        yield line
        if said == _HEAD_LINES or characters > _HEAD_CHARACTERS:
            return


def _rows(lines: _Lines, layout: ListLayout) -> Iterator[tuple[str, str]]:
    """The path and the label of each row; empty where there is none."""
    width, header = len(layout.names), layout.header
    reader = csv.reader(lines, delimiter=layout.separator, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            lines.end_row()
            if len(cells) < 2 and not "".join(cells).strip():
                continue  # a blank line
            if header:
                header = False
            elif len(cells) > width and any(cells[width:]):
                raise lines.error(
                    f"{len(cells)} cells, and there are {width} columns: a cell that holds the "
                    "separator must be in quotation marks"
                )
            else:
                yield _cell(cells, layout.path), _cell(cells, layout.label)
    except csv.Error as error:
        raise lines.error(
            f"{error}: a cell that begins with a quotation mark must end with one, and one inside "
            "it is written twice"
        ) from error


def _cell(cells: list[str], column: int | None) -> str:
    return cells[column].strip() if column is not None and column < len(cells) else ""


def _paths(lines: _Lines) -> Iterator[str]:
    for line in lines:
        lines.end_row()
        if path := line.strip():
            quoted = len(path) > 2 and path[0] == path[-1] and path[0] in "\"'"
            yield path[1:-1] if quoted and not _is_here(lines.location, path) else path


def _is_comment(location: str, layout: ListLayout, line: str) -> bool:
    cells = cells_of([line], layout.separator)[0]
    return len(cells) <= layout.path or not _is_here(location, cells[layout.path].strip())


def _is_here(location: str, path: str) -> bool:
    """Whether a list names a file of this machine; others would cost a request each."""
    file = join(location, path)
    if isinstance(file, Fault) or is_url(file):
        return False
    return os.path.isfile(file)  # noqa: PTH113 a name may hold anything


def _columns(rows: Iterator[tuple[str, str]]) -> tuple[pa.Array, pa.Array]:
    """The paths, large_binary [N], and the labels, large_string [N], both null where empty."""
    paths, labels = [], []
    while some := list(islice(rows, _BUILT_AT_ONCE)):
        paths.append(pa.array([path.encode() or None for path, _ in some], pa.large_binary()))
        labels.append(pa.array([label or None for _, label in some], pa.large_string()))
    if not paths:
        return pa.array([], pa.large_binary()), pa.array([], pa.large_string())
    return pa.concat_arrays(paths), pa.concat_arrays(labels)


def _shards(read: ReadList, paths: pa.Array, labels: pa.Array | None, rows: int) -> list[FileShard]:
    if not len(paths):
        raise _nothing(read.location)
    _look_for_files(read, paths.drop_null())
    return file_shards(paths, rows, labels=labels, of=read)


def _look_for_files(read: ReadList, paths: pa.Array) -> None:
    """Raise InputError if the list was read as what it is not: none of some files is there."""
    count = min(len(paths), _LOOKED_FOR)
    spread = paths.take(pa.array([i * len(paths) // count for i in range(count)], pa.int64()))
    names = [os.fsdecode(path) for path in spread.to_pylist()]
    joined = [join(read.location, name) for name in names]
    files = [file for file in joined if not isinstance(file, Fault)]
    urls = [file for file in files if is_url(file)]
    looked_for = [file for file in files if not is_url(file)] + urls[
        :: len(urls) // _LOOKED_FOR_BEHIND_URLS + 1
    ]
    if len(files) < len(joined) or any(map(may_exist, looked_for)):
        return  # what a list may not name is told row by row
    such_as = f", such as {names[0][:_MOST_SAID]!r}" if names else ""
    from_here = not is_url(read.location) and any(map(os.path.isfile, names))
    raise InputError(
        f"{read.location} names no file that is there: {len(looked_for)} looked for{such_as}. "
        f"It was read as {read.how()}: if it is something else, give --column, or write it as CSV "
        "with a header. Relative paths start at the folder of the list"
        f"{': move it to the working directory, where these are there' if from_here else ''}"
    )


def _nothing(location: str) -> InputError:
    return InputError(f"there is nothing to score: {location} names no images")
