"""Kinds of files: how they begin, what their names end in, and which of them are decoded.

All that lists formats (decoders, inputs of `ride score`, class folders, the console, messages)
takes them from here. A format that is to be decoded needs a reader in `serving.images.files` too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from serving.errors import InvalidImage, SettingsError


@dataclass(frozen=True)
class ImageFormat:
    """A format that can be decoded.

    Attributes:
        name: as people and Pillow (whatever the case) call it.
        suffixes: what names of such files end in, in lower case.
        media_type: as HTTP names it.
        signature: matches the first bytes of such a file, and of no other kind.
    """

    name: str
    suffixes: tuple[str, ...]
    media_type: str
    signature: re.Pattern[bytes]

    @property
    def key(self) -> str:
        """What it is called in options."""
        return self.name.lower()


@dataclass(frozen=True)
class OtherKind:
    """A kind of file that is only known by name, to say what was found: 'a HEIC image'."""

    noun: str
    signature: re.Pattern[bytes]


def _begins(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL | re.IGNORECASE)


_AVIF = rb".{4}ftyp(?:avi[fs]|m[is]f1(?:.{4}){1,15}?avi[fs])"
"""The box that it begins with names it, or names no codec and AVIF among others."""

_MARKUP = rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?"

DECODED = (
    ImageFormat(
        "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), "image/jpeg", re.compile(rb"\xff\xd8\xff")
    ),
    ImageFormat("PNG", (".png",), "image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ImageFormat("WebP", (".webp",), "image/webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ImageFormat("AVIF", (".avif",), "image/avif", re.compile(_AVIF, re.DOTALL)),
    ImageFormat("BMP", (".bmp", ".dib"), "image/bmp", re.compile(rb"BM.{4}\0{4}", re.DOTALL)),
    ImageFormat("TIFF", (".tif", ".tiff"), "image/tiff", re.compile(rb"II\*\0|MM\0\*")),
    ImageFormat("GIF", (".gif",), "image/gif", re.compile(rb"GIF8[79]a")),
)

_OTHERS = (
    OtherKind("a HEIC image", _begins(rb".{4}ftyp(?:hei[cxms]|hev[cmsx]|mif1|msf1)")),
    OtherKind("a Canon raw image", _begins(rb".{4}ftypcrx ")),
    OtherKind("an MP4 or QuickTime video", _begins(rb".{4}(?:ftyp|moov|mdat|wide)")),
    OtherKind("a JPEG XL image", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n")),
    OtherKind("a JPEG 2000 image", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    OtherKind("a BigTIFF image", re.compile(rb"II\+\0|MM\0\+")),
    OtherKind("an ICO image", re.compile(rb"\0\0[\x01\x02]\0[^\0]", re.DOTALL)),
    OtherKind("a Photoshop image", re.compile(rb"8BPS")),
    OtherKind("a PNM image", re.compile(rb"P[1-7]\s")),
    OtherKind("a QOI image", re.compile(rb"qoif")),
    OtherKind("an OpenEXR image", re.compile(rb"\x76\x2f\x31\x01")),
    OtherKind("a DICOM file", re.compile(rb".{128}DICM", re.DOTALL)),
    OtherKind("a NumPy array", re.compile(rb"\x93NUMPY")),
    OtherKind("an HDF5 file", re.compile(rb"\x89HDF\r\n\x1a\n")),
    OtherKind("a Parquet file", re.compile(rb"PAR1")),
    OtherKind("a ZIP archive", re.compile(rb"PK\x03\x04")),
    OtherKind("a gzip file", re.compile(rb"\x1f\x8b")),
    OtherKind("a tar archive", re.compile(rb".{257}ustar", re.DOTALL)),
    OtherKind("a WebM or Matroska video", re.compile(rb"\x1a\x45\xdf\xa3")),
    OtherKind("a PDF document", re.compile(rb"\s*%PDF-")),
    OtherKind("a PostScript file", re.compile(rb"%!PS")),
    OtherKind("an SVG image", _begins(_MARKUP + rb"(?:<!DOCTYPE svg[^>]*>\s*)?<svg\b")),
    OtherKind("an HTML page", _begins(_MARKUP + rb"<(?:!DOCTYPE html|html|head|body|script)\b")),
    OtherKind("XML", _begins(rb"(?:\xef\xbb\xbf)?\s*<\?xml")),
    OtherKind("a Git LFS pointer", re.compile(rb"version https://git-lfs")),
    OtherKind("a data URL", re.compile(rb"data:[\w.+-]*/?[\w.+-]*[;,]")),
    OtherKind("JSON", re.compile(rb'\s*(?:\{\s*["}]|\[[\s\d"{\[\]-])')),
    OtherKind("text", re.compile(rb"[\t\n\r\x20-\x7e]+\Z")),
)
"""In this order: what comes first is the more special."""

_LOOKED_AT = 512

BY_DEFAULT = ("jpeg", "png", "webp", "avif")
"""Keys of what is decoded unless it was said otherwise; a browser shows all of them."""

ALL = tuple(each.key for each in DECODED)


def chosen(keys: Sequence[str] = BY_DEFAULT) -> tuple[ImageFormat, ...]:
    """The formats of these keys, in the order of `DECODED`.

    Raises:
        SettingsError: for a key that there is not, or none at all.
    """
    unknown = [key for key in keys if key not in ALL]
    if unknown or not keys:
        raise SettingsError(
            f"formats are some of {', '.join(ALL)}" + (f", not {unknown[0]!r}" if unknown else "")
        )
    return tuple(each for each in DECODED if each.key in keys)


def suffixes(keys: Sequence[str] = BY_DEFAULT) -> tuple[str, ...]:
    """What names of image files end in, in lower case: ('.jpg', ..)."""
    return tuple(suffix for each in chosen(keys) for suffix in each.suffixes)


IMAGE_SUFFIXES = suffixes()
"""Of files that are taken for images where nothing else was said."""


def accepted(keys: Sequence[str] = BY_DEFAULT) -> str:
    """What to send: 'a JPEG, PNG, WebP or AVIF file'."""
    *first, last = [each.name for each in chosen(keys)]
    return f"a {', '.join(first)} or {last} file" if first else f"a {last} file"


def format_of(data: bytes, keys: Sequence[str] = BY_DEFAULT) -> ImageFormat:
    """The format that a file's first bytes claim.

    Raises:
        InvalidImage: if it is none of those of `keys`; it names what was found.
    """
    found = _found(data)
    if isinstance(found, ImageFormat) and found.key in keys:
        return found
    if found is None:
        raise InvalidImage(
            f"the bytes are not an image of an accepted format; send {accepted(keys)}"
        )
    noun = found.noun if isinstance(found, OtherKind) else f"a {found.name} image"
    raise InvalidImage(f"the bytes are {noun}, which is not accepted; send {accepted(keys)}")


def _found(data: bytes) -> ImageFormat | OtherKind | None:
    head = data[:_LOOKED_AT]
    kinds: tuple[ImageFormat | OtherKind, ...] = (*DECODED, *_OTHERS)
    return next((each for each in kinds if each.signature.match(head)), None)
