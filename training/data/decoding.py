"""Image file -> RGB image; an error names the file."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from serving.errors import RideError
from serving.images.formats import BY_DEFAULT
from serving.images.rgb import MOST_PIXELS, decode_whole
from training.errors import DataError


def decode_image(data: bytes, where: str, formats: Sequence[str] = BY_DEFAULT) -> Image.Image:
    """Decode an image file to RGB, upright, as `serving.images.rgb` says.

    Args:
        data: the file.
        where: names the image in errors.
        formats: keys of those that are accepted (`serving.images.formats`).

    Raises:
        DataError: if the bytes are no such image, damaged or too large.
    """
    try:
        return decode_whole(data, MOST_PIXELS, formats)
    except RideError as error:
        raise DataError(f"{where}: {error}") from error
