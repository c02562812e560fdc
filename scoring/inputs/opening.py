"""INPUT arguments -> shards: what kind each is, what is in it, and by what it is known again."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import pyarrow as pa
import pyarrow.compute as pc

from scoring.errors import InputError
from scoring.inputs.formats import PATTERN, input_format, suffixes
from scoring.inputs.identity import InputFiles, distinct_files, stamps_of, without_scored_parts
from scoring.inputs.image_files import file_shards, lists_behind, sorted_paths, stamps_of_listed
from scoring.inputs.list_layout import ReadList
from scoring.inputs.locations import expand, is_url
from scoring.records import Shard
from serving.images.folders import HIDDEN, Search
from serving.images.formats import IMAGE_SUFFIXES

FOLDER_LABELS = "folder"
"""`--labels` for image files: the name of the folder that a file lies in."""

SCORED_PARTS = "scored_parts"
"""The kind, among what is left out, of what `ride score` wrote itself."""

_HASHED_AT_ONCE = 10_000


@dataclass(frozen=True)
class Inputs:
    """All that is to be scored.

    Attributes:
        shards: in the order of the output.
        images: how many there are, if that is known before they are read.
        listing: SHA-256 of what they are called and how they are divided into shards.
        files: where they are, and what they are like.
        repeated: files that were named more than once, and are scored once.
        lists: the lists of files among them, and how they were read.
        left_out: files and folders that the arguments' folders and globs hold besides, by kind.
    """

    shards: Sequence[Shard]
    images: int | None
    listing: str
    files: InputFiles
    repeated: int
    lists: Sequence[ReadList]
    left_out: Mapping[str, int]


def open_inputs(
    arguments: Sequence[str],
    column: str | None,
    labels: str | None,
    shard_rows: int,
    image_suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
) -> Inputs:
    """Find out what there is to score; nothing but names, lists and headers is read.

    Args:
        arguments: folders, globs, files and URLs.
        column: of the images in Parquet, of the paths in a list, the ending of images in tar files.
        labels: column of the labels; for tar files their ending, for image files `folder`.
        shard_rows: images a shard, as far as they can be divided so.
        image_suffixes: what the names of images in folders, globs and tar files end in.

    Raises:
        InputError: for an input that isn't there, can't be read or is empty.
    """
    search = Search(image_suffixes + suffixes(in_folders=True), suffixes(in_folders=False))
    found = [sorted_paths(_files_of(argument, search)) for argument in arguments]
    named = pa.concat_arrays(found)
    wanted = without_scored_parts(named, arguments)
    scored = len(named) - len(wanted)
    paths, places = distinct_files(wanted)
    is_container = pc.match_substring_regex(paths, PATTERN)
    images = paths.filter(pc.invert(is_container))
    containers = [os.fsdecode(path) for path in paths.filter(is_container).to_pylist()]
    shards: list[Shard] = []
    if len(images):
        shards += _image_shards(images, column, labels, shard_rows)
    for location in containers:
        shards += input_format(location).open(location, column, labels, shard_rows, image_suffixes)
    counts = [shard.rows for shard in shards]
    if not shards:
        named_inputs = ", ".join(arguments)
        raise InputError(f"there is nothing to score: no images in {named_inputs}{search.told()}")
    return Inputs(
        shards=shards,
        images=None if None in counts else sum(count or 0 for count in counts),
        listing=_digest([*_bytes_of(paths), repr(counts).encode()]),
        files=InputFiles(places, stamps_of(paths, is_container, stamps_of_listed(shards))),
        repeated=len(wanted) - len(paths),
        lists=lists_behind(shards),
        left_out={**search.counts(), **({SCORED_PARTS: scored} if scored else {})},
    )


def _files_of(argument: str, search: Search) -> Iterator[str]:
    """A file as it was named, whatever its ending; of a folder or glob, those of known kinds."""
    for file in expand(argument, search):
        if file != argument and _is_hidden(file, argument):
            search.left_out[HIDDEN] += 1
        else:
            yield file


def _is_hidden(file: str, argument: str) -> bool:
    """Whether a file of a folder or glob is unfinished or about others, as its format has it.

    It is not if the glob itself says that its name, or that of its folder, begins so.
    """
    if not re.search(PATTERN, file):
        return False
    kind = input_format(file)
    asked = _names(argument)
    above = list(takewhile(lambda name: not glob.has_magic(name), asked))
    return not kind.is_hidden(asked[len(above) :]) and kind.is_hidden(_names(file)[len(above) :])


def _names(location: str) -> list[str]:
    """Of the folders above a file and of the file itself."""
    path = location.partition("://")[2] if is_url(location) else location
    return [name for name in path.split("/") if name not in {"", ".", ".."}]


def _image_shards(
    paths: pa.Array, column: str | None, labels: str | None, rows: int
) -> Sequence[Shard]:
    if column is not None:
        raise InputError(
            "--column belongs to Parquet, CSV, TSV and tar files, and "
            f"{os.fsdecode(paths[0].as_py())} is an image"
        )
    if labels not in (None, FOLDER_LABELS):
        raise InputError(
            f"image files have no column {labels!r}: --labels {FOLDER_LABELS} takes the names of "
            "their folders, a CSV or TSV file names paths and labels"
        )
    return file_shards(paths, rows, label_from_folder=labels is not None)


def _bytes_of(paths: pa.Array) -> Iterator[bytes]:
    for start in range(0, len(paths), _HASHED_AT_ONCE):
        yield from paths.slice(start, _HASHED_AT_ONCE).to_pylist()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()
