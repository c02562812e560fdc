"""By what input files are known again: where each is, however it is named, and what it was like."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.errors import InputError, one_line
from scoring.inputs.locations import local_path, stamp
from scoring.layout import PART_PATTERN, PARTS_FOLDER, RUN_FILE
from serving.files import replacing

_AT_ONCE = 10_000
_SCHEMA = pa.schema({"place": pa.large_binary(), "stamp": pa.string()})


@dataclass(frozen=True)
class InputFiles:
    """Files in the order of the inputs.

    Attributes:
        places: large_binary [N], absolute paths or URLs, each once.
        stamps: string [N], what changes when a file does; null where it costs too much to ask.
    """

    places: pa.Array
    stamps: pa.Array

    def write(self, path: Path) -> None:
        """Keep them in a file; `read` gives them back.

        Raises:
            OSError: if it can't be written.
        """
        table = pa.table([self.places, self.stamps], schema=_SCHEMA)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            replacing(path) as file,
            pa.ipc.new_file(file, _SCHEMA, options=options) as writer,
        ):
            writer.write_table(table, _AT_ONCE)

    @classmethod
    def read(cls, path: Path) -> InputFiles:
        """What `write` wrote.

        Raises:
            InputError: if it can't be read.
        """
        try:
            with path.open("rb") as file:
                table = pa.ipc.open_file(file).read_all()
            table.validate(full=True)
            if table.schema != _SCHEMA:
                raise InputError(f"{path} can't be read: it holds {', '.join(table.column_names)}")
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path} can't be read: {one_line(error)}") from error
        return cls(*(pa.concat_arrays(column.chunks) for column in table.columns))

    def others_in(self, now: InputFiles) -> str | None:
        """What files are new or gone, in a sentence's words; None where they are the same."""
        if self.places.equals(now.places):
            return None
        new = now.places.filter(pc.invert(pc.is_in(now.places, self.places)))
        gone = self.places.filter(pc.invert(pc.is_in(self.places, now.places)))
        found = [
            f"{len(files):,} {what}, such as {_name(files[0])}"
            for files, what in ((new, "new"), (gone, "gone"))
            if len(files)
        ]
        return ", and ".join(found) or "the same in another order"

    def rewritten_in(self, now: InputFiles) -> str | None:
        """Which files, all of them the same, have other sizes or dates; None where none has."""
        differs = pc.not_equal(self.stamps, now.stamps).fill_null(False)
        stamps = (
            (int(i), self.stamps[int(i)].as_py(), now.stamps[int(i)].as_py())
            for i in np.flatnonzero(differs.to_numpy(zero_copy_only=False))
        )
        # Runs of earlier versions know nothing of the files that a list names.
        differ = [(i, was, its) for i, was, its in stamps if not its.startswith(f"{was} ")]
        if not differ:
            return None
        first, was, its = differ[0]
        more = f" and {len(differ) - 1:,} more" if len(differ) > 1 else ""
        return f"{_name(now.places[first])} ({_how_they_differ(was, its)}){more}"


def _how_they_differ(was: str, now: str) -> str:
    sizes = was.partition(" ")[0], now.partition(" ")[0]
    if sizes[0] != sizes[1]:
        return f"{sizes[0]} bytes, now {sizes[1]}"
    if was.count(" ") > 1 and was.rpartition(" ")[0] == now.rpartition(" ")[0]:
        return "files that it names"
    return "of the same size"


def without_scored_parts(paths: pa.Array, arguments: Sequence[str]) -> pa.Array:
    """Paths but for parts that `ride score` wrote, in output folders of this machine.

    Those that an argument names itself stay.
    """
    named = {os.fsencode(argument) for argument in arguments}
    called_so = pc.match_substring_regex(paths, rf"(^|/){PART_PATTERN}$")
    kept = np.ones(len(paths), dtype=bool)
    for i in np.flatnonzero(called_so.to_numpy(zero_copy_only=False)):
        path = paths[int(i)].as_py()
        kept[i] = path in named or not _is_scored_part(os.fsdecode(path))
    return paths.filter(pa.array(kept))


def _is_scored_part(path: str) -> bool:
    local = local_path(path)
    if local is None:
        return False
    folder = Path(local).resolve().parent
    in_parts = folder.name == PARTS_FOLDER and (folder.parent / RUN_FILE).is_file()
    return in_parts or (folder / RUN_FILE).is_file()  # as runs of layout 1 have it


def distinct_files(paths: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The first name of each file, and where it is: large_binary [N] both.

    A link is a file of its own; a folder is the same however links lead to it.
    """
    folder = lru_cache(4096)(os.path.realpath)

    def place(path: bytes) -> bytes:
        local = local_path(os.fsdecode(path))
        if local is None:
            return path
        above, name = os.path.split(local)
        return os.fsencode(os.path.join(folder(above), name))  # noqa: PTH118 a million of them

    places = _each(paths, place, pa.large_binary())
    codes = places.dictionary_encode().indices.to_numpy()
    first = pa.array(np.sort(np.unique(codes, return_index=True)[1]))
    return paths.take(first), places.take(first)


def stamps_of(
    paths: pa.Array, is_container: pa.Array, of_listed: Mapping[str, str] | None = None
) -> pa.Array:
    """The stamps of files, string [N]: a container's always, an image's on this machine alone.

    A list's ends in what is known of the files that it names (`stamps_of_listed`).

    Raises:
        InputError: if a container can't be looked at.
    """
    listed = of_listed or {}
    containers = set(paths.filter(is_container).to_pylist())

    def stamped(path: bytes) -> str | None:
        location = os.fsdecode(path)
        local = local_path(location)
        if path in containers:
            its = stamp(local or location)
            return f"{its} {listed[location]}" if location in listed else its
        try:
            return None if local is None else stamp(local)
        except InputError:  # then it is a row with an error
            return None

    return _each(paths, stamped, pa.string())


def _each(paths: pa.Array, found: Callable[[bytes], object], kind: pa.DataType) -> pa.Array:
    """Some value for each path, in the space of Arrow's arrays."""

    def parts() -> Iterator[pa.Array]:
        for start in range(0, len(paths), _AT_ONCE):
            some = paths.slice(start, _AT_ONCE).to_pylist()
            yield pa.array([found(path) for path in some], kind)

    return pa.concat_arrays([pa.array([], kind), *parts()])


def _name(place: pa.Scalar) -> str:
    return os.fsdecode(place.as_py())
