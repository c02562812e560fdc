"""The output folder of a run: what run it is, which parts are done, and that nobody else writes.

`_run.json` is written before any part and says what the run is. `_journal.jsonl` gets a line after
each part's file is in its place. A part is done if it has a line and its file has the size that the
line says; any other is scored anew and replaced, so a run may end anywhere.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from scoring.errors import InputError, OutputError
from scoring.inputs.identity import InputFiles
from scoring.layout import (
    INPUTS_FILE,
    JOURNAL_FILE,
    LOCK_FILE,
    PARTS_FOLDER,
    RUN_FILE,
    SUMMARY_FILE,
    holds_others,
    is_temporary,
    written_files,
)
from scoring.parts import PartKey
from scoring.summary import RowCounts
from serving.files import replacing


@dataclass(frozen=True)
class DonePart:
    """A part in its place: its file's size, whether its shard ends with it, and what is in it."""

    shard: int
    number: int
    bytes: int
    last: bool
    counts: RowCounts

    @property
    def key(self) -> PartKey:
        """Which part it is."""
        return PartKey(self.shard, self.number)


LINE = TypeAdapter(DonePart)
"""Writes and reads parts as lines of the journal."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other runs out of it while entered.

    Raises:
        OutputError: if it can't be made or written, or another run is writing into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("wb")
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {error.strerror}") from error
    with file:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 not on Windows

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError(f"another run is writing into {folder}") from error
        yield


def read_run(folder: Path) -> dict[str, Any] | None:
    """What run the folder holds; None for a folder without any.

    Raises:
        OutputError: if it holds something else.
    """
    try:
        found = json.loads((folder / RUN_FILE).read_bytes())
    except FileNotFoundError:
        if holds_others(folder):
            raise OutputError(
                f"{folder} is not empty and holds no {RUN_FILE}: name another folder"
            ) from None
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder / RUN_FILE} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise OutputError(f"{folder / RUN_FILE} holds no run")
    return found


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Say what run this is, before anything else is written."""
    _write_json(folder / RUN_FILE, run)


def write_inputs(folder: Path, files: InputFiles) -> None:
    """Keep by what the inputs are known again, before there is a run."""
    path = folder / INPUTS_FILE
    try:
        files.write(path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from error


def read_inputs(folder: Path) -> InputFiles:
    """By what the inputs of the run in the folder are known again.

    Raises:
        OutputError: if that can't be read.
    """
    try:
        return InputFiles.read(folder / INPUTS_FILE)
    except InputError as error:
        raise OutputError(f"{error}; --overwrite begins again") from error


def write_summary(folder: Path, found: Mapping[str, Any]) -> None:
    """Write the summary, which also says that the run is finished."""
    _write_json(folder / SUMMARY_FILE, found)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run."""
    try:
        found = json.loads((folder / SUMMARY_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def clear(folder: Path) -> None:
    """Remove what a run has written, its `_run.json` last."""
    for path in sorted(written_files(folder), key=lambda path: path.name == RUN_FILE):
        path.unlink()
    with suppress(OSError):  # somebody's files are in there too
        (folder / PARTS_FOLDER).rmdir()


def remove_leftovers(folder: Path) -> None:
    """Remove files that a run was writing when it was killed."""
    for path in folder.iterdir():
        if is_temporary(path):
            path.unlink(missing_ok=True)  # a worker that still runs may rename it


def done_parts(folder: Path, parts: Path) -> dict[PartKey, DonePart]:
    """The parts that are done, of a run whose parts are in a folder `parts`."""
    found: dict[PartKey, DonePart] = {}
    try:
        lines = (folder / JOURNAL_FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            part = LINE.validate_json(line)
        except ValueError:
            continue  # torn when the run was killed: its part is scored anew
        found[part.key] = part
    return {key: part for key, part in found.items() if _size(parts / key.file_name) == part.bytes}


class Journal:
    """Adds parts to the journal, which have a folder while it is entered."""

    def __init__(self, folder: Path) -> None:
        self._parts = folder / PARTS_FOLDER
        self._path = folder / JOURNAL_FILE

    def __enter__(self) -> Journal:
        try:
            self._parts.mkdir(exist_ok=True)
            self._file = self._path.open("ab")
        except OSError as error:
            raise OutputError(f"{error.filename} can't be written: {error.strerror}") from error
        # A line that was torn must not make the next one unreadable too.
        if self._file.tell() and not self._path.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, part: DonePart) -> None:
        """Add a line, which is on the disk when this returns.

        Raises:
            OutputError: if it can't be written.
        """
        try:
            self._file.write(LINE.dump_json(part) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self._path} can't be written: {error.strerror}; the same command goes on"
            ) from error


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    try:
        with replacing(path) as file:
            file.write((json.dumps(values, indent=2) + "\n").encode())
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from error


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
