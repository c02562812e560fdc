"""PNG: the header, the palette, the transparency and the pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TypeAlias

from serving.images.containers.image_file import MAX_BLOCKS, ImageFile, PngRows, damaged, unusual

NAME = "PNG"

_HEADER_END = 33
_PALETTE = 3
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""By the type of colour."""
_CHUNK = struct.Struct(">L4s")
_Chunk: TypeAlias = tuple[bytes, int, int]
"""Kind, start and end."""


def read_png(data: bytes) -> ImageFile:
    """Keep the header, the palette, the transparency and the pixels.

    Raises:
        InvalidImage: for a file cut short, or of absurdly many parts.
    """
    if data[8:16] != b"\0\0\0\rIHDR" or len(data) < _HEADER_END:
        raise damaged(NAME)
    width, height, depth, colour = struct.unpack_from(">LLBB", data, 16)
    # Pillow compares a transparent colour with samples that it has already brought to 8 bits.
    kinds = {b"PLTE", b"IDAT", b"IEND"}
    kinds |= {b"tRNS"} if depth in (1, 8) or colour == _PALETTE else set()
    kept, exif, significant, moves = [], b"", 0, False
    for kind, start, end in _chunks(data):
        if kind == b"acTL" and data[start + 8 : start + 12] > b"\0\0\0\1":
            moves = True
        if kind == b"eXIf":
            exif = data[start + 8 : end - 4]
        if kind == b"sBIT":
            significant = max(data[start + 8 : end - 4][: 3 if colour & 2 else 1], default=0)
        if kind in kinds:
            kept.append((kind, start, end))
    rows = _rows(data, kept)
    chunks = [] if rows else [data[:_HEADER_END], *(data[start:end] for _, start, end in kept)]
    return ImageFile(NAME, b"".join(chunks), width, height, exif, moves, significant, rows)


def _rows(data: bytes, kept: list[_Chunk]) -> PngRows | None:
    """The rows of what needs nothing else: 16 bits, or 8-bit RGB, row by row and opaque."""
    depth, colour, compression, filters, interlaced = data[24:29]
    wide = depth == 16 and colour in _CHANNELS
    plain = (depth, colour, interlaced) == (8, 2, 0)
    if not (wide or plain) or compression or filters or interlaced > 1:
        return None
    if plain and not all(kind in {b"IDAT", b"IEND"} for kind, _, _ in kept):
        return None
    # As Pillow does it, the header's checksum is looked at, and the pixels have one of their own.
    if zlib.crc32(data[12 : _HEADER_END - 4]) != int.from_bytes(
        data[_HEADER_END - 4 : _HEADER_END]
    ):
        return None
    rows = b"".join([data[start + 8 : end - 4] for kind, start, end in kept if kind == b"IDAT"])
    return PngRows(rows, _CHANNELS[colour], depth, bool(interlaced))


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield (kind, start, end) of each chunk after the header, up to and with IEND."""
    end = _HEADER_END
    for _ in range(MAX_BLOCKS):
        start = end
        length, kind = _CHUNK.unpack_from(data, start)
        end = start + 12 + length
        if end > len(data):
            raise damaged(NAME)
        yield kind, start, end
        if kind == b"IEND":
            return
    raise unusual(NAME, f"has more than {MAX_BLOCKS} chunks")
