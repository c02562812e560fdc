"""AVIF: how many pixels are really decoded for it, without its metadata.

libavif trusts the size that a file's boxes state until it has decoded the frames, whose own size
may be a thousand times as large; so the frames' headers are read here (AV1 specification 5.5, ISO
14496-12 and 23008-12 for the boxes).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from serving.images.containers.image_file import MAX_BLOCKS, ImageFile, animated, damaged, unusual

NAME = "AVIF"

_MOST_FRAMES = 4
"""Of an item; more than one where it gets better as it is loaded."""

_MOST_NUMBERS = 4 * MAX_BLOCKS
"""In one box."""

_SPARE_PIXELS = 2**20
_MOST_TIMES = 3
"""Pixels decoded over pixels shown: transparency, other renditions, tiles cut off at the edge."""

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_METADATA = frozenset({b"Exif", b"mime"})
_NOTHING = b"free"


@dataclass
class _Items:
    """What the box `meta` says of the file's items, by their ids."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    kind_places: dict[int, int] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    properties: dict[int, list[int]] = field(default_factory=dict)


def read_avif(data: bytes) -> ImageFile:
    """Read how large the image is, and make its metadata into nothing.

    Raises:
        InvalidImage: if it is cut short or animated, or its frames are far larger than the image.
        struct.error: where the file ends inside a number.
    """
    items = _read_meta(data, *_meta_of_an_image(data))
    sizes = [items.sizes[place - 1] for place in items.properties.get(items.primary, ()) if place]
    width, height = next((size for size in sizes if size), (0, 0))
    if _decoded_pixels(data, items) > _MOST_TIMES * width * height + _SPARE_PIXELS:
        raise damaged(NAME)
    cut = bytearray(data)
    for item, kind in items.kinds.items():
        if kind in _METADATA:
            place = items.kind_places[item]
            cut[place : place + 4] = _NOTHING
    return ImageFile(NAME, bytes(cut), width, height)


def _meta_of_an_image(data: bytes) -> tuple[int, int]:
    """Start and end of the box with all that is said of a still image's items."""
    brand = data[8:12]
    found: dict[bytes, tuple[int, int]] = {}
    for kind, start, end in _boxes(data, 0, len(data)):
        found[kind] = (start, end)
        if kind == b"meta" and brand == b"avif":
            break  # what follows is the pixels, or does not matter
    if brand == b"avis" or (b"moov" in found and brand != b"avif"):
        raise animated(NAME)
    if b"meta" not in found:
        raise damaged(NAME)
    return found[b"meta"]


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of the content of each box."""
    for _ in range(MAX_BLOCKS):
        if at == end:
            return
        size, kind = struct.unpack_from(">L4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        to = end if size == 0 else at + size
        if not start <= to <= end:
            raise damaged(NAME)
        yield kind, start, to
        at = to
    raise unusual(NAME, f"has more than {MAX_BLOCKS} boxes")


def _read_meta(data: bytes, start: int, end: int) -> _Items:
    items = _Items()
    for kind, at, to in _boxes(data, start + 4, end):
        if kind == b"pitm":
            (items.primary,) = struct.unpack_from(">L" if data[at] else ">H", data, at + 4)
        elif kind == b"iinf":
            _read_kinds(data, at, to, items)
        elif kind == b"iloc":
            _read_extents(_Numbers(data, at), items)
        elif kind == b"iprp":
            _read_properties(data, at, to, items)
    return items


def _read_kinds(data: bytes, at: int, to: int, items: _Items) -> None:
    for kind, start, _ in _boxes(data, at + (8 if data[at] else 6), to):
        if kind != b"infe" or data[start] < 2:
            raise damaged(NAME)
        wide = data[start] > 2
        (item,) = struct.unpack_from(">L" if wide else ">H", data, start + 4)
        place = start + (10 if wide else 8)
        if item in items.kinds:
            raise damaged(NAME)
        items.kinds[item] = data[place : place + 4]
        items.kind_places[item] = place


class _Numbers:
    """Reads whole numbers of some bytes, one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._left = _MOST_NUMBERS

    def next(self, size: int) -> int:
        start, self._at = self._at, self._at + size
        self._left -= 1
        if self._at > len(self._data) or not self._left:
            raise damaged(NAME)
        return int.from_bytes(self._data[start : self._at])


def _read_extents(numbers: _Numbers, items: _Items) -> None:
    version = numbers.next(4) >> 24
    sizes, more = numbers.next(1), numbers.next(1)
    wide = 4 if version == 2 else 2
    for _ in range(numbers.next(wide)):
        item = numbers.next(wide)
        method = numbers.next(2) if version else 0
        numbers.next(2)  # the file that it lies in
        base = numbers.next(more >> 4)
        extents = []
        for _ in range(numbers.next(2)):
            numbers.next(more & 15 if version else 0)
            offset, length = numbers.next(sizes >> 4), numbers.next(sizes & 15)
            extents.append((base + offset, length))
        if item in items.extents:
            raise damaged(NAME)
        if method == 0:
            items.extents[item] = extents


def _read_properties(data: bytes, start: int, end: int, items: _Items) -> None:
    for kind, at, to in _boxes(data, start, end):
        if kind == b"ipco":
            for name, place, _ in _boxes(data, at, to):
                size = struct.unpack_from(">LL", data, place + 4) if name == b"ispe" else None
                items.sizes.append(size)
        elif kind == b"ipma":
            _read_associations(_Numbers(data, at), items)


def _read_associations(numbers: _Numbers, items: _Items) -> None:
    head = numbers.next(4)
    wide_item, wide_place = head >> 24, head & 1
    for _ in range(numbers.next(4)):
        item = numbers.next(4 if wide_item else 2)
        mask = 0x7FFF if wide_place else 0x7F
        places = [numbers.next(2 if wide_place else 1) & mask for _ in range(numbers.next(1))]
        items.properties.setdefault(item, []).extend(places)


def _decoded_pixels(data: bytes, items: _Items) -> int:
    """Width times height of all coded items, as their own frames state it."""
    coded = [item for item, kind in items.kinds.items() if kind == b"av01"]
    extents = [each for item in items.extents for each in items.extents[item]]
    if sum(length for _, length in extents) > len(data):
        raise damaged(NAME)
    if any(offset + length > len(data) for offset, length in extents):
        raise damaged(NAME)
    return sum(_pixels_of(data, items.extents.get(item, [])) for item in coded)


def _pixels_of(data: bytes, extents: list[tuple[int, int]]) -> int:
    stream = b"".join(data[offset : offset + length] for offset, length in extents)
    frames, largest = 0, 0
    for kind, start in _units(stream):
        frames += kind in (_FRAME_HEADER, _FRAME)
        if kind == _SEQUENCE_HEADER:
            largest = max(largest, _size_of(_Bits(stream, start)))
    if not largest or not frames:
        raise damaged(NAME)
    if frames > _MOST_FRAMES:
        raise unusual(NAME, f"has more than {_MOST_FRAMES} frames")
    return largest


def _units(stream: bytes) -> Iterator[tuple[int, int]]:
    """Yield (kind, start of the content) of each open bitstream unit (5.3.1)."""
    numbers, at = _Numbers(stream, 0), 0
    for _ in range(MAX_BLOCKS):
        if at >= len(stream):
            return
        numbers = _Numbers(stream, at)
        head = numbers.next(1)
        at += 1
        if head & 4:  # an extension
            numbers.next(1)
            at += 1
        size = len(stream) - at
        if head & 2:
            size, taken = _leb128(numbers)
            at += taken
        yield head >> 3 & 15, at
        at += size
    raise unusual(NAME, f"has more than {MAX_BLOCKS} units")


def _leb128(numbers: _Numbers) -> tuple[int, int]:
    value = 0
    for place in range(8):
        byte = numbers.next(1)
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, place + 1
    raise damaged(NAME)


class _Bits:
    """Reads whole numbers of some bits, one after the other."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data[at : at + 512]
        self._at = 0

    def next(self, count: int) -> int:
        value = 0
        for at in range(self._at, self._at + count):
            if at >> 3 >= len(self._data):
                raise damaged(NAME)
            value = value << 1 | self._data[at >> 3] >> 7 - (at & 7) & 1
        self._at += count
        return value


def _size_of(bits: _Bits) -> int:
    """The most pixels that a frame may have, by the sequence's header (5.5.1)."""
    bits.next(4)  # the profile, and whether it is a still picture
    if bits.next(1):  # a reduced header
        bits.next(5)
    else:
        if bits.next(1):
            raise unusual(NAME, "has the timing of a film")
        delays = bits.next(1)
        for _ in range(bits.next(5) + 1):
            bits.next(12)
            if bits.next(5) > 7:
                bits.next(1)
            if delays and bits.next(1):
                bits.next(4)
    wide, high = bits.next(4) + 1, bits.next(4) + 1
    return (bits.next(wide) + 1) * (bits.next(high) + 1)
