"""Parquet files of a few rows, and the records that scoring makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.inputs.parquet import parquet_shards
from scoring.records import Record

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""An image as `datasets` writes it."""


def records(path: Path, column: str | None = None, label: str | None = None) -> list[Record]:
    """All of a file, shard by shard."""
    return [each for shard in parquet_shards(str(path), column, label, 1) for each in shard.read()]


def write(where: Path, **columns: Any) -> Path:
    """Write columns in row groups of 20 rows, and the folders above the file."""
    where.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), where, row_group_size=20)
    return where
