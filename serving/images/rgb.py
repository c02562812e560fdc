"""Image files -> upright RGB images: what serving and training have in common.

How large an image may be, which way up it stands, and what becomes of transparency, greyscale,
palettes, CMYK and 16-bit samples.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import AvifImagePlugin, Image, features

from serving.errors import ImageTooLarge, InvalidImage, RideError
from serving.images.containers.exif import orientation
from serving.images.containers.image_file import ImageFile, damaged
from serving.images.containers.jpeg import require_all_pixels
from serving.images.files import read_image_file
from serving.images.formats import BY_DEFAULT, accepted, format_of
from serving.images.samples import decode_rows, narrowed

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


def decode_whole(data: bytes, max_pixels: int, formats: Sequence[str] = BY_DEFAULT) -> Image.Image:
    """Decode a file at its full size; of an animation, the first frame.

    Args:
        data: the file.
        max_pixels: width times height.
        formats: keys of those that are accepted (`serving.images.formats`).

    Raises:
        ImageTooLarge, InvalidImage: if the bytes are no image, damaged, too large or too long.
    """
    if not data:
        raise InvalidImage(f"the image is empty; send {accepted(formats)}")
    try:
        file = read_image_file(data, formats)
        check_size((file.width, file.height), max_pixels)
        return whole(file)
    except RideError:
        raise
    except Exception as error:
        # Hostile bytes make Pillow raise nearly anything; to the client it is all the same.
        raise damaged(format_of(data, formats).name) from error


def whole(file: ImageFile) -> Image.Image:
    """A file whose size was checked, decoded at its full size: RGB, upright."""
    if file.rows:
        image = to_rgb(decode_rows(file.rows, (file.width, file.height), file.significant))
        return upright(image, file.exif)
    image = opened(file)
    image.load()
    return upright(to_rgb(image, file.significant), exif_of(file, image))


def opened(file: ImageFile) -> Image.Image:
    """A file as Pillow opens it, its pixels not yet decoded.

    Raises:
        InvalidImage: if Pillow sees another size, or pixels are missing.
    """
    if not file.ended:
        require_all_pixels(file.data)
    if file.format == "AVIF":
        if not features.check("avif"):
            raise InvalidImage("AVIF can't be decoded by the Pillow that is installed here")
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # many images are decoded side by side
    image = Image.open(io.BytesIO(file.data), formats=(file.format,))
    if image.size != (file.width, file.height):
        raise damaged(file.format)
    return image


def exif_of(file: ImageFile, image: Image.Image) -> bytes:
    """The Exif block; in WebP and AVIF it is Pillow that finds it, elsewhere it is cut out."""
    return file.exif or image.info.get("exif", b"")


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


def to_rgb(image: Image.Image, significant: int = 0) -> Image.Image:
    """Composite transparency over white, keep 8 of 16 bits, turn other modes to RGB.

    `significant` is how many bits the file says to mean something; 0 if it says nothing.
    """
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(rgba, mask=rgba)
        return canvas
    if image.mode.startswith("I;16"):  # Pillow would clip
        image = narrowed(image, significant)
    return image if image.mode == "RGB" else image.convert("RGB")
