"""GIF: its first image."""

from __future__ import annotations

import struct

from serving.images.containers.image_file import MAX_BLOCKS, ImageFile, damaged, unusual

NAME = "GIF"

_SCREEN = struct.Struct("<HHBBB")
_IMAGE = struct.Struct("<HHHHB")
_EXTENSION = 0x21
_IMAGE_SEPARATOR = 0x2C
_CONTROL = 0xF9
_TRANSPARENT = 1
_END = b";"


def read_gif(data: bytes) -> ImageFile:
    """Keep the screen, the palettes, what is transparent and the first image.

    The canvas is what Pillow makes of it: large enough for the screen and the image.

    Raises:
        InvalidImage: if there is no image, it does not end, or lies behind absurdly many parts.
        struct.error: where the file ends inside a number.
        IndexError: where it ends elsewhere.
    """
    width, height, flags, _, _ = _SCREEN.unpack_from(data, 6)
    at = screen_end = 13 + _palette(flags)
    control = b""
    for _ in range(MAX_BLOCKS):
        if data[at] == _IMAGE_SEPARATOR:
            break
        if data[at] != _EXTENSION:
            raise damaged(NAME)
        if data[at + 1] == _CONTROL and data[at + 2] == 4:
            # How to go on to the next image is left out, for which Pillow would prepare.
            control = bytes([_EXTENSION, _CONTROL, 4, data[at + 3] & _TRANSPARENT, 0, 0])
            control += data[at + 6 : at + 7] + b"\0"
        at = _blocks_end(data, at + 2)
    else:
        raise unusual(NAME, f"has more than {MAX_BLOCKS} blocks")
    left, top, wide, high, own = _IMAGE.unpack_from(data, at + 1)
    end = _blocks_end(data, at + 11 + _palette(own))
    first = b"".join([data[:screen_end], control, data[at:end], _END])
    return ImageFile(NAME, first, max(width, left + wide), max(height, top + high))


def _palette(flags: int) -> int:
    """How many bytes of palette follow."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks_end(data: bytes, at: int) -> int:
    """Behind the blocks of at most 255 bytes that begin here."""
    for _ in range(4 * MAX_BLOCKS):
        if not data[at]:
            return at + 1
        at += 1 + data[at]
    raise unusual(NAME, f"has more than {4 * MAX_BLOCKS} blocks")
