"""Which files folders and globs stand for: one rule for both. What it leaves out is counted.

Links are followed, but no folder is read twice: first all that lie there themselves, then linked
ones by their paths. So links may lead in circles, and the same tree always gives the same paths.
"""

from __future__ import annotations

import errno
import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from heapq import heappop, heappush

HIDDEN = "hidden"
MACOS = "macos_metadata"
DANGLING = "dangling_link"
AGAIN = "linked_again"
NO_FILE = "no_regular_file"
NO_ENDING = "no_ending"
OTHERS = "others"

_MACOS_FOLDER = "__MACOSX"
_LONGEST_ENDING = 10
_MOST_KINDS = 20


@dataclass(frozen=True)
class Search:
    """What is looked for in folders, and what was left out.

    Attributes:
        endings: of the files that are taken.
        by_glob: endings that files may also have which match a glob themselves.
        left_out: files and folders by kind: one of the constants above, or an ending.
    """

    endings: tuple[str, ...]
    by_glob: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)

    def takes(self, path: str, *, by_glob: bool = False) -> bool:
        """Whether a file's ending is wanted; it is counted if not."""
        name = path.lower()
        if name.endswith(self.endings) or (by_glob and name.endswith(self.by_glob)):
            return True
        ending = os.path.splitext(name)[1]  # noqa: PTH122 a million Path objects are slow
        usual = ending[1:].isascii() and ending[1:].isalnum() and len(ending) <= _LONGEST_ENDING
        self.left_out[ending if usual else OTHERS if ending else NO_ENDING] += 1
        return False

    def counts(self) -> dict[str, int]:
        """What was left out by kind, most frequent first; the rest of many kinds together."""
        found = sorted(self.left_out.items(), key=lambda each: (-each[1], each[0]))
        named, rest = dict(found[:_MOST_KINDS]), sum(count for _, count in found[_MOST_KINDS:])
        return named | {OTHERS: named.get(OTHERS, 0) + rest} if rest else named

    def told(self) -> str:
        """The counts as words to put behind a sentence; empty where nothing was left out."""
        counts = ", ".join(f"{kind} {count:,}" for kind, count in self.counts().items())
        return counts and f"; left out: {counts}"


def left_out_by_name(name: str) -> str | None:
    """The kind of a file or folder that is left out for its name; None for all others."""
    if name.startswith("._") or name == _MACOS_FOLDER:
        return MACOS
    return HIDDEN if name.startswith(".") else None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    if entry.is_symlink():
        return os.path.isdir(entry.path)  # noqa: PTH112 entry.is_dir fails where links go in circles
    return entry.is_dir(follow_symlinks=False)


def files_of(location: str, search: Search) -> Iterator[str]:
    """What a path stands for: a file, the wanted ones below a folder, or those of a glob.

    In no order; sort them. A file that is named itself is given whatever its ending.

    Raises:
        OSError: if there is no such thing, or a folder can't be listed; a sentence is its reason.
    """
    if os.path.isdir(location):  # noqa: PTH112 a path need not be Unicode
        yield from _Walk(search, None).files([location])
    elif os.path.exists(location):  # noqa: PTH110
        yield location
    elif glob.has_magic(location):
        yield from _files_of_glob(location, search)
    else:
        raise FileNotFoundError(errno.ENOENT, f"there is no folder, file or glob {location}")


def _files_of_glob(pattern: str, search: Search) -> Iterator[str]:
    """The wanted files that match, and those below folders that match."""
    parts = pattern.split("/")
    if "**" in parts:
        pattern_below = _PatternBelow.of(parts)
        yield from _Walk(search, pattern_below).files(pattern_below.roots())
        return
    walk, folders = _Walk(search, None), []
    for path in glob.iglob(pattern):  # noqa: PTH207 names need not be Unicode
        if _MACOS_FOLDER in path.split("/") and _MACOS_FOLDER not in parts:
            search.left_out[MACOS] += 1
        elif os.path.isdir(path):  # noqa: PTH112
            folders.append(path)
            walk.pass_over(os.path.dirname(path) or ".")  # noqa: PTH120
        elif (kind := _no_file(path)) is not None:
            search.left_out[kind] += 1
        elif search.takes(path, by_glob=True):
            yield path
    yield from walk.files(folders)


@dataclass(frozen=True)
class _PatternBelow:
    """A glob with `**`.

    Attributes:
        prefix: what is before it; names the folders that are searched.
        depth: of these folders, in names.
        parts: the others, from `**` on.
    """

    prefix: str
    depth: int
    parts: tuple[str, ...]

    @classmethod
    def of(cls, parts: Sequence[str]) -> _PatternBelow:
        depth = parts.index("**")
        return cls("/".join(parts[:depth]), depth, tuple(parts[depth:]))

    @property
    def names_hidden(self) -> bool:
        """Whether it asks for hidden files or folders."""
        return any(part.startswith(".") for part in self.parts)

    def roots(self) -> Iterator[str]:
        if self.depth == 0:
            return iter(["."])
        return filter(os.path.isdir, glob.iglob(self.prefix) if self.prefix else ["/"])  # noqa: PTH207

    def path(self, found: str) -> str:
        """As the pattern would begin it."""
        return found.removeprefix("./") if self.depth == 0 else found

    def match(self, path: str) -> bool | None:
        """Whether a file matches itself, not only a folder that it lies in; None if neither."""
        names = [name for name in path.split("/")[self.depth :] if name]
        if _matches(names, self.parts):
            return self.parts[-1] != "**"
        inside = any(_matches(names[:n], self.parts) for n in range(1, len(names)))
        return False if inside else None


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**" and _matches(names, parts[1:]):
        return True
    if not names or (names[0].startswith(".") and not parts[0].startswith(".")):
        return False
    if parts[0] == "**":
        return _matches(names[1:], parts)
    return fnmatchcase(names[0], parts[0]) and _matches(names[1:], parts[1:])


class _Walk:
    """Goes through folders, each of them once."""

    def __init__(self, search: Search, pattern: _PatternBelow | None) -> None:
        self._search = search
        self._pattern = pattern
        self._pending: list[str] = []
        self._links: list[str] = []
        self._seen: set[tuple[int, int]] = set()

    def files(self, folders: Iterable[str]) -> Iterator[str]:
        for folder in folders:
            self._add(folder, linked=os.path.islink(folder))  # noqa: PTH114
        while self._pending or self._links:
            folder = self._pending.pop() if self._pending else heappop(self._links)
            try:
                if self._is_new(folder):
                    yield from self._files_in(folder)
            except OSError as error:  # else a folder that can't be read would be passed over
                reason = f"{folder} can't be listed: {error.strerror}"
                raise OSError(error.errno, reason) from error

    def pass_over(self, folder: str) -> None:
        """Follow no link to a folder that is searched already, by a glob."""
        with suppress(OSError):  # it is gone meanwhile
            self._seen.add(_identity(folder))

    def _add(self, folder: str, *, linked: bool) -> None:
        if linked:
            heappush(self._links, folder)
        else:
            self._pending.append(folder)

    def _is_new(self, folder: str) -> bool:
        identity = _identity(folder)
        if identity in self._seen:
            self._search.left_out[AGAIN] += 1
            return False
        self._seen.add(identity)
        return True

    def _files_in(self, folder: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_folder(entry):
                    self._enter(entry)
                elif self._takes(entry):
                    yield entry.path if self._pattern is None else self._pattern.path(entry.path)

    def _enter(self, entry: os.DirEntry[str]) -> None:
        if (kind := self._left_out_by_name(entry.name)) is None:
            self._add(entry.path, linked=entry.is_symlink())
        else:
            self._search.left_out[kind] += 1

    def _takes(self, entry: os.DirEntry[str]) -> bool:
        by_glob = self._match(entry.path)
        if by_glob is None:
            return False
        kind = self._left_out_by_name(entry.name)
        if kind is None and not entry.is_file(follow_symlinks=False):
            kind = _no_file(entry.path)
        if kind is None:
            return self._search.takes(entry.name, by_glob=by_glob)
        self._search.left_out[kind] += 1
        return False

    def _match(self, path: str) -> bool | None:
        return False if self._pattern is None else self._pattern.match(self._pattern.path(path))

    def _left_out_by_name(self, name: str) -> str | None:
        if self._pattern is not None and self._pattern.names_hidden and name.startswith("."):
            return None
        return left_out_by_name(name)


def _identity(folder: str) -> tuple[int, int]:
    """The same by whatever links it is reached."""
    found = os.stat(folder)  # noqa: PTH116
    return found.st_dev, found.st_ino


def _no_file(path: str) -> str | None:
    """The kind of what is no file, or None."""
    if os.path.isfile(path):  # noqa: PTH113
        return None
    return NO_FILE if os.path.exists(path) else DANGLING  # noqa: PTH110
