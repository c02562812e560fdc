"""A finished run as it is compared: what it was, and its rows in blocks of a few columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scoring import journal
from scoring.errors import InputError, one_line
from scoring.layout import parts_folder
from scoring.writer import SCHEMA_VERSION

BLOCK_ROWS = 16_384
NULL_CODE = -1
"""The code of a null."""

_TEXTS = ("label", "error_kind", "true_label")
_COLUMNS = ("id", "label", "probability", "experts_used", "error_kind", "true_label")

BLOCK = pa.schema(
    {
        "id": pa.string(),
        "label": pa.int32(),
        "probability": pa.float32(),
        "experts_used": pa.int32(),
        "error_kind": pa.int32(),
        "true_label": pa.int32(),
    }
)
"""Columns of a block: texts as codes, experts 0 and probability 0 where there is no answer."""


class StringCodes:
    """Numbers for names, the same in all blocks of both runs: their models may differ."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The name of each code."""
        return list(self._codes)

    def of(self, texts: pa.Array) -> NDArray[np.int32]:
        """The code of each text, int32 [N]; NULL_CODE for null."""
        encoded = texts.dictionary_encode()
        codes = [
            self._codes.setdefault(name, len(self._codes))
            for name in encoded.dictionary.to_pylist()
        ]
        numbers = np.array([*codes, NULL_CODE], dtype=np.int32)
        found: NDArray[np.int32] = numbers[encoded.indices.fill_null(-1).to_numpy()]
        return found


@dataclass(frozen=True)
class ScoredRun:
    """The output folder of a finished run.

    Attributes:
        folder: where it is.
        about: its `_run.json`.
        parts: its files, in the order of the inputs.
        images: its rows.
    """

    folder: Path
    about: Mapping[str, Any]
    parts: Sequence[Path]
    images: int

    @property
    def shot_groups(self) -> Mapping[str, str]:
        """The shot group of each class that has one, by the class's name."""
        groups = self.about.get("shot_groups")
        if not isinstance(groups, dict):
            return {}
        return {name: group for group, names in groups.items() for name in names}

    def blocks(self, codes: StringCodes) -> Iterator[pa.RecordBatch]:
        """All rows in order, `BLOCK_ROWS` at a time but for the last block.

        Raises:
            InputError: if a part is no part of a run.
        """
        waiting: list[pa.RecordBatch] = []
        rows = 0
        for batch in self._batches(codes):
            waiting.append(batch)
            rows += len(batch)
            while rows >= BLOCK_ROWS:
                joined = pa.concat_batches(waiting)
                yield joined.slice(0, BLOCK_ROWS)
                waiting, rows = [joined.slice(BLOCK_ROWS)], rows - BLOCK_ROWS
        if rows:
            yield pa.concat_batches(waiting)

    def _batches(self, codes: StringCodes) -> Iterator[pa.RecordBatch]:
        for part in self.parts:
            try:
                with pq.ParquetFile(part, pre_buffer=False) as file:
                    names = [name for name in _COLUMNS if name in file.schema_arrow.names]
                    for batch in file.iter_batches(BLOCK_ROWS, columns=names):
                        yield _block(batch, codes)
            except (pa.ArrowException, KeyError, OSError) as error:
                raise InputError(
                    f"{part} is no readable part of a scoring: {one_line(error)}"
                ) from error


def open_run(folder: Path) -> ScoredRun:
    """Look into an output folder of `ride score`.

    Raises:
        InputError: if it holds no run, an unfinished or damaged one, or one in other columns.
        OutputError: if a later version of ride wrote it.
    """
    about = journal.read_run(folder) if folder.is_dir() else None
    if about is None:
        raise InputError(f"{folder} is no output folder of ride score")
    if about.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{folder} was written by ride {about.get('ride_version')} in other columns: score "
            "these images again with this version"
        )
    parts = parts_folder(folder, about)
    found, done = journal.read_summary(folder), journal.done_parts(folder, parts)
    images = sum(part.counts.images for part in done.values())
    if found is None or found.get("images") != images:
        raise InputError(
            f"the run in {folder} is not finished: {images:,} images are there; the same command "
            "of ride score goes on"
        )
    return ScoredRun(folder, about, [parts / key.file_name for key in sorted(done)], images)


def _block(batch: pa.RecordBatch, codes: StringCodes) -> pa.RecordBatch:
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns.setdefault("true_label", pa.nulls(len(batch), pa.string()))
    for name in _TEXTS:
        columns[name] = pa.array(codes.of(columns[name]))
    for name in ("probability", "experts_used"):
        columns[name] = columns[name].fill_null(0)
    return pa.RecordBatch.from_arrays([columns[name] for name in BLOCK.names], schema=BLOCK)
