"""JPEG: all but the metadata, and whether all pixels are there."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from serving.images.containers import exif
from serving.images.containers.image_file import MAX_BLOCKS, ImageFile, damaged, unusual

NAME = "JPEG"

MAX_SCANS = 64
"""Passes over the pixels of a JPEG: each costs the full size, however few bytes it has. A usual
progressive file has 10."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""Any marker with a segment; not stuffed bytes, restarts or padding, which may lie anywhere."""
_LENGTH = struct.Struct(">H")
_SCAN = 0xDA
_END = 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE = 0xC2
_METADATA = frozenset(range(0xE1, 0xF0)) - {0xEE} | {0xFE}
"""APP1 to APP15 and comments, but not APP14 (nor APP0), which say how colours are stored."""


def read_jpeg(data: bytes) -> ImageFile:
    """Keep all but the metadata segments and what follows the end of the image.

    Raises:
        InvalidImage: for a file cut short before its pixels begin, or of absurdly many parts.
    """
    kept, kept_to, frames, scans, block = [], 0, [], [], b""
    view = memoryview(data)
    for marker, start, end in _segments(data):
        if marker == _SCAN:
            scans.append(data[start:end])
        if marker in _FRAMES:
            frames.append(data[start:end])
        if marker in _METADATA:
            block = block or _exif_of_app1(data[start + 4 : end])
            kept.append(view[kept_to:start])
            kept_to = end
    if len(frames) != 1:
        raise damaged(NAME)
    if len(scans) > MAX_SCANS:
        raise unusual(NAME, f"has more than {MAX_SCANS} scans")
    ended = marker == _END
    if not ended and not _all_scans_begun(frames[0], scans):
        raise damaged(NAME)
    height, width = struct.unpack_from(">HH", frames[0], 5)
    kept.append(view[kept_to:end])
    end_marker = b"" if ended else bytes([0xFF, _END])
    return ImageFile(NAME, b"".join([*kept, end_marker]), width, height, block, ended=ended)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each segment up to the end of the image.

    Bytes between segments, such as the compressed pixels after a scan's header, are skipped. Where
    pixels go on to the end of the file, the last segment has the marker 0 and is empty.
    """
    end, marker = 2, 0
    for _ in range(MAX_BLOCKS):
        found = _MARKER.search(data, end)
        if found is None:
            if marker != _SCAN:
                raise damaged(NAME)
            yield 0, len(data), len(data)
            return
        start, marker = found.start(), found[0][1]
        if marker == _END:
            yield marker, start, found.end()
            return
        (length,) = _LENGTH.unpack_from(data, start + 2)
        end = start + 2 + length
        if length < 2 or end > len(data):
            raise damaged(NAME)
        yield marker, start, end
    raise unusual(NAME, f"has more than {MAX_BLOCKS} segments")


def _exif_of_app1(payload: bytes) -> bytes:
    return payload if payload.startswith(exif.PREFIX) else b""


def _all_scans_begun(frame: bytes, scans: Sequence[bytes]) -> bool:
    """Whether scans give every bit of every coefficient, as far as their headers say (T.81, G.1).

    False for arithmetic coding too: its encoder may leave out zeros at the end, so that its decoder
    can't tell where bytes are missing.
    """
    if frame[1] not in _HUFFMAN_FRAMES:
        return False
    left = {(kind, place) for kind in frame[10 : 10 + 3 * frame[9] : 3] for place in range(64)}
    for scan in scans:
        count = scan[4]
        first, last, bits = scan[5 + 2 * count : 8 + 2 * count]
        if frame[1] != _PROGRESSIVE:
            first, last, bits = 0, 63, 0
        if bits & 15 == 0:  # down to the lowest bit
            kinds = scan[5 : 5 + 2 * count : 2]
            left -= {(kind, place) for kind in kinds for place in range(first, last + 1)}
    return not left


def require_all_pixels(data: bytes) -> None:
    """Decode a JPEG that came without its end marker, and see whether bits were missing.

    libjpeg fills up what is missing and warns of it; Pillow passes the warning over. At an eighth
    of the size, because all bits are read whatever the scale.

    Raises:
        InvalidImage: if the pixels end early, or something else than pixels follows them.
    """
    import simplejpeg  # noqa: PLC0415 few files need it

    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_factor=8)
    except ValueError as error:
        raise damaged(NAME) from error
