"""The files of an output folder, and what they are called.

    out/
    |-- parts/            part-<shard>-<number>.parquet: readers of folders find nothing else
    |-- _run.json         what run it is
    |-- _inputs.arrow     which files it was begun with, and what they were like
    |-- _journal.jsonl    a line for each part that is in its place
    |-- _summary.json     once it is finished
    `-- .lock, .*         that somebody writes, and what is being written

Runs of layout 1 had no `layout` in their `_run.json`, and their parts beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoring.errors import OutputError

LAYOUT = 2
PARTS_FOLDER = "parts"
RUN_FILE = "_run.json"
INPUTS_FILE = "_inputs.arrow"
JOURNAL_FILE = "_journal.jsonl"
SUMMARY_FILE = "_summary.json"
LOCK_FILE = ".lock"
PART_PATTERN = r"part-\d{5,}-\d{5,}\.parquet"
"""Of the names of parts."""

_PART = re.compile(PART_PATTERN)
_NAMED = (RUN_FILE, INPUTS_FILE, JOURNAL_FILE, SUMMARY_FILE)
_TEMPORARY = re.compile(rf"\.(part-|{'|'.join(map(re.escape, _NAMED))}).*")


def part_name(shard: int, number: int) -> str:
    """Of a part's file; names sort as the inputs do."""
    return f"part-{shard:07}-{number:05}.parquet"


def parts_folder(folder: Path, run: Mapping[str, Any]) -> Path:
    """Where the parts of a run are, by its `_run.json`.

    Raises:
        OutputError: if a later version of ride wrote it.
    """
    layout = run.get("layout", 1)
    if layout not in (1, LAYOUT):
        raise OutputError(f"{folder} was written by a later version of ride: use that one")
    return folder if layout == 1 else folder / PARTS_FOLDER


def is_temporary(path: Path) -> bool:
    """Whether it is a file of an output folder that was being written when its run was killed."""
    return bool(_TEMPORARY.fullmatch(path.name))


def written_files(folder: Path) -> list[Path]:
    """All files of a run in its output folder, whatever its layout, but for the lock."""
    parts = [path for path in _files(folder / PARTS_FOLDER) if _PART.fullmatch(path.name)]
    return [*parts, *(path for path in folder.iterdir() if _is_ours(path))]


def holds_others(folder: Path) -> bool:
    """Whether a folder without a `_run.json` holds files that may be somebody's."""
    expected = (*_NAMED, LOCK_FILE, PARTS_FOLDER)
    others = [
        path for path in folder.iterdir() if path.name not in expected and not is_temporary(path)
    ]
    return bool(others or _files(folder / PARTS_FOLDER))


def _is_ours(path: Path) -> bool:
    return path.name in _NAMED or is_temporary(path) or bool(_PART.fullmatch(path.name))


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
