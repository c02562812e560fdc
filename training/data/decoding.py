"""Image file -> RGB image, bounded. The rules are those of the server, so that both see the same.

Data folders are hostile until shown otherwise. The size is read from the file's header and checked
before anything is allocated for pixels.
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps

from training.errors import DataError

MAX_PIXELS = 89_478_485
"""From here on Pillow takes every image for an attack."""

MAX_ASPECT_RATIO = 50
"""The longer side over the shorter: bounds the image whose shorter side has been enlarged."""

_FORMATS = ("JPEG", "PNG", "WEBP")


def decode_image(data: bytes, where: str) -> Image.Image:
    """Decode a JPEG, PNG or WebP image to RGB and turn it upright as its Exif data says.

    Transparency is composited over white, samples of 16 bits keep their high byte.

    Raises:
        DataError: if the bytes are no such image, damaged or too large; `where` names the image.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _check_size(image, where)
        image.load()
        _turn_upright(image)
        return _rgb(image)
    except DataError:
        raise
    except Exception as error:
        # Damaged bytes make Pillow raise nearly anything.
        raise DataError(f"{where}: not a readable JPEG, PNG or WebP image") from error


def _check_size(image: Image.Image, where: str) -> None:
    short, long = sorted(image.size)
    if short * long > MAX_PIXELS or long > MAX_ASPECT_RATIO * short:
        raise DataError(
            f"{where}: the image has {image.width} x {image.height} pixels; at most {MAX_PIXELS} "
            f"are read, with sides of at most {MAX_ASPECT_RATIO} to 1"
        )


def _turn_upright(image: Image.Image) -> None:
    # An Exif block that makes no sense is no reason to lose the image.
    with suppress(OSError, SyntaxError, ValueError, struct.error):
        ImageOps.exif_transpose(image, in_place=True)


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(rgba, mask=rgba)
        return canvas
    if image.mode == "I;16":
        # Pillow clips here; the high byte is what it keeps of 16-bit colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
