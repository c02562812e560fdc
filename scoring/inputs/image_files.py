"""Image files, by paths or URLs: of a folder, of a glob, or as a list names them."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scoring.errors import InputError
from scoring.inputs.list_layout import ReadList
from scoring.inputs.locations import is_url, join, local_path, read_image, stamp
from scoring.records import Fault, FaultKind, Record, Shard, TrueLabel

_LOCAL_THREADS = 4
_REMOTE_THREADS = 16
_AHEAD = 2
"""Files that are read ahead, for each thread."""

_BUILT_AT_ONCE = 10_000


def path_array(paths: Iterable[str]) -> pa.Array:
    """Paths as Arrow keeps them, in the space of their letters; names need not be Unicode."""
    coming = map(os.fsencode, paths)
    parts = []
    while some := list(islice(coming, _BUILT_AT_ONCE)):
        parts.append(pa.array(some, pa.large_binary()))
    return pa.concat_arrays(parts) if parts else pa.array([], pa.large_binary())


def sorted_paths(paths: Iterable[str]) -> pa.Array:
    """Paths in the order of their bytes, each once."""
    found = path_array(paths)
    return pc.unique(found.take(pc.sort_indices(found)))


@dataclass(frozen=True)
class FileShard:
    """Some image files, in order.

    Attributes:
        paths: large_binary [N].
        labels: any Arrow type [N], or None.
        listed: the list that names the files and the first one's row there; None for files that
            were named by themselves.
        label_from_folder: whether the folder that holds a file is its label.
    """

    paths: Any
    labels: Any = None
    listed: tuple[ReadList, int] | None = None
    label_from_folder: bool = False

    @property
    def rows(self) -> int:
        """How many files."""
        return len(self.paths)

    def read(self, skip: int = 0) -> Iterator[Record]:
        """Read the files, several at a time."""
        paths = [path and os.fsdecode(path) for path in self.paths.slice(skip).to_pylist()]
        labels = self._labels(paths, skip)
        images = read_ahead([path and self._location(path) for path in paths])
        rows = zip(paths, labels, images, strict=True)
        for row, (path, label, image) in enumerate(rows, start=skip):
            yield Record(self._id(path or "", row), path, image, label)

    def stamps(self) -> Iterator[str]:
        """What changes when one of the files does; empty for those elsewhere or not there."""
        for path in self.paths.to_pylist():
            location = path and self._location(os.fsdecode(path))
            local = local_path(location) if isinstance(location, str) else None
            try:
                yield stamp(local) if local else ""
            except InputError:
                yield ""

    def _labels(self, paths: Sequence[str], skip: int) -> Iterable[TrueLabel | None]:
        if self.labels is not None:
            found: list[TrueLabel | None] = self.labels.slice(skip).to_pylist()
            return found
        if self.label_from_folder:
            return (path.rpartition("/")[0].rpartition("/")[2] or None for path in paths)
        return repeat(None, len(paths))

    def _location(self, path: str) -> str | Fault:
        return path if self.listed is None else join(self.listed[0].location, path)

    def _id(self, path: str, row: int) -> str:
        if self.listed is None:
            return path
        of, first = self.listed
        return f"{of.location}#{first + row}"

    def __getstate__(self) -> dict[str, Any]:
        # A slice would be pickled with all that it is a slice of.
        copied = {
            name: None if (array := getattr(self, name)) is None else pa.concat_arrays([array])
            for name in ("paths", "labels")
        }
        return {**self.__dict__, **copied}


def file_shards(
    paths: pa.Array,
    rows: int,
    *,
    labels: pa.Array | None = None,
    of: ReadList | None = None,
    label_from_folder: bool = False,
) -> list[FileShard]:
    """Files in shards of so many; see `FileShard`."""
    return [
        FileShard(
            paths.slice(start, rows),
            None if labels is None else labels.slice(start, rows),
            None if of is None else (of, start),
            label_from_folder,
        )
        for start in range(0, len(paths), rows)
    ]


def lists_behind(shards: Iterable[Shard]) -> tuple[ReadList, ...]:
    """The lists that shards were made of, each once."""
    listed = (shard.listed for shard in shards if isinstance(shard, FileShard))
    return tuple(dict.fromkeys(each[0] for each in listed if each is not None))


def stamps_of_listed(shards: Iterable[Shard]) -> dict[str, str]:
    """By a list's location, SHA-256 of what the files of this machine are like that it names."""
    digests: dict[str, Any] = {}
    for shard in shards:
        if isinstance(shard, FileShard) and shard.listed is not None:
            digest = digests.setdefault(shard.listed[0].location, hashlib.sha256())
            for each in shard.stamps():
                digest.update(each.encode() + b"\0")
    return {location: digest.hexdigest() for location, digest in digests.items()}


def read_ahead(locations: Sequence[str | Fault | None]) -> Iterator[bytes | Fault]:
    """The content of files in order; some are read while others are waited for."""
    remote = any(isinstance(location, str) and is_url(location) for location in locations)
    threads = _REMOTE_THREADS if remote else _LOCAL_THREADS
    coming = iter(locations)
    waiting: deque[Future[bytes | Fault]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ride-read") as pool:
        waiting.extend(pool.submit(_read, each) for each in islice(coming, threads * _AHEAD))
        try:
            while waiting:
                image = waiting.popleft().result()
                waiting.extend(pool.submit(_read, each) for each in islice(coming, 1))
                yield image
        finally:
            for future in waiting:
                future.cancel()


def _read(location: str | Fault | None) -> bytes | Fault:
    if isinstance(location, Fault):
        return location
    if not location:
        return Fault(FaultKind.MISSING, "the list names no file here")
    return read_image(location)
