"""Reads image files without decoding them: format, size, orientation, and what makes the pixels.

All that does not make pixels (text, colour profiles, thumbnails, comments) is cut out before
Pillow sees the file: that is where small files grow large. Of the metadata only the Exif
orientation is used.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from serving.errors import InvalidImage

ACCEPTED_FORMATS = ("JPEG", "PNG", "WebP")
"""GIF and BMP stay out: Pillow unpacks BMP's run lengths in Python, and GIF resizes its canvas
while it is parsed."""

MAX_BLOCKS = 50_000
"""PNG chunks or JPEG segments in one file. A 16 MiB PNG in libpng's 8 KiB chunks has 2,000."""

MAX_SCANS = 64
"""Passes over the pixels of a JPEG: each costs the full size, however few bytes it has. A usual
progressive file has 10."""

FORMAT_NAMES = f"{', '.join(ACCEPTED_FORMATS[:-1])} or {ACCEPTED_FORMATS[-1]}"
ACCEPTED = f"a {FORMAT_NAMES} file"

_EXIF_PREFIX = b"Exif\0\0"
_TIFF_ORIENTATION = 0x0112
_TIFF_SHORT = 3

_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""Any marker with a segment; not stuffed bytes, restarts or padding, which may lie anywhere."""
_JPEG_LENGTH = struct.Struct(">H")
_JPEG_SCAN = 0xDA
_JPEG_END = 0xD9
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
_JPEG_METADATA = frozenset(range(0xE1, 0xF0)) - {0xEE} | {0xFE}
"""APP1 to APP15 and comments, but not APP14 (nor APP0), which say how colours are stored."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER_END = 33
_PNG_RGB = b"\x08\x02\0\0\0"
"""Depth, colour, compression, filters, no interlacing: 8-bit RGB, row by row."""
_PNG_PALETTE = 3
_PNG_CHUNK = struct.Struct(">L4s")
_Chunk: TypeAlias = tuple[bytes, int, int]
"""Kind, start and end."""


@dataclass(frozen=True)
class ImageFile:
    """A file of a known format, cut down to what makes pixels.

    Attributes:
        format: its name in `ACCEPTED_FORMATS`.
        data: the file, safe to hand to Pillow once its size is checked; empty where `rgb_rows`
            says it all.
        width, height: in pixels, as the header states them, before the orientation is applied.
        exif: the Exif block, empty for none.
        rgb_rows: of a PNG that holds nothing but rows of 8-bit RGB, these rows, filtered and
            compressed as PNG does it: decoded from here, a small image takes half the time. Empty
            for every other file.
    """

    format: str
    data: bytes
    width: int
    height: int
    exif: bytes = b""
    rgb_rows: bytes = b""


def damaged(format_name: str) -> InvalidImage:
    """The error for a file of a known format that can't be read to its end."""
    return InvalidImage(f"the {format_name} image is damaged or cut short; send the whole file")


def animated(format_name: str) -> InvalidImage:
    """The error for a file of several frames."""
    return InvalidImage(f"the {format_name} image is animated; send a single frame")


def format_of(data: bytes) -> str:
    """The format that a file's first bytes claim.

    Raises:
        InvalidImage: if it is none of the accepted ones.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    raise InvalidImage(f"the bytes are not an image of an accepted format; send {ACCEPTED}")


def read_image_file(data: bytes) -> ImageFile:
    """Read a file's structure and cut out its metadata.

    Raises:
        InvalidImage: for another format, a file cut short, animated or of absurdly many parts.
        struct.error: where the file ends inside a number.
    """
    readers: dict[str, Callable[[bytes], ImageFile]] = {
        "JPEG": _read_jpeg,
        "PNG": _read_png,
        "WebP": _read_webp,
    }
    return readers[format_of(data)](data)


def _read_jpeg(data: bytes) -> ImageFile:
    """Keep all but the metadata segments and what follows the end of the image."""
    kept, kept_to, frames, scans, exif = [], 0, [], 0, b""
    view = memoryview(data)
    for marker, start, end in _jpeg_segments(data):
        scans += marker == _JPEG_SCAN
        if marker in _JPEG_FRAMES:
            frames.append(data[start:end])
        if marker in _JPEG_METADATA:
            exif = exif or _exif_of_app1(data[start + 4 : end])
            kept.append(view[kept_to:start])
            kept_to = end
    if len(frames) != 1:
        raise damaged("JPEG")
    if scans > MAX_SCANS:
        raise InvalidImage(f"the JPEG image has more than {MAX_SCANS} scans; save it anew")
    height, width = struct.unpack_from(">HH", frames[0], 5)
    kept.append(view[kept_to:end])
    return ImageFile("JPEG", b"".join(kept), width, height, exif)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each segment up to the end of the image.

    Bytes between segments, such as the compressed pixels after a scan's header, are skipped.
    """
    end = 2
    for _ in range(MAX_BLOCKS):
        found = _JPEG_MARKER.search(data, end)
        if found is None:
            raise damaged("JPEG")
        start, marker = found.start(), found[0][1]
        if marker == _JPEG_END:
            yield marker, start, found.end()
            return
        (length,) = _JPEG_LENGTH.unpack_from(data, start + 2)
        end = start + 2 + length
        if length < 2 or end > len(data):
            raise damaged("JPEG")
        yield marker, start, end
    raise InvalidImage(f"the JPEG image has more than {MAX_BLOCKS} segments; save it anew")


def _exif_of_app1(payload: bytes) -> bytes:
    return payload if payload.startswith(_EXIF_PREFIX) else b""


def _read_png(data: bytes) -> ImageFile:
    """Keep the header, the palette, the transparency and the pixels."""
    if data[8:16] != b"\0\0\0\rIHDR" or len(data) < _PNG_HEADER_END:
        raise damaged("PNG")
    width, height, depth, colour = struct.unpack_from(">LLBB", data, 16)
    # Pillow compares a transparent colour with samples that it has already brought to 8 bits.
    kinds = {b"PLTE", b"IDAT", b"IEND"}
    kinds |= {b"tRNS"} if depth in (1, 8) or colour == _PNG_PALETTE else set()
    kept, exif = [], b""
    for kind, start, end in _png_chunks(data):
        if kind == b"acTL" and data[start + 8 : start + 12] > b"\0\0\0\1":
            raise animated("PNG")
        if kind == b"eXIf":
            exif = data[start + 8 : end - 4]
        if kind in kinds:
            kept.append((kind, start, end))
    if _is_plain_rgb(data, kept):
        rows = b"".join([data[start + 8 : end - 4] for kind, start, end in kept if kind == b"IDAT"])
        return ImageFile("PNG", b"", width, height, exif, rows)
    chunks = [data[start:end] for _, start, end in kept]
    return ImageFile("PNG", b"".join([data[:_PNG_HEADER_END], *chunks]), width, height, exif)


def _is_plain_rgb(data: bytes, kept: list[_Chunk]) -> bool:
    # As Pillow does it, the header's checksum is looked at, and the pixels have one of their own.
    header, checksum = data[12 : _PNG_HEADER_END - 4], data[_PNG_HEADER_END - 4 : _PNG_HEADER_END]
    if header[-len(_PNG_RGB) :] != _PNG_RGB or zlib.crc32(header) != int.from_bytes(checksum):
        return False
    return all(kind in {b"IDAT", b"IEND"} for kind, _, _ in kept)


def _png_chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield (kind, start, end) of each chunk after the header, up to and with IEND."""
    end = _PNG_HEADER_END
    for _ in range(MAX_BLOCKS):
        start = end
        length, kind = _PNG_CHUNK.unpack_from(data, start)
        end = start + 12 + length
        if end > len(data):
            raise damaged("PNG")
        yield kind, start, end
        if kind == b"IEND":
            return
    raise InvalidImage(f"the PNG image has more than {MAX_BLOCKS} chunks; save it anew")


def _read_webp(data: bytes) -> ImageFile:
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


def orientation(exif: bytes) -> int:
    """The orientation, from 1 (upright) to 8; 1 if none can be found.

    Read here because Pillow parses the whole block for it, which hostile bytes make expensive.
    """
    tiff = exif.removeprefix(_EXIF_PREFIX)
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (directory,) = struct.unpack_from(order + "L", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHLH", tiff, entry)
            if (tag, kind) == (_TIFF_ORIENTATION, _TIFF_SHORT):
                return int(value)
    except struct.error:
        pass  # Damaged metadata does not make the pixels any worse.
    return 1
