"""Files read whole, by those who own them; the server's own way is tested in test_decode.py."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from serving.errors import ImageTooLarge, InvalidImage
from serving.images.rgb import MOST_PIXELS, decode_whole


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(file, kind, **options)
    return file.getvalue()


def test_the_limit_is_the_callers() -> None:
    assert decode_whole(saved("PNG"), max_pixels=48).size == (8, 6)
    with pytest.raises(ImageTooLarge, match="8 x 6 pixels and at most 47"):
        decode_whole(saved("PNG"), max_pixels=47)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    more = [Image.new("RGB", (8, 6), "blue")]
    animation = saved(kind, save_all=True, append_images=more, lossless=True)
    first = np.asarray(decode_whole(animation, MOST_PIXELS))
    assert (first == (255, 0, 0)).all()


def test_other_formats_are_refused() -> None:
    with pytest.raises(
        InvalidImage, match="a GIF image, which is not accepted; send a JPEG, PNG, "
    ):
        decode_whole(saved("GIF"), MOST_PIXELS)
