"""The one thing that is wanted of an Exif block: how the image stands."""

from __future__ import annotations

import struct

PREFIX = b"Exif\0\0"
ORIENTATION = 0x0112
_SHORT = 3


def orientation(exif: bytes) -> int:
    """The orientation, from 1 (upright) to 8; 1 if none can be found.

    Read here because Pillow parses the whole block for it, which hostile bytes make expensive.
    """
    tiff = exif.removeprefix(PREFIX)
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (directory,) = struct.unpack_from(order + "L", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHLH", tiff, entry)
            if (tag, kind) == (ORIENTATION, _SHORT):
                return int(value)
    except struct.error:
        pass  # Damaged metadata does not make the pixels any worse.
    return 1


def of_orientation(value: int) -> bytes:
    """A block that says nothing but an orientation."""
    return b"II*\0" + struct.pack("<LHHHLHH", 8, 1, ORIENTATION, _SHORT, 1, value, 0)
