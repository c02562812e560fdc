"""TIFF: its first image, with the tags that make pixels (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.images.containers import exif
from serving.images.containers.image_file import ImageFile, damaged, unusual

NAME = "TIFF"

_MOST_TAGS = 1000
_MOST_VALUES = 3 << 16
"""Of a tag: a palette of 16 bits, or as many strips."""
_MOST_TILE_PIXELS = 4096 * 4096

_PLANES = 2
_WHOLE_SAMPLES = frozenset({1, 4})
"""Formats of samples: whole numbers without a sign, or what is not said."""

_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIP_OFFSETS, _STRIP_COUNTS, _SAMPLES = 273, 279, 277
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_PHOTOMETRIC, _FILL_ORDER, _ROWS_PER_STRIP, _PLANAR, _PREDICTOR = 262, 266, 278, 284, 317
_COLOUR_MAP, _INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES = 320, 332, 338, 339, 347
_YCC_COEFFICIENTS, _YCC_SUBSAMPLING, _YCC_POSITION, _BLACK_WHITE = 529, 530, 531, 532

_KEPT = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIP_OFFSETS, _STRIP_COUNTS, _SAMPLES, _TILE_WIDTH}
    | {_TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _PHOTOMETRIC, _FILL_ORDER, _ROWS_PER_STRIP}
    | {_PLANAR, _PREDICTOR, _COLOUR_MAP, _INK_SET, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES}
    | {_YCC_COEFFICIENTS, _YCC_SUBSAMPLING, _YCC_POSITION, _BLACK_WHITE}
)
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""None, those of fax machines, LZW, JPEG, Deflate, PackBits, Deflate by its old number."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value, by its type."""

_WHOLE = {1: "B", 3: "H", 4: "L"}
"""The types of whole numbers."""

_NOT_WHOLE = frozenset({_JPEG_TABLES, _YCC_COEFFICIENTS, _BLACK_WHITE})


@dataclass(frozen=True)
class _Tag:
    """An entry of a directory. `raw` is the entry, `place` where its values lie."""

    number: int
    kind: int
    count: int
    raw: bytes
    place: int
    size: int


def read_tiff(data: bytes) -> ImageFile:
    """Give the first image a directory of nothing but the tags that make pixels.

    Without the others and without further images, no tag can make Pillow or libtiff read what is
    large. The strips and tiles must lie in the file, and tiles be of a usual size.

    Raises:
        InvalidImage: if they don't, or it is stored in a way that is not read.
        struct.error, KeyError: where the file ends inside a number, or a number is missing.
    """
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "L", data, 4)
    tags = _tags(data, order, directory)
    kept = [tag for tag in tags if tag.number in _KEPT]
    if sum(tag.size for tag in kept) > len(data):
        raise damaged(NAME)
    values = {tag.number: _values(data, order, tag) for tag in kept}
    _require_usual(values)
    _require_parts(values, len(data))
    entries = b"".join(tag.raw for tag in kept)
    new = struct.pack(order + "H", len(kept)) + entries + bytes(4)
    body = data[8:] + bytes(len(data) % 2)  # directories begin at even places
    head = data[:4] + struct.pack(order + "L", 8 + len(body))
    return ImageFile(
        NAME,
        head + body + new,
        values[_WIDTH][0],
        values[_HEIGHT][0],
        exif.of_orientation(_orientation(tags, data, order)),
        significant=bits if 8 < (bits := values.get(_BITS, (1,))[0]) < 16 else 0,
    )


def _tags(data: bytes, order: str, directory: int) -> list[_Tag]:
    (count,) = struct.unpack_from(order + "H", data, directory)
    if count > _MOST_TAGS:
        raise unusual(NAME, f"has more than {_MOST_TAGS} tags")
    tags: dict[int, _Tag] = {}
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        number, kind, values, offset = struct.unpack_from(order + "HHLL", data, at)
        size = _SIZES.get(kind, 1) * values
        place = at + 8 if size <= 4 else offset
        tags[number] = _Tag(number, kind, values, data[at : at + 12], place, size)
    return [tags[number] for number in sorted(tags)]


def _values(data: bytes, order: str, tag: _Tag) -> Sequence[int]:
    if tag.kind not in _SIZES or not tag.count or tag.place + tag.size > len(data):
        raise damaged(NAME)
    if tag.number in _NOT_WHOLE:
        return ()
    if tag.kind not in _WHOLE or tag.count > _MOST_VALUES:
        raise damaged(NAME)
    values: Sequence[int] = struct.unpack_from(
        f"{order}{tag.count}{_WHOLE[tag.kind]}", data, tag.place
    )
    return values


def _require_usual(values: Mapping[int, Sequence[int]]) -> None:
    if values.get(_COMPRESSION, (1,))[0] not in _COMPRESSIONS:
        raise unusual(NAME, "is compressed in a way that is not read")
    floats = any(each not in _WHOLE_SAMPLES for each in values.get(_SAMPLE_FORMAT, ()))
    if floats or max(values.get(_BITS, (1,))) > 16:
        raise unusual(NAME, "has samples that are not whole numbers of at most 16 bits")
    if max(values.get(_BITS, (1,))) > 8 and values.get(_SAMPLES, (1,))[0] > 1:
        # Pillow keeps the high bytes, which are nearly nothing where fewer bits mean something.
        raise unusual(NAME, "has colours of more than 8 bits a sample: save it as PNG, or with 8")


def _require_parts(values: Mapping[int, Sequence[int]], length: int) -> None:
    """Raise InvalidImage unless there are as many strips or tiles as the size needs.

    Each lies inside the file, and all together are no longer than it, so that they can't be the
    same bytes again and again.
    """
    (width,), (height,) = values[_WIDTH], values[_HEIGHT]
    tiled = _TILE_OFFSETS in values
    if tiled:
        (wide,), (high,) = values[_TILE_WIDTH], values[_TILE_HEIGHT]
        if wide * high > _MOST_TILE_PIXELS:
            raise unusual(NAME, f"has tiles of more than {_MOST_TILE_PIXELS} pixels")
    else:
        wide, high = width, min(values.get(_ROWS_PER_STRIP, (height,))[0], height)
    if not wide or not high or tiled == (_STRIP_OFFSETS in values):
        raise damaged(NAME)
    planes = values.get(_SAMPLES, (1,))[0] if values.get(_PLANAR, (1,))[0] == _PLANES else 1
    parts = -(-width // wide) * -(-height // high) * planes
    offsets = values[_TILE_OFFSETS if tiled else _STRIP_OFFSETS]
    counts = values[_TILE_COUNTS if tiled else _STRIP_COUNTS]
    if not len(offsets) == len(counts) == parts or sum(counts) > length:
        raise damaged(NAME)
    if any(at + count > length for at, count in zip(offsets, counts, strict=True)):
        raise damaged(NAME)


def _orientation(tags: Sequence[_Tag], data: bytes, order: str) -> int:
    for tag in tags:
        if tag.number == exif.ORIENTATION and tag.size >= 2 and tag.place + 2 <= len(data):
            (value,) = struct.unpack_from(order + "H", data, tag.place)
            return int(value)
    return 1
