"""Image files of this machine, classified one by one: a bad one costs the others nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.dataplane.classification import Classification
from serving.dataplane.dataplane import DataPlane
from serving.errors import RideError
from serving.images.decoders import EncodedImage
from serving.images.folders import Search, files_of
from serving.images.formats import suffixes
from serving.model.parameters import CostParameters
from serving.model.top_k import check_top_k

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Unanswered:
    """A file, or an argument that names files, without an answer; the reason names it."""

    reason: str


async def classify_files(
    plane: DataPlane,
    named: Sequence[str],
    formats: Sequence[str],
    parameters: CostParameters,
    top_k: int,
) -> AsyncIterator[Classification | Unanswered]:
    """What becomes of each image of files, folders, globs and standard input (`-`), in order.

    Folders and globs stand for what they do for `ride score`, sorted; `formats` says by what
    endings.

    Raises:
        InvalidRequest: if a parameter is out of range, whatever the files are.
    """
    with plane.admit() as admitted:
        admitted.ask_for(parameters)
        check_top_k(admitted.live.engine.manifest, top_k)
        for file in _files(named, suffixes(formats)):
            if isinstance(file, Unanswered):
                yield file
                continue
            # Names need not be Unicode, and JSON must be.
            name = os.fsencode(file).decode(errors="replace")
            try:
                image = EncodedImage(_read(file, plane.settings.max_image_bytes), name)
                (answer,) = (await admitted.classify([image], top_k)).results
                yield answer
            except OSError as error:
                yield Unanswered(f"{file}: {error.strerror}")
            except RideError as error:
                yield Unanswered(str(error))


def _files(named: Sequence[str], endings: tuple[str, ...]) -> Iterator[str | Unanswered]:
    for argument in named:
        if argument == STANDARD_INPUT:
            yield argument
            continue
        search = Search(endings)
        try:
            files = sorted(files_of(argument, search), key=os.fsencode)
        except OSError as error:
            yield Unanswered(error.strerror or argument)
            continue
        if not files:
            left_out = f" ({search.left_out.total():,} others)" if search.left_out else ""
            yield Unanswered(f"{argument}: no image files there{left_out}")
        yield from files


def _read(file: str, max_bytes: int) -> bytes:
    """One byte more than the decoder takes, so that it sees a file is too large."""
    if file == STANDARD_INPUT:
        return sys.stdin.buffer.read(max_bytes + 1)
    with Path(file).open("rb") as stream:
        return stream.read(max_bytes + 1)
