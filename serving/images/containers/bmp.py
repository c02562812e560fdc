"""BMP: its size, and that it is not compressed."""

from __future__ import annotations

import struct

from serving.images.containers.image_file import ImageFile, damaged, unusual

NAME = "BMP"

_OLD_HEADER = 12
_RUN_LENGTHS = frozenset({1, 2})


def read_bmp(data: bytes) -> ImageFile:
    """Leave the file whole: without compression it has no more pixels than bytes for them.

    Raises:
        InvalidImage: for run lengths, which Pillow unpacks in Python, slowly.
        struct.error: where the file ends inside its header.
    """
    (header,) = struct.unpack_from("<L", data, 14)
    if header == _OLD_HEADER:
        width, height = struct.unpack_from("<HH", data, 18)
        return ImageFile(NAME, data, width, height)
    width, height, _, _, compression = struct.unpack_from("<llHHL", data, 18)
    if compression in _RUN_LENGTHS:
        raise unusual(NAME, "is compressed by run lengths, which are not read")
    if width < 0:
        raise damaged(NAME)
    return ImageFile(NAME, data, width, abs(height))  # below 0 where its rows go down
