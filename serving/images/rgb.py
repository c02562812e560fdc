"""Image files -> upright RGB images: what serving and training have in common.

How large an image may be, which way up it stands, and what becomes of transparency, greyscale,
palettes, CMYK and 16-bit samples.
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps

from serving.errors import ImageTooLarge, InvalidImage, RideError
from serving.images.files import ACCEPTED_FORMATS, FORMAT_NAMES, orientation

MOST_PIXELS = 89_478_485
"""From here on Pillow takes every image for an attack."""

MAX_ASPECT_RATIO = 50
"""The longer side over the shorter: what bounds an image whose shorter side has been resized."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_whole(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a file as Pillow finds it, at its full size, for those who own their files.

    Laxer than `serving.images.decode`, to whom every file is hostile: metadata is read, wherever
    in the file it says how the image stands, and of an animation the first frame is taken.

    Raises:
        ImageTooLarge, InvalidImage: if the bytes are no image, damaged, too large or too long.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS)
        check_size(image.size, max_pixels)
        image.load()
        # An Exif block that makes no sense is no reason to lose the image.
        with suppress(OSError, SyntaxError, ValueError, struct.error):
            ImageOps.exif_transpose(image, in_place=True)
        return to_rgb(image)
    except RideError:
        raise
    except Exception as error:
        # Damaged bytes make Pillow raise nearly anything.
        raise InvalidImage(f"not a readable {FORMAT_NAMES} image") from error


def check_size(size: tuple[int, int], max_pixels: int, max_ratio: int = MAX_ASPECT_RATIO) -> None:
    """Look at the width and height of a file's header, before anything is allocated for pixels.

    Raises:
        ImageTooLarge: for more pixels in all.
        InvalidImage: for sides further apart.
    """
    short, long = sorted(size)
    pixels = f"{size[0]} x {size[1]} pixels"
    if short * long > max_pixels:
        raise ImageTooLarge(
            f"the image has {pixels} and at most {max_pixels} in all are accepted; scale it down"
        )
    if long > max_ratio * short:
        raise InvalidImage(
            f"the image has {pixels} and its longer side may be at most {max_ratio} times its "
            "shorter; crop it"
        )


def upright(image: Image.Image, exif: bytes) -> Image.Image:
    """Turn an image as its Exif block says, if it has one."""
    turn = _TURNS.get(orientation(exif)) if exif else None
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """Composite transparency over white, keep the high byte of 16 bits, turn other modes to RGB."""
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(rgba, mask=rgba)
        return canvas
    if image.mode == "I;16":
        # Pillow clips here; the high byte is what it keeps of 16-bit colour.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
