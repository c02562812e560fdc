"""A file as it is handed to a decoder, and how a bad one is refused."""

from __future__ import annotations

from dataclasses import dataclass

from serving.errors import InvalidImage

MAX_BLOCKS = 50_000
"""PNG chunks, JPEG segments or the like in one file. A 16 MiB PNG in libpng's 8 KiB chunks has
2,000."""


@dataclass(frozen=True)
class PngRows:
    """The pixels of a PNG: rows that are filtered and compressed as PNG does it.

    Attributes:
        data: of all rows.
        channels: 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha).
        depth: bits a sample, 8 or 16.
        interlaced: whether the rows are those of seven smaller images (Adam7).
    """

    data: bytes
    channels: int
    depth: int
    interlaced: bool = False


@dataclass(frozen=True)
class ImageFile:
    """A file of a known format, cut down to what makes pixels.

    Attributes:
        format: its name.
        data: the file, safe to hand to Pillow once its size is checked; empty where `rows` says it
            all.
        width, height: in pixels, as the header states them, before the orientation is applied.
        exif: the Exif block, empty for none.
        animated: whether more images are known to be in it; of a WebP only Pillow knows.
        significant: how many bits of a colour's sample the file says to mean something; 0 if it
            says nothing.
        rows: of a PNG that needs no more than its rows to be decoded: from here a small image takes
            half the time, and samples of 16 bits are seen whole.
        ended: false for a JPEG without its end marker, whose pixels may not all be there.
    """

    format: str
    data: bytes
    width: int
    height: int
    exif: bytes = b""
    animated: bool = False
    significant: int = 0
    rows: PngRows | None = None
    ended: bool = True


def damaged(format_name: str) -> InvalidImage:
    """The error for a file of a known format that can't be read to its end."""
    return InvalidImage(f"the {format_name} image is damaged or cut short; send the whole file")


def animated(format_name: str) -> InvalidImage:
    """The error for a file of several frames."""
    return InvalidImage(f"the {format_name} image is animated; send a single frame")


def unusual(format_name: str, how: str) -> InvalidImage:
    """The error for a file that is stored in a way that few are and that is not read."""
    return InvalidImage(f"the {format_name} image {how}; save it anew")
