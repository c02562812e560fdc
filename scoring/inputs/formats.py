"""The formats of inputs: a new one is a module of this folder, and a line in `FORMATS`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scoring.inputs.lists import table_shards, text_shards
from scoring.inputs.locations import is_url
from scoring.inputs.parquet import parquet_shards
from scoring.inputs.webdataset import tar_shards
from scoring.records import Shard


@dataclass(frozen=True)
class InputFormat:
    """Files that hold many images, or name them.

    Attributes:
        suffixes: what their names end in.
        open: a file's shards, of its path or URL, `--column`, `--labels`, the rows of a shard as
            far as it can be divided so, and what names of images end in; raises InputError for
            what can't be read.
        in_folders: whether they are looked for in a folder; else they must be named, or by a glob.
        hidden: how names of files and folders begin that only those who wrote them should read.
    """

    suffixes: tuple[str, ...]
    open: Callable[[str, str | None, str | None, int, tuple[str, ...]], Sequence[Shard]]
    in_folders: bool = True
    hidden: tuple[str, ...] = ()

    def is_hidden(self, names: Iterable[str]) -> bool:
        """Whether one of these names begins so; `_year=2026` is a folder of Hive's."""
        return any(
            name.startswith(self.hidden) and not (name.startswith("_") and "=" in name)
            for name in names
        )


TAR_SUFFIXES = (
    *(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz"),
    *(".tar.lzma", ".tlz", ".tar.zst", ".tzst"),
)

FORMATS = (
    InputFormat((".parquet", ".pq"), parquet_shards, hidden=("_", ".")),  # as Spark and Arrow do
    InputFormat(TAR_SUFFIXES, tar_shards),
    # In a folder, these are more often something else.
    InputFormat((".csv", ".tsv"), table_shards, in_folders=False),
    InputFormat((".txt",), text_shards, in_folders=False),
)

_ENDS = "|".join(re.escape(suffix) for each in FORMATS for suffix in each.suffixes)
PATTERN = rf"(?is)(^[a-z0-9+.-]+://[^?#]*({_ENDS})([?#].*)?$|({_ENDS})$)"
"""Finds files of all formats; a URL may have more behind its path. All else is an image."""


def suffixes(*, in_folders: bool) -> tuple[str, ...]:
    """Those of formats that are looked for in folders, or of those that must be named."""
    wanted = (each for each in FORMATS if each.in_folders == in_folders)
    return tuple(suffix for each in wanted for suffix in each.suffixes)


def input_format(location: str) -> InputFormat:
    """That of a file which `PATTERN` finds: by its path, else by the end of its URL."""
    path = re.split("[?#]", location, maxsplit=1)[0] if is_url(location) else location
    ends = (path.lower(), location.lower())
    return next(each for end in ends for each in FORMATS if end.endswith(each.suffixes))
