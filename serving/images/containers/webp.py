"""WebP: its size."""

from __future__ import annotations

from serving.images.containers.image_file import ImageFile


def read_webp(data: bytes) -> ImageFile:
    """Leave the file whole: libwebp unpacks no metadata, and only its canvas needs a check."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = _little_endian(data[24:27]) + 1, _little_endian(data[27:30]) + 1
    elif kind == b"VP8L":
        bits = _little_endian(data[21:25])
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width = _little_endian(data[26:28]) & 0x3FFF
        height = _little_endian(data[28:30]) & 0x3FFF
    return ImageFile("WebP", data, width, height)


def _little_endian(data: bytes) -> int:
    return int.from_bytes(data, "little")
