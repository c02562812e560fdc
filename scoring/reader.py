"""Reads shards and cuts their records into parts, and into chunks that are decoded at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from scoring.parts import Part, PartKey
from scoring.records import Fault, Record, Shard

_MOST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class ShardTask:
    """A shard of which something is left to do.

    Attributes:
        index: its number.
        shard: what is read.
        done: its parts that are done.
        start: its first part that belongs to this task.
        stop: the part behind the last one; None for all.
    """

    index: int
    shard: Shard
    done: frozenset[int] = frozenset()
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Chunk:
    """Encoded images of consecutive rows of a part, from row `first` on.

    `closes` if the part ends with it; a chunk that closes may be empty.
    """

    part: Part
    first: int
    images: tuple[bytes | Fault, ...]
    closes: bool = False

    @property
    def bytes(self) -> int:
        """Of the encoded images."""
        return sum(len(image) for image in self.images if isinstance(image, bytes))


def read_chunks(
    tasks: Iterable[ShardTask], part_rows: int, rows: int, new_part: Callable[[PartKey], Part]
) -> Iterator[Chunk]:
    """Read all that is left, a chunk of at most `rows` images and about 8 MiB at a time.

    Every part that is begun is closed, by its last chunk.

    Raises:
        InputError: as shards do.
    """
    for task in tasks:
        yield from _chunks_of_shard(task, part_rows, rows, new_part)


def _chunks_of_shard(
    task: ShardTask, part_rows: int, rows: int, new_part: Callable[[PartKey], Part]
) -> Iterator[Chunk]:
    first_left = task.start
    while first_left in task.done:
        first_left += 1
    skip = first_left * part_rows
    part: Part | None = None
    waiting: list[Record] = []
    size = 0
    for row, record in enumerate(task.shard.read(skip), start=skip):
        number = row // part_rows
        if part is not None and part.key.number != number:
            yield _chunk(part, waiting, closes=True)
            part, waiting, size = None, [], 0
        if number == task.stop:
            return
        if number in task.done:
            continue
        if part is None:
            part = new_part(PartKey(task.index, number))
        if len(waiting) == rows or size >= _MOST_BYTES:
            yield _chunk(part, waiting)
            waiting, size = [], 0
        waiting.append(record)
        size += len(record.image) if isinstance(record.image, bytes) else 0
    if part is not None:
        part.last = True
        yield _chunk(part, waiting, closes=True)


def _chunk(part: Part, records: list[Record], *, closes: bool = False) -> Chunk:
    first = part.add(records)
    return Chunk(part, first, tuple(record.image for record in records), closes)
