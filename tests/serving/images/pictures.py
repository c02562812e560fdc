"""Pictures and files that the tests of decoding share."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from serving.errors import RideError
from serving.images.decode import ImageLimits, decode_image
from serving.images.formats import ALL
from serving.model.manifest import ImageSpec

Pixels = NDArray[np.uint8]

SMALL = ImageSpec(height=32, width=32, resize_shorter_side=32, interpolation="bilinear")
SPECS = (
    SMALL,
    ImageSpec(height=32, width=32, resize_shorter_side=36, interpolation="bicubic"),
    ImageSpec(height=56, width=40, resize_shorter_side=64, interpolation="bicubic"),
    ImageSpec(height=224, width=224, resize_shorter_side=256, interpolation="bilinear"),
)
LIMITS = ImageLimits()
ALL_FORMATS = ImageLimits(formats=ALL)

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


def decode(data: bytes, spec: ImageSpec = SMALL, limits: ImageLimits = LIMITS) -> Pixels:
    return decode_image(data, spec, limits)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand: `rows` without filter bytes, `extra` chunks before the pixels."""
    length = len(rows) // height
    lines = [b"\0" + rows[start : start + length] for start in range(0, len(rows), length)]
    header = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), *extra, pixels, chunk(b"IEND", b"")]
    )


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, position)
        yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length


def png_with_size(width: int, height: int) -> bytes:
    """A small PNG whose header claims another size."""
    data = encode(picture(), "PNG")
    header = struct.pack(">LL", width, height) + data[24:29]
    return data[:8] + chunk(b"IHDR", header) + data[33:]


def jpeg_with_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encode(picture(), "JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def webp_with_size(width: int, height: int) -> bytes:
    """A small extended WebP whose header claims another canvas."""
    data = bytearray(encode(picture(mode="RGBA"), "WEBP", exif=b"Exif\0\0II*\0"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def avif_with_size(width: int, height: int, image: Image.Image | None = None) -> bytes:
    """A small AVIF whose boxes claim another size than its frame has."""
    data = bytearray(encode(image or picture(), "AVIF", speed=10))
    struct.pack_into(">LL", data, data.index(b"ispe") + 8, width, height)
    return bytes(data)


def gif_with_size(width: int, height: int) -> bytes:
    """A small GIF whose header claims another screen."""
    data = bytearray(encode(picture(mode="P"), "GIF"))
    struct.pack_into("<HH", data, 6, width, height)
    return bytes(data)


def bmp_with_size(width: int, height: int) -> bytes:
    """A small BMP whose header claims another size."""
    data = bytearray(encode(picture(), "BMP"))
    struct.pack_into("<ll", data, 18, width, height)
    return bytes(data)


def tiff(
    tags: dict[int, tuple[int, ...]], pixels: bytes, *more: tuple[int, int, int, int]
) -> bytes:
    """A TIFF written by hand: a directory of numbers, then `more` entries as they are.

    Pixels lie behind the 8 bytes of the header.
    """
    at = 8 + len(pixels) + len(pixels) % 2
    entries, values = [], b""
    place = at + 2 + 12 * (len(tags) + len(more)) + 4
    for tag, numbers in sorted(tags.items()):
        content = struct.pack(f"<{len(numbers)}L", *numbers)
        offset = content if len(content) == 4 else struct.pack("<L", place + len(values))
        values += content if len(content) > 4 else b""
        entries.append(struct.pack("<HHL", tag, 4, len(numbers)) + offset)
    entries += [struct.pack("<HHLL", *entry) for entry in more]
    body = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<L", at)
    return b"II*\0" + struct.pack("<L", at) + pixels.ljust(at - 8, b"\0") + body + values


def lossless(image: Image.Image, format_name: str, **options: Any) -> bytes:
    extra: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True, "exact": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }
    return encode(image, format_name, **extra.get(format_name, {}), **options)


def assert_clear(message: str) -> None:
    """One sentence for a client: no reprs, paths or names of ours."""
    for internal in ("\n", ". ", "Error", "PIL", "0x", "<", "/", "object", "b'"):
        assert internal not in message


def refusal(
    data: bytes, spec: ImageSpec = SMALL, limits: ImageLimits = LIMITS
) -> tuple[type[RideError], str]:
    with pytest.raises(RideError) as caught:
        decode(data, spec, limits)
    assert_clear(str(caught.value))
    return type(caught.value), str(caught.value)
