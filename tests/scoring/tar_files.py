"""Tar files of small members, and what is read of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from scoring.inputs.opening import open_inputs
from scoring.records import Fault, Record

BLOCK = 512


def archive(*members: tuple[str, bytes]) -> bytes:
    """A tar file of these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def read(path: Path, labels: str | None = None, column: str | None = None) -> list[Record]:
    """The records of the shard, however many are skipped first."""
    (shard,) = open_inputs([str(path)], column, labels, 1000).shards
    whole = list(shard.read())
    for skip in (1, 2, len(whole) // 2, len(whole) - 1, len(whole)):
        assert list(shard.read(skip)) == whole[skip:]
    assert len({record.id for record in whole}) == len(whole)
    return whole


def images(records: Sequence[Record]) -> list[tuple[str | None, object]]:
    return [
        (each.path, each.image.kind if isinstance(each.image, Fault) else each.image)
        for each in records
    ]


TEN = [(f"{i:02}.png", bytes([i]) * (300 * i)) for i in range(10)]
WHOLE = archive(*TEN)


def zstd(content: bytes) -> bytes:
    compressed: bytes = pa.compress(content, "zstd", asbytes=True)
    return compressed


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar.gz": gzip.compress,
    "tgz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tbz2": bz2.compress,
    "tar.xz": lzma.compress,
    "txz": lzma.compress,
    "tar.zst": zstd,
}
