"""Pictures and files that the tests of decoding share."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from serving.model.manifest import ImageSpec

Pixels = NDArray[np.uint8]

RESAMPLING = {
    "bilinear": v2.InterpolationMode.BILINEAR,
    "bicubic": v2.InterpolationMode.BICUBIC,
}


def picture(width: int = 32, height: int = 32, mode: str = "RGB") -> Image.Image:
    """A picture without any symmetry, with smooth parts, an edge and noise."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(width * 1_000 + height).integers(0, 40, (height, width))
    red, blue = 200 * x / width + noise, np.where(x + 2 * y < width, 220, 15)
    pixels = np.stack([red, 230 * y / height + 10, blue], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def array(image: Image.Image) -> Pixels:
    return np.array(image.convert("RGB"))


def encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def evaluated(image: Image.Image, spec: ImageSpec) -> Pixels:
    """The evaluation transform of training."""
    resize = v2.Resize(spec.resize_shorter_side, RESAMPLING[spec.interpolation], antialias=True)
    return np.array(v2.CenterCrop((spec.height, spec.width))(resize(image)))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """A PNG with more chunks after its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def exif_block(orientation: int, order: str = "<", entries: bytes = b"", count: int = 0) -> bytes:
    """An Exif block with some entries and the orientation behind them."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "LH", 8, count + 1)
    return b"Exif\0\0" + head + entries + struct.pack(order + "HHLHH", 0x112, 3, 1, orientation, 0)


def with_exif(data: bytes, block: bytes) -> bytes:
    """A JPEG or PNG with an Exif block."""
    if data.startswith(b"\xff\xd8"):
        return data[:2] + segment(0xE1, block) + data[2:]
    return with_chunks(data, chunk(b"eXIf", block.removeprefix(b"Exif\0\0")))


UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],
}
