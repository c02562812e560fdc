"""Image file -> RGB image; an error names the file."""

from __future__ import annotations

from PIL import Image

from serving.errors import RideError
from serving.images.rgb import MOST_PIXELS, decode_whole
from training.errors import DataError


def decode_image(data: bytes, where: str) -> Image.Image:
    """Decode a JPEG, PNG or WebP image to RGB, upright, as `serving.images.rgb` says.

    Raises:
        DataError: if the bytes are no such image, damaged or too large; `where` names the image.
    """
    try:
        return decode_whole(data, max_pixels=MOST_PIXELS)
    except RideError as error:
        raise DataError(f"{where}: {error}") from error
