"""Data folders in every format, made of tiny images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

Encode = Callable[..., bytes]
WriteImage = Callable[..., Path]
WriteParquet = Callable[..., Path]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """An image of one grey as a file's bytes."""

    def make(grey: int, size: tuple[int, int] = (12, 10), kind: str = "PNG") -> bytes:
        file = io.BytesIO()
        Image.new("RGB", size, (grey, grey, grey)).save(file, kind)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def write_image(encode: Encode) -> WriteImage:
    """Writes such an image, and the folders above it."""

    def write(path: Path, grey: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(grey, size))
        return path

    return write


@pytest.fixture(scope="session")
def write_parquet(encode: Encode) -> WriteParquet:
    """Writes a Parquet file with an image for each label, whose grey is its row's number."""

    def write(path: Path, labels: list[int], metadata: dict[bytes, bytes] | None = None) -> Path:
        images = [{"bytes": encode(row), "path": None} for row in range(len(labels))]
        struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(images, struct), "label": labels})
        pq.write_table(table.replace_schema_metadata(metadata), path)
        return path

    return write
