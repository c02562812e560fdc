"""Reads image files without decoding them: format, size, orientation, and what makes the pixels.

All that does not make pixels (text, colour profiles, thumbnails, comments) is cut out before
Pillow sees the file: that is where small files grow large. Of the metadata only the orientation is
used. One format is a module of `serving/images/containers/`, and a line here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from serving.images.containers.avif import read_avif
from serving.images.containers.bmp import read_bmp
from serving.images.containers.gif import read_gif
from serving.images.containers.image_file import ImageFile, damaged
from serving.images.containers.jpeg import read_jpeg
from serving.images.containers.png import read_png
from serving.images.containers.tiff import read_tiff
from serving.images.containers.webp import read_webp
from serving.images.formats import BY_DEFAULT, format_of

_READERS: dict[str, Callable[[bytes], ImageFile]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "WebP": read_webp,
    "AVIF": read_avif,
    "BMP": read_bmp,
    "TIFF": read_tiff,
    "GIF": read_gif,
}


def read_image_file(data: bytes, formats: Sequence[str] = BY_DEFAULT) -> ImageFile:
    """Read a file's structure and cut out its metadata.

    Args:
        data: the file.
        formats: keys of those that are accepted.

    Raises:
        InvalidImage: for another format, a file cut short or of absurdly many parts.
    """
    name = format_of(data, formats).name
    try:
        return _READERS[name](data)
    except (struct.error, LookupError) as error:  # the file ends where a number should be
        raise damaged(name) from error
