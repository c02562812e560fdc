"""INPUT arguments -> shards: what kind each is, what is in it, and by what it is known again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scoring.errors import InputError
from scoring.inputs.formats import PATTERN, input_format, suffixes
from scoring.inputs.image_files import file_shards, sorted_paths
from scoring.inputs.locations import expand, stamp
from scoring.records import Shard
from serving.images.folders import IMAGE_SUFFIXES, Search

FOLDER_LABELS = "folder"
"""`--labels` for image files: the name of the folder that a file lies in."""

_HASHED_AT_ONCE = 10_000


@dataclass(frozen=True)
class Inputs:
    """All that is to be scored.

    Attributes:
        shards: in the order of the output.
        images: how many there are, if that is known before they are read.
        listing: SHA-256 of what they are called and how they are divided into shards.
        stamps: SHA-256 of the sizes and dates of lists, Parquet and tar files.
        repeated: files that were named more than once, and are scored once.
        left_out: files and folders that the arguments' folders and globs hold besides, by kind.
    """

    shards: Sequence[Shard]
    images: int | None
    listing: str
    stamps: str
    repeated: int
    left_out: Mapping[str, int]


def open_inputs(
    arguments: Sequence[str], column: str | None, labels: str | None, shard_rows: int
) -> Inputs:
    """Find out what there is to score; nothing but names and headers is read.

    Args:
        arguments: folders, globs, files and URLs.
        column: of the images in Parquet, of the paths in CSV, the ending of images in tar files.
        labels: column of the labels; for tar files their ending, for image files `folder`.
        shard_rows: images a shard, as far as they can be divided so.

    Raises:
        InputError: for an input that isn't there, can't be read or is empty.
    """
    search = Search(IMAGE_SUFFIXES + suffixes(in_folders=True), suffixes(in_folders=False))
    found = [sorted_paths(expand(argument, search)) for argument in arguments]
    named = pa.concat_arrays(found)
    paths = pc.unique(named)
    is_container = pc.match_substring_regex(paths, PATTERN)
    images = paths.filter(pc.invert(is_container))
    containers = [os.fsdecode(path) for path in paths.filter(is_container).to_pylist()]
    shards: list[Shard] = []
    if len(images):
        shards += _image_shards(images, column, labels, shard_rows)
    for location in containers:
        shards += input_format(location).open(location, column, labels, shard_rows)
    counts = [shard.rows for shard in shards]
    if not shards:
        counts_by_kind = [f"{kind} {count:,}" for kind, count in search.counts().items()]
        but = f"; left out: {', '.join(counts_by_kind)}" if counts_by_kind else ""
        raise InputError(f"there is nothing to score: no images in {', '.join(arguments)}{but}")
    return Inputs(
        shards=shards,
        images=None if None in counts else sum(count or 0 for count in counts),
        listing=_digest([*_bytes_of(paths), repr(counts).encode()]),
        stamps=_digest([stamp(location).encode() for location in containers]),
        repeated=len(named) - len(paths),
        left_out=search.counts(),
    )


def _image_shards(
    paths: pa.Array, column: str | None, labels: str | None, rows: int
) -> Sequence[Shard]:
    if column is not None:
        raise InputError(
            f"--column belongs to Parquet, CSV and tar files, and {os.fsdecode(paths[0].as_py())} "
            "is an image"
        )
    if labels not in (None, FOLDER_LABELS):
        raise InputError(
            f"image files have no column {labels!r}: --labels {FOLDER_LABELS} takes the names of "
            "their folders, a CSV file names paths and labels"
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
