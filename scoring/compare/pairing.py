"""Which row of one run is about the image of which row of the other, in bounded memory.

Runs over the same inputs have the same ids in the same order, so blocks are compared side by side
as long as their ids agree. From the first block that differs on, rows are divided by a hash of
their ids into buckets on the disk, which fit into memory one by one.
"""

from __future__ import annotations

import tempfile
import zlib
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa

from scoring.compare.runs import BLOCK

_ROWS_A_BUCKET = 65_536
_MOST_BUCKETS = 128
"""Each is two open files."""

_EMPTY = pa.RecordBatch.from_pylist([], schema=BLOCK)


@dataclass(frozen=True)
class PairedRows:
    """Rows of two runs: those about the same images, one beside the other, and all others."""

    a: pa.RecordBatch
    b: pa.RecordBatch
    only_a: pa.RecordBatch
    only_b: pa.RecordBatch


def paired(
    a: Iterator[pa.RecordBatch], b: Iterator[pa.RecordBatch], most_rows: int
) -> Iterator[PairedRows]:
    """Pair the rows of two runs by their ids. An id that a run has twice is two images.

    Args:
        a: blocks of the one.
        b: blocks of the other.
        most_rows: of the larger one.
    """
    for left, right in zip_longest(a, b, fillvalue=_EMPTY):
        if not left["id"].equals(right["id"]):
            yield from _paired_by_hash(chain([left], a), chain([right], b), most_rows)
            return
        yield PairedRows(left, right, _EMPTY, _EMPTY)


def _paired_by_hash(
    a: Iterable[pa.RecordBatch], b: Iterable[pa.RecordBatch], most_rows: int
) -> Iterator[PairedRows]:
    count = min(_MOST_BUCKETS, 1 + most_rows // _ROWS_A_BUCKET)
    with tempfile.TemporaryDirectory(prefix="ride-compare-") as folder:
        buckets_a = _write_buckets(a, Path(folder), "a", count)
        buckets_b = _write_buckets(b, Path(folder), "b", count)
        for left, right in zip(buckets_a, buckets_b, strict=True):
            yield _paired_in_memory(_read(left), _read(right))


def _write_buckets(
    blocks: Iterable[pa.RecordBatch], folder: Path, side: str, count: int
) -> list[Path]:
    paths = [folder / f"{side}{bucket}" for bucket in range(count)]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pa.ipc.new_stream(stack.enter_context(path.open("wb")), BLOCK))
            for path in paths
        ]
        for block in blocks:
            buckets = (
                np.array([zlib.crc32(id_.encode()) for id_ in block["id"].to_pylist()]) % count
            )
            for bucket in np.unique(buckets).tolist():
                writers[bucket].write_batch(block.take(pa.array(np.flatnonzero(buckets == bucket))))
    return paths


def _read(path: Path) -> pa.RecordBatch:
    with path.open("rb") as file:
        batches = list(pa.ipc.open_stream(file))
    return pa.concat_batches(batches) if batches else _EMPTY


def _paired_in_memory(a: pa.RecordBatch, b: pa.RecordBatch) -> PairedRows:
    waiting: defaultdict[str, deque[int]] = defaultdict(deque)
    for row, id_ in enumerate(b["id"].to_pylist()):
        waiting[id_].append(row)
    left, right, only_a = [], [], []
    for row, id_ in enumerate(a["id"].to_pylist()):
        if waiting[id_]:
            left.append(row)
            right.append(waiting[id_].popleft())
        else:
            only_a.append(row)
    only_b = sorted(row for rows in waiting.values() for row in rows)
    return PairedRows(_take(a, left), _take(b, right), _take(a, only_a), _take(b, only_b))


def _take(rows: pa.RecordBatch, numbers: list[int]) -> pa.RecordBatch:
    return rows.take(pa.array(numbers, pa.int64()))
