"""How a list of files is laid out: its separator, its header, and which columns are read."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from scoring.errors import InputError

PATH_COLUMNS = (
    *("path", "file", "filename", "image", "url"),
    *("file_name", "filepath", "file_path", "image_path", "image_file", "img_path", "image_url"),
)
"""What a header calls the paths, in any case; the first of these that it has."""

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

_NO_SEPARATOR = "\x1f"
"""Of a list of one column: ASCII's unit separator, for the csv module wants one."""

_MOST_SHOWN = 200
"""Characters of a row, in an error."""

_PATH = re.compile(r"(?s)[a-z][a-z0-9+.-]*://.+|.*[^./]\.[a-z][a-z0-9]{1,4}", re.IGNORECASE)
"""What looks like a file: a URL, or a name with an ending."""


@dataclass(frozen=True)
class ListLayout:
    """Where in a row the path and the label are.

    Attributes:
        separator: between the cells.
        header: whether the first row names the columns.
        names: of the columns, as the first row has them; their numbers from 1 without a header.
        path: the number of the column of paths, from 0.
        label: of that of the labels; None where they are not read.
    """

    separator: str
    header: bool
    names: tuple[str, ...]
    path: int
    label: int | None

    def about(self) -> dict[str, object]:
        """In words, for a run's record; columns by their names, or numbers from 1."""
        return {
            "separator": SEPARATORS.get(self.separator),
            "header": self.header,
            "column": self.names[self.path],
            "labels": None if self.label is None else self.names[self.label],
        }


@dataclass(frozen=True)
class ReadList:
    """A list, and how it was read.

    Attributes:
        location: its path or URL.
        layout: None for a path a line.
        rows: how many.
        comments: lines that were left out.
    """

    location: str
    layout: ListLayout | None
    rows: int
    comments: int

    def about(self) -> dict[str, object]:
        """For a run's record."""
        layout = {} if self.layout is None else self.layout.about()
        return {"list": self.location, "rows": self.rows, "comments": self.comments, **layout}

    def __str__(self) -> str:
        rows = f"{self.location}: {_counted(self.rows, 'row')}"
        comments = [f"{_counted(self.comments, 'comment')} left out"] if self.comments else []
        return ", ".join([rows, *comments, self.how()])

    def how(self) -> str:
        """What its lines were taken for."""
        if self.layout is None:
            return "a path a line"
        separator = SEPARATORS.get(self.layout.separator)
        about = [
            f"separated by {separator}" if separator else "one column",
            "with a header" if self.layout.header else "without a header",
            f"paths in {self._column(self.layout, self.layout.path)}",
        ]
        if self.layout.label is not None:
            about.append(f"labels in {self._column(self.layout, self.layout.label)}")
        return ", ".join(about)

    @staticmethod
    def _column(layout: ListLayout, column: int) -> str:
        return repr(layout.names[column][:_MOST_SHOWN]) if layout.header else f"column {column + 1}"


def find_layout(
    location: str, lines: Sequence[str], column: str | None, label: str | None
) -> ListLayout:
    """The layout of a list.

    Args:
        location: of the list, for errors; where it ends in .tsv, a tab is tried first.
        lines: its first ones, without comments; at least one.
        column: of the paths, by its name in any case or its number from 1; None to find it.
        label: of the labels, likewise; None if they are not read.

    Raises:
        InputError: if it has no such columns, or none or several that hold paths.
    """
    asked = {_plain(name) for name in (column, label) if name is not None and not name.isdigit()}
    rows, separator = _separated(lines, asked, tab_first=location.lower().endswith(".tsv"))
    header = _has_header(rows, asked)
    first = tuple(cell.strip() for cell in rows[0])
    names = first if header else tuple(str(i + 1) for i in range(_width(rows, asked)))
    found = f"{'it has' if header else 'its first row is'} {_shown(first)}"
    path = _path_column(location, names, rows[header:], column, found)
    label_at = None if label is None else _asked(location, names, label, " for --labels", found)
    return ListLayout(separator, header, names, path, label_at)


def _separated(
    lines: Sequence[str], asked: set[str], *, tab_first: bool
) -> tuple[list[list[str]], str]:
    """The rows by the separator that fits best: it sets paths apart, and rows are equally long."""
    best: tuple[tuple[bool, float], list[list[str]], str] | None = None
    for separator in sorted(SEPARATORS, key=lambda each: tab_first and each != "\t"):
        rows = cells_of(lines, separator)
        width = _width(rows, asked)
        if width > 1:
            telling = _is_known(rows[0], asked) or bool(_columns_of_paths(rows[1:] or rows))
            alike = sum(len(row) == width for row in rows) / len(rows)
            if best is None or best[0] < (telling, alike):
                best = (telling, alike), rows, separator
    if best is None:
        return cells_of(lines, _NO_SEPARATOR), _NO_SEPARATOR
    return best[1:]


def cells_of(lines: Iterable[str], separator: str) -> list[list[str]]:
    """The cells of rows, at least of one, as far as quotation marks are right."""
    # Not strict: the last line may be the first half of a quoted cell.
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    rows: list[list[str]] = []
    with suppress(csv.Error):  # of a cell that is too long; whoever reads the list says where
        for row in reader:
            rows += [row] if row else []
    return rows or [[""]]


def _width(rows: Sequence[Sequence[str]], asked: set[str]) -> int:
    """Cells of a row: of the header if it is known for one, else of most rows."""
    if _is_known(rows[0], asked):
        return len(rows[0])
    return Counter(map(len, rows)).most_common(1)[0][0]


def _has_header(rows: Sequence[Sequence[str]], asked: set[str]) -> bool:
    if _is_known(rows[0], asked):
        return True
    # Unknown names are a header only if they look like no files, and the rows below do.
    return not any(map(_is_path, rows[0])) and bool(_columns_of_paths(rows[1:]))


def _is_known(row: Sequence[str], asked: set[str]) -> bool:
    """Whether a first row names paths, or what was asked for and no file (a label may be both)."""
    names = set(map(_plain, row))
    return bool(names & set(PATH_COLUMNS)) or (
        not names.isdisjoint(asked) and not any(map(_is_path, row))
    )


def _columns_of_paths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Columns in which all that is written looks like files."""
    cells: dict[int, list[str]] = {}
    for row in rows:
        for i, cell in enumerate(row):
            if cell.strip():
                cells.setdefault(i, []).append(cell)
    return sorted(i for i, column in cells.items() if all(map(_is_path, column)))


def _path_column(
    location: str, names: tuple[str, ...], rows: list[list[str]], column: str | None, found: str
) -> int:
    if column is not None:
        return _asked(location, names, column, "", found)
    plain = [_plain(name) for name in names]
    known = [plain.index(name) for name in PATH_COLUMNS if name in plain]
    if known or len(names) == 1:
        return (known or [0])[0]
    paths = [i for i in _columns_of_paths(rows) if i < len(names)]
    if len(paths) == 1:
        return paths[0]
    raise InputError(
        f"{location} has none of the columns {', '.join(PATH_COLUMNS)}: name the one with the "
        f"paths by --column, or give its number; {found}"
    )


def _asked(location: str, names: tuple[str, ...], name: str, flag: str, found: str) -> int:
    """The number of a column, by its name, its name in another case, or its number from 1."""
    for same in (str, _plain):
        matches = [i for i, each in enumerate(names) if same(each) == same(name)]
        if len(matches) > 1:
            raise InputError(f"{location} has {len(matches)} columns {name!r}{flag}; {found}")
        if matches:
            return matches[0]
    if re.fullmatch("[0-9]{1,4}", name) and 0 < int(name) <= len(names):
        return int(name) - 1
    raise InputError(f"{location} has no column {name!r}{flag}; {found}")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _shown(cells: Iterable[str]) -> str:
    shown = ", ".join(cell if cell.isprintable() else repr(cell) for cell in cells)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]} .."


def _plain(name: str) -> str:
    return name.strip().casefold()


def _is_path(cell: str) -> bool:
    return _PATH.fullmatch(cell.strip()) is not None


def bare_header(line: str) -> str:
    """A first line without the # before it, if it is a header all the same; else as it is."""
    bare = line.lstrip("# ")
    cells = re.split("[,;|\t]", bare)
    return bare if line.startswith("#") and {*map(_plain, cells)} & {*PATH_COLUMNS} else line


def is_row(line: str) -> bool:
    """Whether a line says something, and is no comment."""
    return bool(line.strip()) and not line.startswith("#")
