"""What a list of files gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scoring.inputs.opening import Inputs, open_inputs

Rows = list[tuple[str | None, Any]]


def opened(path: Path, content: str | bytes, column: str | None, labels: str | None) -> Inputs:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_inputs([str(path)], column, labels, 1000)


def read(
    path: Path, content: str | bytes, column: str | None = None, labels: str | None = None
) -> Rows:
    """Paths and labels; the images must be what the files hold."""
    shards = opened(path, content, column, labels).shards
    records = [record for shard in shards for record in shard.read()]
    assert [record.id for record in records] == [f"{path}#{i}" for i in range(len(records))]
    for record in records:
        assert record.path is None or record.image == record.path.encode()
    return [(record.path, record.label) for record in records]


def paths(rows: Rows) -> list[str | None]:
    return [path for path, _ in rows]
